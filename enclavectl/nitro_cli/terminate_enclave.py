"""``nitro-cli terminate-enclave``: the command and its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from enclavectl.json_object import JsonObject
from enclavectl.nitro_cli.answers import MAX_TEXT


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminateEnclave:
    """``nitro-cli terminate-enclave`` of one enclave by its id, since names need not be unique."""

    enclave_id: str

    def to_argv(self) -> list[str]:
        """Return the arguments after the program's name."""
        return ["terminate-enclave", "--enclave-id", self.enclave_id]


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminateInfo:
    """The answer of ``terminate-enclave``."""

    enclave_id: str
    name: str | None
    terminated: bool

    @classmethod
    def from_json(cls, value: JsonObject) -> Self:
        """Read the answer.

        Raises:
            JsonError: a key is missing or has another type.
        """
        return cls(
            enclave_id=value.string("EnclaveID", maximum=MAX_TEXT),
            name=value.optional_string("EnclaveName", maximum=MAX_TEXT),
            terminated=value.boolean("Terminated"),
        )
