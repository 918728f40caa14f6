"""The settings of what runs enclaves: Nitro hosts, QEMU, and processes of this machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from enclavectl.config.choices import Accelerator
from enclavectl.config.setting import OPTIONAL_PATH, one_of, setting, whole


@dataclass(frozen=True, slots=True, kw_only=True)
class NitroConfig:
    """For hosts that simulate Nitro, such as the project's tests; null on others, except GovCloud's root."""

    vsock_dir: Path | None = field(
        metadata=setting(
            OPTIONAL_PATH,
            None,
            "Folder of the sockets CID.vsock and host.vsock_PORT (hybrid vsock) in place of AF_VSOCK.",
        )
    )
    root: Path | None = field(
        metadata=setting(
            OPTIONAL_PATH,
            None,
            "Root (PEM) in place of AWS's commercial one: GovCloud's, or a development root (simulated).",
        )
    )
    host_root: Path | None = field(
        metadata=setting(
            OPTIONAL_PATH,
            None,
            "Folder of the host's /sys and /proc: the CPUs and the huge pages that are kept for enclaves.",
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class QemuConfig:
    """The emulator of the backend qemu."""

    program: Path | None = field(
        metadata=setting(
            OPTIONAL_PATH, None, "QEMU to use; null for the one on the PATH, or else of `make qemu`."
        )
    )
    accelerator: Accelerator = field(
        metadata=setting(
            one_of(Accelerator),
            Accelerator.AUTO,
            "What runs the instructions; auto is kvm if a probe shows that it works and is fast, else tcg.",
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalConfig:
    """The limits of the backend local, a process on this machine."""

    memory_mib: int = field(
        metadata=setting(whole(256, 2**24), 4096, "Address space of the local enclave in MiB.")
    )
    workers: int = field(
        metadata=setting(whole(1, 64), 2, "Pictures that the local enclave classifies at the same time.")
    )
