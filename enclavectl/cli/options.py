"""Options that several commands share."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from enclavectl.cli.completion import enclave_names, ended_names, model_names, remote_names
from enclavectl.config.choices import BackendChoice


def finite(seconds: float | None) -> float | None:
    """Return an option's time as it is.

    Raises:
        typer.BadParameter: it is infinite, or nan, which every range takes, since it compares with nothing.
    """
    if seconds is None or math.isfinite(seconds):
        return seconds
    raise typer.BadParameter(f"{seconds} is no number of seconds.")


class OutputFormat(StrEnum):
    """The format of a command's standard output."""

    TEXT = "text"
    JSON = "json"


Output = Annotated[
    OutputFormat,
    typer.Option("--output", "-o", help="text for people; json prints one object, also for errors."),
]
Images = Annotated[
    list[str],
    typer.Argument(metavar="PICTURE...", help="Pictures, folders of pictures, or - for standard input."),
]
_NAME_HELP = "An enclave's name, id, or the start of one."
Name = Annotated[str, typer.Argument(metavar="NAME", help=_NAME_HELP, autocompletion=enclave_names)]
OptionalName = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help=_NAME_HELP, autocompletion=enclave_names)
]
EndedName = Annotated[str, typer.Argument(metavar="NAME", help=_NAME_HELP, autocompletion=ended_names)]
Recursive = Annotated[
    bool, typer.Option("--recursive", "-r", help="Take the pictures of subfolders as well.")
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Configuration file in place of the default one (enclavectl config path).",
    ),
]
BackendName = Annotated[
    BackendChoice | None,
    typer.Option("--backend", help="What runs the enclave; auto takes nitro where it exists, else local."),
]
EnclaveName = Annotated[
    str | None,
    typer.Option(
        "--enclave",
        "-e",
        metavar="NAME",
        help="A running enclave: its name, id, or the start of one.",
        autocompletion=enclave_names,
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        help="A model's id, its card, or the folder of its card.",
        autocompletion=model_names,
    ),
]
PolicyFile = Annotated[
    Path | None,
    typer.Option(
        "--policy",
        metavar="FILE",
        help="A policy: what the enclave must prove; default: exactly what was measured before its start.",
    ),
]
AllowDebug = Annotated[
    bool,
    typer.Option(
        "--unsafe-allow-debug",
        help="Accept an enclave in debug mode, whose code nothing measures. For tests without secrets.",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--connect",
        metavar="ADDRESS",
        help="An enclave anywhere: wss://HOST/v1, tls:HOST:PORT, vsock:CID:PORT, unix:PATH. Needs --policy.",
    ),
]
RemoteName = Annotated[
    str | None,
    typer.Option(
        "--remote",
        metavar="NAME",
        help="An enclave elsewhere by its name (enclavectl remote list), with the policy kept for it.",
        autocompletion=remote_names,
    ),
]
RootFile = Annotated[
    Path | None,
    typer.Option(
        "--root",
        metavar="FILE",
        help="With --connect: a root (PEM) in place of AWS's: GovCloud's, or a development root (simulated).",
    ),
]
AnotherRoot = Annotated[
    Path | None,
    typer.Option(
        "--root",
        metavar="FILE",
        help="A root (PEM) in place of AWS's: GovCloud's, or a development root (simulated).",
    ),
]
HostRoot = Annotated[
    Path | None,
    typer.Option(
        "--host-root",
        metavar="DIR",
        help="A folder with a host's files (/etc, /proc, /sys, ...) to look at in place of this machine.",
    ),
]
LockFile = Annotated[Path, typer.Option("--lock", metavar="FILE", help="The lock: what was built from what.")]
NewFolder = Annotated[Path, typer.Option("--to", metavar="DIR", help="A folder that does not exist yet.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and change nothing.")]
Yes = Annotated[
    bool, typer.Option("--yes", "-y", help="Change the host without asking. Required without a terminal.")
]
