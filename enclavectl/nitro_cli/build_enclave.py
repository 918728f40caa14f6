"""The commands of nitro-cli that are about files and no enclaves, and what they answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from enclavectl.errors import UsageError
from enclavectl.nitro_cli.answers import REGISTER, Registers
from enclavectl.nitro_cli.fields import read_flag, read_optional_object, read_optional_text, read_whole
from enclavectl.nitro_cli.stream import AnswerError


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeEif:
    """``nitro-cli describe-eif``."""

    eif: Path

    def to_argv(self) -> list[str]:
        """The words after the program's name."""
        return ["describe-eif", "--eif-path", str(self.eif)]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class EifInfo:
    """The answer of ``describe-eif``. A wrong CRC or signature is a field, not an exit status."""

    version: int
    registers: Registers
    is_signed: bool
    crc_ok: bool
    signature_ok: bool | None = None
    image_name: str | None = None
    image_version: str | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> Self:
        """The answer in one JSON object.

        Raises:
            AnswerError: a key is missing or has another type.
        """
        measurements = read_optional_object(value, "Measurements")
        if measurements is None:
            raise AnswerError("Measurements: expected an object, found nothing")
        return cls(
            version=read_whole(value, "EifVersion"),
            registers=Registers.from_json(measurements),
            is_signed=read_flag(value, "IsSigned"),
            crc_ok=read_flag(value, "CheckCRC"),
            signature_ok=read_flag(value, "SignatureCheck") if "SignatureCheck" in value else None,
            image_name=read_optional_text(value, "ImageName"),
            image_version=read_optional_text(value, "ImageVersion"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildInfo:
    """The answer of ``build-enclave`` and ``sign-eif``. Without PCR8 the image is not signed."""

    registers: Registers

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> Self:
        """The answer in one JSON object.

        Raises:
            AnswerError: there are no measurements, or they are none.
        """
        measurements = read_optional_object(value, "Measurements")
        if measurements is None:
            raise AnswerError("Measurements: expected an object, found nothing")
        return cls(registers=Registers.from_json(measurements))


@dataclass(frozen=True, slots=True, kw_only=True)
class PcrInfo:
    """The answer of ``pcr``: of a file, or PCR8 of a certificate."""

    value: str

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> Self:
        """The answer in one JSON object.

        Raises:
            AnswerError: it has no register.
        """
        text = value.get("PCR8", value.get("PCR"))
        if not isinstance(text, str) or not REGISTER.fullmatch(text.lower()):
            raise AnswerError(f"PCR: expected 96 hex digits, found {text!r:.60}")
        return cls(value=text.lower())
