"""The nitro-cli commands that we use, as values. ``to_argv`` returns the arguments after the program's name.

https://github.com/aws/aws-nitro-enclaves-cli/blob/v1.5.0/src/lib.rs has the flags. Memory is a bare
integer, since only 1.2.3 and later accept suffixes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from enclavectl.errors import UsageError
from enclavectl.nitro_cli.limits import MIN_MEMORY_MIB, check_cid


class NitroCommand(Protocol):
    """A command line of nitro-cli."""

    def to_argv(self) -> list[str]:
        """Return the arguments after the program's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnclave:
    """``nitro-cli run-enclave``; ``cid`` None lets the driver choose.

    Raises:
        UsageError: nitro-cli or the driver would refuse the values, later and with a worse message.
    """

    eif: Path
    memory_mib: int
    name: str
    cpu_count: int
    cid: int | None = None
    debug: bool = False

    def __post_init__(self) -> None:
        """Check the rule above."""
        if self.cpu_count < 1:
            raise UsageError(f"run-enclave: expected at least one CPU, found {self.cpu_count}")
        if self.memory_mib < MIN_MEMORY_MIB:
            raise UsageError(
                f"run-enclave: expected at least {MIN_MEMORY_MIB} MiB, found {self.memory_mib}",
                hint="enclavectl plan computes what an image needs",
            )
        if self.cid is not None:
            check_cid(self.cid)

    def to_argv(self) -> list[str]:
        """Return the arguments after the program's name."""
        return [
            "run-enclave",
            "--cpu-count",
            str(self.cpu_count),
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
class Console:
    """``nitro-cli console``: the console of a debug-mode enclave, until the enclave ends."""

    enclave_id: str

    def to_argv(self) -> list[str]:
        """Return the arguments after the program's name."""
        return ["console", "--enclave-id", self.enclave_id]
