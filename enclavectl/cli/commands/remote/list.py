"""``enclavectl remote list``."""

from __future__ import annotations

from enclavectl.cli import options
from enclavectl.cli.invocation import begin
from enclavectl.cli.options import OutputFormat
from enclavectl.targets.remote_store import DamagedRemote, RemoteStore
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
        screen.result({"schema": REMOTES_SCHEMA, "remotes": [_json(one) for one in found]})
    elif found:
        screen.table(["NAME", "ADDRESS", "DEFAULT", "CHANGED"], [_row(one) for one in found])
    else:
        screen.note("there is no remote; enclavectl remote add makes one")
    for one in found:
        if isinstance(one, DamagedRemote):
            screen.note(f"{one.error}; {one.error.hint}")


def _json(one: Remote | DamagedRemote) -> dict[str, object]:
    if isinstance(one, DamagedRemote):
        return {"name": one.name, "address": None, "is_default": one.is_default, "changed": None}
    changed = one.changed.isoformat()
    return {"name": one.name, "address": one.address, "is_default": one.is_default, "changed": changed}


def _row(one: Remote | DamagedRemote) -> list[str]:
    default = "yes" if one.is_default else "-"
    if isinstance(one, DamagedRemote):
        return [one.name, "(damaged)", default, "-"]
    return [one.name, one.address, default, f"{one.changed:%Y-%m-%d %H:%M} UTC"]
