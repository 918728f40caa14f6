"""``nitro-cli describe-enclaves``: the command and its answer. ``list`` needs no other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from enclavectl.nitro_cli.answers import Registers, RunInfo
from enclavectl.nitro_cli.fields import read_optional_object, read_optional_text, read_text


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeEnclaves:
    """``nitro-cli describe-enclaves``; ``metadata`` exists from 1.2.0 on."""

    metadata: bool = False

    def to_argv(self) -> list[str]:
        """The words after the program's name."""
        return ["describe-enclaves", *(["--metadata"] if self.metadata else [])]


class NitroState(StrEnum):
    """What ``describe-enclaves`` says of a life; UNKNOWN is ours, for words of later releases."""

    RUNNING = "RUNNING"
    TERMINATING = "TERMINATING"
    EMPTY = "EMPTY"
    UNKNOWN = "UNKNOWN"


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
        state = read_text(value, "State")
        measurements = read_optional_object(value, "Measurements")
        return cls(
            run=RunInfo.from_json(value),
            state=NitroState(state) if state in set(NitroState) else NitroState.UNKNOWN,
            debug="DEBUG_MODE" in read_text(value, "Flags"),
            registers=None if measurements is None else Registers.from_json(measurements),
            image_name=read_optional_text(value, "ImageName"),
            image_version=read_optional_text(value, "ImageVersion"),
            metadata=read_optional_object(value, "Metadata"),
        )
