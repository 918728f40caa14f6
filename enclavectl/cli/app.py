"""The command tree. Modules here import nothing heavy: `--help` is held to the cost of importing Typer."""

from __future__ import annotations

from typing import Annotated

import typer

from enclavectl import __version__
from enclavectl.cli import build, config, diagnose, eif, kernel, lifecycle, model, roles

# Rich's help pages cost more start-up time than all of Typer; plain ones teach the same.
app = typer.Typer(
    name="enclavectl",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
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


app.command()(diagnose.diagnose)
app.command()(lifecycle.run)
app.command("list")(lifecycle.list_enclaves)
app.command()(lifecycle.describe)
app.command()(lifecycle.console)
app.command()(lifecycle.terminate)
app.command()(roles.send)
app.command()(roles.listen)
app.command()(build.build)
app.add_typer(build.lock_app, name="lock")
app.add_typer(eif.app, name="eif")
app.add_typer(kernel.app, name="kernel")
app.add_typer(model.app, name="model")
app.add_typer(config.app, name="config")
