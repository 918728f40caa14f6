"""``nitro-cli terminate-enclave``: the command and its answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from enclavectl.nitro_cli.fields import read_flag, read_optional_text, read_text


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
            enclave_id=read_text(value, "EnclaveID"),
            name=read_optional_text(value, "EnclaveName"),
            terminated=read_flag(value, "Terminated"),
        )
