"""``enclavectl config``: what is set, where it comes from, and how to set more."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from enclavectl.cli.invocation import begin, screen_for
from enclavectl.cli.options import ConfigFile, Output, OutputFormat
from enclavectl.config.load import config_path
from enclavectl.config.template import render_default
from enclavectl.errors import StateError
from enclavectl.files import make_private_dir, status_at, write_atomic

PATH_SCHEMA = "enclavectl.config-path/1"

Force = Annotated[bool, typer.Option("--force", help="Replace a file that exists.")]


def show(config: ConfigFile = None, output: Output = OutputFormat.TEXT) -> None:
    """Print every setting with its value and its source.

    A flag goes before an environment variable, which goes before the file, which goes before the default.

    Examples:
      enclavectl config show                    what holds here
      enclavectl config show --config new.yaml  what another file would give
    """
    invocation = begin(output, config, {})
    if invocation.screen.as_json:
        invocation.screen.result(invocation.config.to_json())
    else:
        invocation.screen.table(("SETTING", "VALUE", "SOURCE"), invocation.config.rows())


def path(config: ConfigFile = None, output: Output = OutputFormat.TEXT) -> None:
    """Print where the configuration file is, or would be.

    Without --config that is the file which ENCLAVECTL_CONFIG names, else one in the user's configuration
    folder.

    Examples:
      enclavectl config path                where it is
      enclavectl config path --output json  also whether it exists
    """
    screen = screen_for(output)
    found = config_path(path=config, environ=os.environ)
    if screen.as_json:
        screen.result({"schema": PATH_SCHEMA, "path": str(found), "exists": status_at(found) is not None})
    else:
        typer.echo(str(found))


def init(
    force: Force = False,
    config: ConfigFile = None,
    output: Output = OutputFormat.TEXT,
) -> None:
    """Write a configuration file with every setting explained.

    All settings are commented out: each has its default until a line is changed.

    Examples:
      enclavectl config init                      where enclavectl looks for it
      enclavectl config init --config other.yaml  somewhere else
      enclavectl config init --force              in place of the file there
    """
    screen = screen_for(output)
    target = config_path(path=config, environ=os.environ)
    if status_at(target) is not None and not force:
        raise StateError(f"{target}: exists already", hint="enclavectl config init --force replaces it")
    if status_at(target.parent) is None:
        make_private_dir(target.parent)
    write_atomic(target, render_default().encode())
    if screen.as_json:
        screen.result({"schema": PATH_SCHEMA, "path": str(target), "exists": True})
    else:
        typer.echo(f"wrote {target}")
