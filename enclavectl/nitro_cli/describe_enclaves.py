"""``nitro-cli describe-enclaves``: the command and its answer, the only one that ``list`` needs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from enclavectl.json_object import JsonObject
from enclavectl.nitro_cli.answers import MAX_TEXT, Registers, RunInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeEnclaves:
    """``nitro-cli describe-enclaves``. No ``--metadata``: metadata that is no object ends the enclave."""

    def to_argv(self) -> list[str]:
        """Return the arguments after the program's name."""
        return ["describe-enclaves"]


class NitroState(StrEnum):
    """The state of an enclave in ``describe-enclaves``; UNKNOWN is ours, for states of later releases."""

    RUNNING = "RUNNING"
    TERMINATING = "TERMINATING"
    EMPTY = "EMPTY"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeInfo:
    """One enclave as ``describe-enclaves`` shows it. ``registers`` are the file's, even in debug mode."""

    run: RunInfo
    state: NitroState
    debug: bool
    registers: Registers | None = None

    @classmethod
    def from_json(cls, value: JsonObject) -> Self:
        """Read the answer.

        Raises:
            JsonError: a key is missing or has another type.
        """
        state = value.string("State", maximum=MAX_TEXT)
        measurements = value.optional_object("Measurements")
        return cls(
            run=RunInfo.from_json(value),
            state=NitroState(state) if state in set(NitroState) else NitroState.UNKNOWN,
            debug="DEBUG_MODE" in value.string("Flags", maximum=MAX_TEXT),
            registers=None if measurements is None else Registers.from_json(measurements),
        )
