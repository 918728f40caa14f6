"""The start of every command: the screen and the configuration."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from enclavectl.cli.options import OutputFormat
from enclavectl.cli.screen import Screen
from enclavectl.errors import UsageError

if TYPE_CHECKING:
    from enclavectl.config.load import Config

# The flags of settings: an error names the flag that the user typed.
_FLAGS = {
    "backend": "--backend",
    "model": "--model",
    "policy": "--policy",
    "diagnose.top": "--top",
    "diagnose.timeout_s": "--timeout",
    "enclave.cid": "--cid",
    "enclave.cpus": "--cpus",
    "enclave.memory_mib": "--memory",
    "local.memory_mib": "--memory",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """One run of one command."""

    screen: Screen
    config: Config

    @property
    def asked_top(self) -> int | None:
        """The number of labels that was asked for; None where none was: JSON then has all of them."""
        return None if self.config.sources["diagnose.top"].is_default else self.config.diagnose.top


def begin(output: OutputFormat, config_file: Path | None, flags: Mapping[str, object]) -> Invocation:
    """Load the configuration and make the screen; ``flags`` has values by setting, None if not given.

    Raises:
        UsageError: the configuration or a flag cannot be used.
    """
    # Commands without a configuration, such as verify, need this module's other functions.
    from enclavectl.config.load import load_config  # noqa: PLC0415 - see above

    config = load_config(path=config_file, environ=os.environ, flags=flags, flag_names=_FLAGS)
    return Invocation(screen=screen_for(output), config=config)


def screen_for(output: OutputFormat) -> Screen:
    """Return the screen of a command that needs no configuration."""
    return Screen(as_json=output is OutputFormat.JSON)


def refuse_together(**options: object) -> None:
    """Refuse more than one of these options; the keywords are their names.

    Raises:
        UsageError: two of them were given.
    """
    given = [f"--{name}" for name, value in options.items() if value]
    if len(given) > 1:
        raise UsageError(f"expected one of {' and '.join(given)}, found both", hint="leave one out")
