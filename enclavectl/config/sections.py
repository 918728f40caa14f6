"""The sections of the configuration but the gateway: one field a setting, in the order of the file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from enclavectl.config.choices import Accelerator
from enclavectl.config.setting import OPTIONAL_PATH, one_of, optional, setting, whole

# 2**32 - 1 means "any", for a CID and for a port; CIDs up to 3 are taken (vsock(7), linux/vm_sockets.h).
_MAX_VSOCK = 2**32 - 2


@dataclass(frozen=True, slots=True, kw_only=True)
class DiagnoseConfig:
    """The answers and the timeouts of ``diagnose``."""

    top: int = setting(whole(1, 64), 3, "How many labels to print for a picture, the most probable first.")
    timeout_s: int = setting(
        whole(1, 3600), 30, "Seconds that one picture may take before it counts as failed."
    )
    in_flight: int = setting(whole(1, 16), 8, "How many pictures of a batch may be on their way at once.")


@dataclass(frozen=True, slots=True, kw_only=True)
class EnclaveConfig:
    """The virtual machine of the backends nitro and qemu."""

    eif: Path | None = setting(
        OPTIONAL_PATH, None, "Image to run; null for enclave.eif in the current folder."
    )
    memory_mib: int = setting(whole(64, 2**24), 8192, "Memory of the enclave in MiB.")
    cpus: int = setting(whole(1, 1024), 4, "Virtual CPUs of the enclave.")
    cid: int | None = setting(
        optional(whole(4, _MAX_VSOCK)),
        None,
        "Context id (CID), the enclave's address on vsock, such as 16; null lets the driver choose.",
    )
    port_in: int = setting(whole(1, _MAX_VSOCK), 5005, "Port on which the enclave takes pictures.")
    port_out: int = setting(whole(1, _MAX_VSOCK), 5006, "Port on which the parent takes answers.")


@dataclass(frozen=True, slots=True, kw_only=True)
class NitroConfig:
    """For hosts that simulate Nitro, such as the project's tests; null on others, except GovCloud's root."""

    vsock_dir: Path | None = setting(
        OPTIONAL_PATH,
        None,
        "Folder of the sockets CID.vsock and host.vsock_PORT (hybrid vsock) in place of AF_VSOCK.",
    )
    root: Path | None = setting(
        OPTIONAL_PATH,
        None,
        "Root (PEM) in place of AWS's commercial one: GovCloud's, or a development root (simulated).",
    )
    host_root: Path | None = setting(
        OPTIONAL_PATH,
        None,
        "Folder of the host's /sys and /proc: the CPUs and the huge pages that are kept for enclaves.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class QemuConfig:
    """The emulator of the backend qemu."""

    program: Path | None = setting(
        OPTIONAL_PATH, None, "QEMU to use; null for the one on the PATH, or else of `make qemu`."
    )
    accelerator: Accelerator = setting(
        one_of(Accelerator),
        Accelerator.AUTO,
        "What runs the instructions; auto is kvm if a probe shows that it works and is fast, else tcg.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalConfig:
    """The limits of the backend local, a process on this machine."""

    memory_mib: int = setting(whole(256, 2**24), 4096, "Address space of the local enclave in MiB.")
    # As an enclave of two CPUs has in the image (enclave_payload.limits.decoder_count).
    workers: int = setting(whole(1, 64), 3, "Pictures that the local enclave classifies at the same time.")
