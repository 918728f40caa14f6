"""What nitro-cli answers, as values. Unknown keys are let pass, absent optional ones are None.

https://github.com/aws/aws-nitro-enclaves-cli/blob/v1.5.0/src/common/json_output.rs has the keys. The
measurements in these answers are computed by the parent from a file: they are **not** evidence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from enclavectl.nitro_cli.stream import AnswerError

_PCR = re.compile(r"[0-9a-f]{96}")
_MAX_TEXT = 4096


class NitroState(StrEnum):
    """What ``describe-enclaves`` says of a life; UNKNOWN is ours, for words of later releases."""

    RUNNING = "RUNNING"
    TERMINATING = "TERMINATING"
    EMPTY = "EMPTY"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Registers:
    """Measurements of a file, lower-case hex by name. ``HashAlgorithm`` is a debug string and is dropped."""

    values: Mapping[str, str]

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> Self:
        """The registers in an object of ``Measurements``.

        Raises:
            AnswerError: one is not 96 lower-case hex digits.
        """
        found = {}
        for name, register in value.items():
            if re.fullmatch(r"PCR[0-9]{1,2}", name):
                text = register.lower() if isinstance(register, str) else ""
                if not _PCR.fullmatch(text):
                    raise AnswerError(f"{name}: expected 96 hex digits, found {register!r:.60}")
                found[name] = text
        return cls(values=found)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """The answer of ``run-enclave``. ``memory_mib`` is what was allocated, which may be more than asked."""

    enclave_id: str
    name: str | None
    process_id: int
    cid: int
    cpu_ids: tuple[int, ...]
    memory_mib: int

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> Self:
        """The answer in one JSON object.

        Raises:
            AnswerError: a key is missing or has another type.
        """
        return cls(
            enclave_id=_text(value, "EnclaveID"),
            name=_optional_text(value, "EnclaveName"),
            process_id=_whole(value, "ProcessID"),
            cid=_whole(value, "EnclaveCID"),
            cpu_ids=_wholes(value, "CPUIDs"),
            memory_mib=_whole(value, "MemoryMiB"),
        )

    def to_json(self) -> dict[str, object]:
        """The object that ``from_json`` reads; we keep it with the enclave's record."""
        return {
            "EnclaveName": self.name,
            "EnclaveID": self.enclave_id,
            "ProcessID": self.process_id,
            "EnclaveCID": self.cid,
            "NumberOfCPUs": len(self.cpu_ids),
            "CPUIDs": list(self.cpu_ids),
            "MemoryMiB": self.memory_mib,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeInfo:
    """One enclave as ``describe-enclaves`` shows it. ``registers`` are the file's, also in debug mode.

    ``metadata`` may hold secrets of the image's environment (``DockerInfo``): never show it whole.
    """

    run: RunInfo
    state: NitroState
    debug: bool
    registers: Registers | None = None
    image_name: str | None = None
    image_version: str | None = None
    metadata: Mapping[str, object] | None = field(default=None, repr=False)

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> Self:
        """The answer in one JSON object.

        Raises:
            AnswerError: a key is missing or has another type.
        """
        state = _text(value, "State")
        measurements = _optional_object(value, "Measurements")
        return cls(
            run=RunInfo.from_json(value),
            state=NitroState(state) if state in set(NitroState) else NitroState.UNKNOWN,
            debug="DEBUG_MODE" in _text(value, "Flags"),
            registers=None if measurements is None else Registers.from_json(measurements),
            image_name=_optional_text(value, "ImageName"),
            image_version=_optional_text(value, "ImageVersion"),
            metadata=_optional_object(value, "Metadata"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminateInfo:
    """The answer of ``terminate-enclave``; one of several with ``--all``."""

    enclave_id: str
    name: str | None
    terminated: bool

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> Self:
        """The answer in one JSON object.

        Raises:
            AnswerError: a key is missing or has another type.
        """
        return cls(
            enclave_id=_text(value, "EnclaveID"),
            name=_optional_text(value, "EnclaveName"),
            terminated=_flag(value, "Terminated"),
        )


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
        measurements = _optional_object(value, "Measurements")
        if measurements is None:
            raise AnswerError("Measurements: expected an object, found nothing")
        return cls(
            version=_whole(value, "EifVersion"),
            registers=Registers.from_json(measurements),
            is_signed=_flag(value, "IsSigned"),
            crc_ok=_flag(value, "CheckCRC"),
            signature_ok=_flag(value, "SignatureCheck") if "SignatureCheck" in value else None,
            image_name=_optional_text(value, "ImageName"),
            image_version=_optional_text(value, "ImageVersion"),
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
        measurements = _optional_object(value, "Measurements")
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
        if not isinstance(text, str) or not _PCR.fullmatch(text.lower()):
            raise AnswerError(f"PCR: expected 96 hex digits, found {text!r:.60}")
        return cls(value=text.lower())


def _text(value: Mapping[str, object], key: str) -> str:
    found = value.get(key)
    if not isinstance(found, str) or len(found) > _MAX_TEXT:
        raise AnswerError(f"{key}: expected text, found {found!r:.60}")
    return found


def _optional_text(value: Mapping[str, object], key: str) -> str | None:
    return None if value.get(key) is None else _text(value, key)


def _whole(value: Mapping[str, object], key: str) -> int:
    found = value.get(key)
    if type(found) is not int or not 0 <= found < 2**64:
        raise AnswerError(f"{key}: expected a whole number, found {found!r:.60}")
    return found


def _wholes(value: Mapping[str, object], key: str) -> tuple[int, ...]:
    found = value.get(key)
    if not isinstance(found, list) or not all(type(one) is int and 0 <= one < 2**32 for one in found):
        raise AnswerError(f"{key}: expected whole numbers, found {found!r:.60}")
    return tuple(found)


def _flag(value: Mapping[str, object], key: str) -> bool:
    found = value.get(key)
    if not isinstance(found, bool):
        raise AnswerError(f"{key}: expected true or false, found {found!r:.60}")
    return found


def _optional_object(value: Mapping[str, object], key: str) -> Mapping[str, object] | None:
    found = value.get(key)
    if found is not None and not isinstance(found, dict):
        raise AnswerError(f"{key}: expected an object, found {found!r:.60}")
    return found
