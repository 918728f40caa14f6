"""``enclavectl remote show``."""

from __future__ import annotations

from enclavectl.cli import options
from enclavectl.cli.invocation import begin
from enclavectl.cli.options import OutputFormat
from enclavectl.cli.remote_view import RemoteArgument, draw_remote
from enclavectl.targets.remote_store import RemoteStore


def show(
    name: RemoteArgument, config: options.ConfigFile = None, output: options.Output = OutputFormat.TEXT
) -> None:
    """Show one remote: its address, and what it must prove.

    Names the token and keys that are kept, and prints none of them.

    Examples:
      enclavectl remote show lab  address, releases, PCRs
    """
    invocation = begin(output, config, {})
    draw_remote(invocation.screen, RemoteStore(invocation.config.state_dir).find(name))
