"""``enclavectl config``: what is set, where it comes from, and how to set more."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from enclavectl.cli.begin import begin
from enclavectl.cli.options import ConfigFile, Output, OutputFormat
from enclavectl.cli.screen import Screen

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Show and create the configuration file.")


@app.command()
def show(config: ConfigFile = None, output: Output = OutputFormat.TEXT) -> None:
    """Print every setting with its value and its source.

    A flag goes before an environment variable, which goes before the file, which goes before the default.
    """
    invocation = begin(output, config, {})
    if invocation.screen.as_json:
        invocation.screen.result(invocation.config.to_json())
    else:
        invocation.screen.table(("SETTING", "VALUE", "SOURCE"), invocation.config.rows())


@app.command()
def path(config: ConfigFile = None, output: Output = OutputFormat.TEXT) -> None:
    """Print where the configuration file is, or would be."""
    from enclavectl.config.load import config_path

    screen = Screen(as_json=output is OutputFormat.JSON)
    found = config_path(path=config, environ=os.environ)
    if screen.as_json:
        value = {"schema": "enclavectl.config-path/1", "path": str(found), "exists": found.exists()}
        screen.result(value)
    else:
        typer.echo(str(found))


@app.command()
def init(
    config: ConfigFile = None,
    output: Output = OutputFormat.TEXT,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
) -> None:
    """Write a configuration file with every setting, explained and commented out."""
    from enclavectl.config.load import config_path
    from enclavectl.config.template import render_default
    from enclavectl.errors import StateError
    from enclavectl.files import make_private_dir, write_atomic

    screen = Screen(as_json=output is OutputFormat.JSON)
    target: Path = config_path(path=config, environ=os.environ)
    if target.exists() and not force:
        raise StateError(f"{target}: exists already", hint="--force replaces it")
    if not target.parent.exists():
        make_private_dir(target.parent)
    write_atomic(target, render_default().encode())
    if screen.as_json:
        screen.result({"schema": "enclavectl.config-path/1", "path": str(target), "exists": True})
    else:
        typer.echo(f"wrote {target}")
