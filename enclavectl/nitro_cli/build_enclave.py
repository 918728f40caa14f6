"""``nitro-cli build-enclave``: the command and its answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from enclavectl.json_object import JsonObject
from enclavectl.nitro_cli.answers import Registers


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildEnclave:
    """``nitro-cli build-enclave`` of a local Docker image.

    ``key`` is a path or the ARN of a KMS key; with it and ``certificate`` the image is signed.
    """

    image: str
    output: Path
    key: str | None = None
    certificate: Path | None = None

    def to_argv(self) -> list[str]:
        """Return the arguments after the program's name."""
        argv = ["build-enclave", "--docker-uri", self.image, "--output-file", str(self.output)]
        if self.key is not None and self.certificate is not None:
            argv += ["--private-key", self.key, "--signing-certificate", str(self.certificate)]
        return argv


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildInfo:
    """The answer of ``build-enclave``. Without PCR8 the image is not signed."""

    registers: Registers

    @classmethod
    def from_json(cls, value: JsonObject) -> Self:
        """Read the answer.

        Raises:
            JsonError: the measurements are missing or malformed.
        """
        return cls(registers=Registers.from_json(value.object("Measurements")))
