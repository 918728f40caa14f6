"""What every command begins with: the screen and the configuration."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from enclavectl.cli.options import OutputFormat
from enclavectl.cli.screen import Screen

if TYPE_CHECKING:
    from enclavectl.config.load import Config


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """One run of one command."""

    screen: Screen
    config: Config


def begin(output: OutputFormat, config_file: Path | None, flags: Mapping[str, object]) -> Invocation:
    """The screen and the checked configuration; ``flags`` has values by configuration key.

    Raises:
        UsageError: the configuration cannot be used.
    """
    from enclavectl.config.load import load_config

    config = load_config(path=config_file, environ=os.environ, flags=flags)
    return Invocation(screen=Screen(as_json=output is OutputFormat.JSON), config=config)


def refuse_together(**options: object) -> None:
    """At most one of these options was given; the keywords are their names.

    Raises:
        UsageError: two contradict each other.
    """
    from enclavectl.errors import UsageError

    given = [f"--{name}" for name, value in options.items() if value]
    if len(given) > 1:
        raise UsageError(f"expected one of {' and '.join(given)}, found both", hint="leave one out")
