"""Every nitro-cli command that we use, as a value. ``to_argv`` is the command line after the program's name.

https://github.com/aws/aws-nitro-enclaves-cli/blob/v1.5.0/src/lib.rs has the flags. Memory is a bare integer:
suffixes came with 1.2.3. ``--cpu-ids`` takes every word up to the next flag, so one always follows it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from enclavectl.errors import UsageError

# Taken: 0 hypervisor, 1 local, 2 host, 3 parent, 2**32 - 1 any (linux/vm_sockets.h, vsock(7)).
FIRST_CID = 4
LAST_CID = 2**32 - 2
PARENT_CID = 3
# The driver's least: ne_misc_dev.c, NE_MIN_ENCLAVE_MEM_SIZE_MB.
MIN_MEMORY_MIB = 64
# ENCLAVE_MEMORY_EIF_SIZE_RATIO, resource_manager.rs: the image is there three times while it boots.
MEMORY_PER_IMAGE = 4


class NitroCommand(Protocol):
    """A command line of nitro-cli."""

    def to_argv(self) -> list[str]:
        """The words after the program's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnclave:
    """``nitro-cli run-enclave``. One of ``cpu_count`` and ``cpu_ids``; ``cid`` None lets the driver choose.

    Raises:
        UsageError: what nitro-cli or the driver would refuse late and in worse words.
    """

    eif: Path
    memory_mib: int
    name: str
    cpu_count: int | None = None
    cpu_ids: tuple[int, ...] = ()
    cid: int | None = None
    debug: bool = False

    def __post_init__(self) -> None:
        """Hold the rule above."""
        if (self.cpu_count is None) == (not self.cpu_ids):
            raise UsageError("run-enclave: expected a number of CPUs or their ids, found both or neither")
        if self.cpu_count is not None and self.cpu_count < 1:
            raise UsageError(f"run-enclave: expected at least one CPU, found {self.cpu_count}")
        if len(set(self.cpu_ids)) != len(self.cpu_ids) or any(one < 0 for one in self.cpu_ids):
            raise UsageError(f"run-enclave: expected CPU ids that differ, found {list(self.cpu_ids)}")
        if self.memory_mib < MIN_MEMORY_MIB:
            raise UsageError(
                f"run-enclave: expected at least {MIN_MEMORY_MIB} MiB, found {self.memory_mib}",
                hint="enclavectl plan computes what an image needs",
            )
        if self.cid is not None:
            check_cid(self.cid)

    def to_argv(self) -> list[str]:
        """The words after the program's name."""
        cpus = (
            ["--cpu-ids", *map(str, self.cpu_ids)] if self.cpu_ids else ["--cpu-count", str(self.cpu_count)]
        )
        return [
            "run-enclave",
            *cpus,
            "--memory",
            str(self.memory_mib),
            "--eif-path",
            str(self.eif),
            "--enclave-name",
            self.name,
            *(["--enclave-cid", str(self.cid)] if self.cid is not None else []),
            *(["--debug-mode"] if self.debug else []),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminateEnclave:
    """``nitro-cli terminate-enclave`` of one enclave. By id: names need not be unique."""

    enclave_id: str

    def to_argv(self) -> list[str]:
        """The words after the program's name."""
        return ["terminate-enclave", "--enclave-id", self.enclave_id]


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminateAll:
    """``nitro-cli terminate-enclave --all``, which also deletes every dead file in its sockets folder."""

    def to_argv(self) -> list[str]:
        """The words after the program's name."""
        return ["terminate-enclave", "--all"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeEnclaves:
    """``nitro-cli describe-enclaves``; ``metadata`` exists from 1.2.0 on."""

    metadata: bool = False

    def to_argv(self) -> list[str]:
        """The words after the program's name."""
        return ["describe-enclaves", *(["--metadata"] if self.metadata else [])]


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeEif:
    """``nitro-cli describe-eif``."""

    eif: Path

    def to_argv(self) -> list[str]:
        """The words after the program's name."""
        return ["describe-eif", "--eif-path", str(self.eif)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """``nitro-cli console``: the console of a debug-mode enclave, until the enclave ends."""

    enclave_id: str

    def to_argv(self) -> list[str]:
        """The words after the program's name."""
        return ["console", "--enclave-id", self.enclave_id]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pcr:
    """``nitro-cli pcr``: of a file, or PCR8 of a certificate. Exactly one is given.

    Raises:
        UsageError: both or neither.
    """

    file: Path | None = None
    certificate: Path | None = None

    def __post_init__(self) -> None:
        """Hold the rule above."""
        if (self.file is None) == (self.certificate is None):
            raise UsageError("pcr: expected a file or a certificate, found both or neither")

    def to_argv(self) -> list[str]:
        """The words after the program's name."""
        if self.file is not None:
            return ["pcr", "--input", str(self.file)]
        return ["pcr", "--signing-certificate", str(self.certificate)]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignEif:
    """``nitro-cli sign-eif``, which rewrites the file in place; ``key`` is a path or the ARN of a KMS key."""

    eif: Path
    key: str
    certificate: Path

    def to_argv(self) -> list[str]:
        """The words after the program's name."""
        return [
            "sign-eif",
            "--eif-path",
            str(self.eif),
            "--private-key",
            self.key,
            "--signing-certificate",
            str(self.certificate),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildEnclave:
    """``nitro-cli build-enclave`` of a Docker image that is there; ``key`` as for ``SignEif``."""

    image: str
    output: Path
    key: str | None = None
    certificate: Path | None = None

    def to_argv(self) -> list[str]:
        """The words after the program's name."""
        argv = ["build-enclave", "--docker-uri", self.image, "--output-file", str(self.output)]
        if self.key is not None and self.certificate is not None:
            argv += ["--private-key", self.key, "--signing-certificate", str(self.certificate)]
        return argv


def check_cid(cid: int) -> None:
    """Return if an enclave may have this context id.

    Raises:
        UsageError: it is reserved or no context id.
    """
    if not FIRST_CID <= cid <= LAST_CID:
        taken = {0: "the hypervisor", 1: "the machine itself", 2: "the host", PARENT_CID: "the parent"}
        whose = taken.get(cid, "nobody: too large")
        raise UsageError(
            f"CID: expected {FIRST_CID} to {LAST_CID}, found {cid} (reserved for {whose})",
            hint="leave --cid out and the driver chooses one",
        )


def minimum_memory_mib(image_bytes: int) -> int:
    """The least memory, in MiB, with which nitro-cli starts an image of this size."""
    kib = -(-image_bytes // 1024)
    return max(MIN_MEMORY_MIB, MEMORY_PER_IMAGE * -(-kib // 1024))


def boot_bound_s(image_bytes: int, memory_mib: int) -> int:
    """How long nitro-cli waits for the enclave's first sign of life: 90 s per 6 GiB and per 100 GiB.

    resource_manager.rs, ``poll_timeout``; at least 180 s, and nothing can change it.
    """
    return 90 * (1 + max(image_bytes - 1, 0) // (6 << 30)) + 90 * (1 + max(memory_mib - 1, 0) // (100 << 10))
