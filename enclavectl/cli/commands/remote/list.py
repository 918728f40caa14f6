"""``enclavectl remote list``."""

from __future__ import annotations

from enclavectl.cli import options
from enclavectl.cli.invocation import begin
from enclavectl.cli.options import OutputFormat
from enclavectl.targets.remote_store import RemoteStore
from enclavectl.targets.remotes import Remote

REMOTES_SCHEMA = "enclavectl.remotes/1"


def list_remotes(config: options.ConfigFile = None, output: options.Output = OutputFormat.TEXT) -> None:
    """List the remotes.

    Shows the address of each, and which is the default.

    Examples:
      enclavectl remote list                for people
      enclavectl remote list --output json  for programs
    """
    invocation = begin(output, config, {})
    screen = invocation.screen
    found = RemoteStore(invocation.config.state_dir).all()
    if screen.as_json:
        rows = [
            {
                "name": one.name,
                "address": one.address,
                "is_default": one.is_default,
                "changed": one.changed_text,
            }
            for one in found
        ]
        screen.result({"schema": REMOTES_SCHEMA, "remotes": rows})
    elif found:
        screen.table(["NAME", "ADDRESS", "DEFAULT", "CHANGED"], [_row(one) for one in found])
    else:
        screen.note("there is no remote; enclavectl remote add makes one")


def _row(one: Remote) -> list[str]:
    return [one.name, one.address, "yes" if one.is_default else "-", f"{one.changed:%Y-%m-%d %H:%M} UTC"]
