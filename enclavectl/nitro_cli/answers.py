"""nitro-cli's answers as typed values. Unknown keys are ignored; absent optional ones are None.

https://github.com/aws/aws-nitro-enclaves-cli/blob/v1.5.0/src/common/json_output.rs has the keys. The
measurements in these answers are computed by the parent from a file: they are **not** evidence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from enclavectl.json_object import JsonError, JsonObject

_REGISTER = re.compile(r"[0-9a-f]{96}")
# Characters of a text in an answer; nitro-cli allows names of 64 characters.
MAX_TEXT = 4096
_MAX_U32 = 2**32 - 1

# For example i-0abc-enc1904e4fea1636f6. It must not look like an option or a path.
_ID = re.compile(r"[A-Za-z0-9_.:][A-Za-z0-9_.:-]{0,127}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Registers:
    """Measurements of a file: lower-case hex by name. ``HashAlgorithm`` is a debug string and is dropped."""

    values: Mapping[str, str]

    @classmethod
    def from_json(cls, value: JsonObject) -> Self:
        """Read the registers in an object of ``Measurements``.

        Raises:
            JsonError: a register is not 96 hex digits.
        """
        found = {}
        for name in value:
            if re.fullmatch(r"PCR[0-9]{1,2}", name):
                text = value.string(name).lower()
                if not _REGISTER.fullmatch(text):
                    raise JsonError(f"{name}: expected 96 hex digits, found {text!r:.60}")
                found[name] = text
        return cls(values=found)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """The answer of ``run-enclave``. ``memory_mib`` is the allocated memory, which may be more than asked."""

    enclave_id: str
    name: str | None
    process_id: int
    cid: int
    cpu_ids: tuple[int, ...]
    memory_mib: int

    @classmethod
    def from_json(cls, value: JsonObject) -> Self:
        """Read the answer.

        Raises:
            JsonError: a key is missing or has another type.
        """
        return cls(
            enclave_id=_read_id(value),
            name=value.optional_string("EnclaveName", maximum=MAX_TEXT),
            process_id=value.integer("ProcessID", maximum=_MAX_U32),
            cid=value.integer("EnclaveCID", maximum=_MAX_U32),
            cpu_ids=value.integers("CPUIDs", maximum=_MAX_U32),
            memory_mib=value.integer("MemoryMiB"),
        )

    def to_json(self) -> dict[str, object]:
        """Return the object that ``from_json`` reads; it is stored with the enclave's record."""
        return {
            "EnclaveName": self.name,
            "EnclaveID": self.enclave_id,
            "ProcessID": self.process_id,
            "EnclaveCID": self.cid,
            "NumberOfCPUs": len(self.cpu_ids),
            "CPUIDs": list(self.cpu_ids),
            "MemoryMiB": self.memory_mib,
        }


def _read_id(value: JsonObject) -> str:
    # This comes from the daemon of any user's enclave, and nitro-cli uses it as an option's value and in a
    # path.
    text = value.string("EnclaveID")
    if not _ID.fullmatch(text):
        raise JsonError(f"EnclaveID: expected something like i-0abc-enc123, found {text!r:.60}")
    return text
