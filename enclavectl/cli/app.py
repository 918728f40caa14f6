"""The command tree. Modules here import nothing heavy: `--help` is held to the cost of importing Typer."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Annotated, Any

import typer

from enclavectl import __version__

_COMPLETION = "_ENCLAVECTL_COMPLETE"  # what the shell's completion sets, by click's rule for names
# Module and name of each: only those that the command line may mean are imported.
_COMMANDS = {
    "diagnose": ("commands.diagnose", "diagnose"),
    "run": ("commands.run", "run"),
    "list": ("commands.describe", "list_enclaves"),
    "describe": ("commands.describe", "describe"),
    "console": ("commands.console", "console"),
    "terminate": ("commands.describe", "terminate"),
    "logs": ("commands.console", "logs"),
    "history": ("commands.console", "history"),
    "send": ("commands.send", "send"),
    "listen": ("commands.send", "listen"),
    "build": ("commands.build", "build"),
    "doctor": ("commands.doctor", "doctor"),
    "plan": ("commands.plan", "plan"),
    "setup": ("commands.setup", "setup"),
    "units": ("commands.units", "units"),
}
_GROUPS = {
    "lock": ("commands.lock", "app"),
    "eif": ("commands.eif.show", "app"),
    "kernel": ("commands.kernel", "app"),
    "model": ("commands.model", "app"),
    "config": ("commands.config", "app"),
}


def build_app(arguments: Sequence[str]) -> typer.Typer:
    """The command tree, or only the branch of it that the command line names.

    Typer looks at every parameter of every command that it is given, which takes longer than most commands.
    """
    # Rich's help pages cost more start-up time than all of Typer; plain ones teach the same.
    app = typer.Typer(
        name="enclavectl",
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(root)
    first = next(iter(arguments), "")
    is_alone = first in _COMMANDS or first in _GROUPS or first == "--version"
    # The page of all commands shows their first lines only. Shells that complete need all of them, whole.
    is_page = first in {"", "-h", "--help"} and _COMPLETION not in os.environ
    for name, place in _COMMANDS.items():
        if name == first or not is_alone:
            command: Callable[..., None] = _load(*place)
            app.command(name)(_outline(command) if is_page else command)
    for name, place in _GROUPS.items():
        if name == first or not is_alone:
            group: typer.Typer = _load(*place)
            app.add_typer(typer.Typer(help=group.info.help) if is_page else group, name=name)
    return app


def _load(module: str, name: str) -> Any:
    return getattr(import_module(f"enclavectl.cli.{module}"), name)


def _outline(command: Callable[..., None]) -> Callable[[], None]:
    """Something with the command's help and none of its options."""

    def outline() -> None:
        raise AssertionError("only ever listed")

    outline.__doc__ = command.__doc__
    return outline


def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Confidential machine-learning inference in AWS Nitro Enclaves.

    A picture is sealed to an enclave that proved what it runs, and only then sent. On a machine without
    enclaves the local backend simulates one, and says so.

    Start with: enclavectl diagnose PICTURE

    Exit codes: 0 ok, 1 bug, 2 usage or configuration, 3 host or tool, 4 attestation refused,
    5 enclave or model failed, 6 not found or wrong state, 130 interrupted.
    """
    if version:
        typer.echo(f"enclavectl {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
