"""``enclavectl remote remove``."""

from __future__ import annotations

import typer

from enclavectl.cli import options
from enclavectl.cli.invocation import begin
from enclavectl.cli.options import OutputFormat
from enclavectl.cli.remote_view import RemoteArgument
from enclavectl.targets.remote_store import RemoteStore

REMOVED_SCHEMA = "enclavectl.remote-removed/1"


def remove(
    name: RemoteArgument, config: options.ConfigFile = None, output: options.Output = OutputFormat.TEXT
) -> None:
    """Remove a remote with its policy, token and keys.

    The files that they were copied from stay.

    Examples:
      enclavectl remote remove lab  forget it
    """
    invocation = begin(output, config, {})
    address = RemoteStore(invocation.config.state_dir).remove(name)
    if invocation.screen.as_json:
        invocation.screen.result({"schema": REMOVED_SCHEMA, "name": name, "address": address})
    else:
        typer.echo(f"removed {name}")
