"""``enclavectl fleet check``: manifests held to what Kubernetes and the nodes demand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from enclavectl.artifacts.lock import read_lock
from enclavectl.cli import options
from enclavectl.cli.fleet_request import labels_of
from enclavectl.cli.invocation import begin
from enclavectl.cli.options import OutputFormat
from enclavectl.deploy.kubernetes.checking import check_manifests, check_schemas, read_manifests
from enclavectl.errors import UsageError

CHECK_SCHEMA = "enclavectl.fleet-check/1"
EXIT_FINDINGS = 2

Folder = Annotated[Path, typer.Argument(metavar="[DIR]", help="The folder with the manifests.")]
Locks = Annotated[
    list[Path] | None,
    typer.Option("--lock", metavar="FILE", help="A lock that the labels must be of; may be repeated."),
]
Models = Annotated[
    list[Path] | None,
    typer.Option(
        "--model",
        metavar="FILE.sealed",
        help="Sealed weights that a runtime's lock runs with; may be repeated.",
    ),
]
Schemas = Annotated[
    bool, typer.Option("--schemas/--no-schemas", help="Hold them to Kubernetes' schemas too (extra fleet).")
]


def check(
    folder: Folder = Path("k8s"),
    lock: Locks = None,
    model: Models = None,
    schemas: Schemas = True,
    config: options.ConfigFile = None,
    output: options.Output = OutputFormat.TEXT,
) -> None:
    """Check a fleet's manifests before a cluster sees them.

    Looks for what a schema cannot say: huge pages, devices, slots, labels, rollouts. Exit code 2 if anything
    is wrong. What a cluster alone can say, such as its admission rules, is left to it.

    Examples:
      enclavectl fleet check                               the folder k8s
      enclavectl fleet check k8s --lock image.lock.json    and of this lock
      enclavectl fleet check k8s --no-schemas              without the extra
    """
    invocation = begin(output, config, {})
    manifests = read_manifests(folder)
    found = check_manifests(manifests, _labels(lock or (), model or ()))
    if schemas:
        found += check_schemas(manifests)
    if invocation.screen.as_json:
        value = {
            "schema": CHECK_SCHEMA,
            "folder": str(folder),
            "files": sorted(manifests),
            "sound": not found,
            "findings": [one.to_json() for one in found],
        }
        invocation.screen.result(value)
    else:
        if found:
            rows = [(one.file, one.code, one.message, one.fix) for one in found]
            invocation.screen.table(("FILE", "CODE", "FOUND", "FIX"), rows)
        invocation.screen.facts([("sound", f"{'yes' if not found else 'NO'}, {len(manifests)} files")])
    if found:
        raise typer.Exit(EXIT_FINDINGS)


def _labels(paths: Sequence[Path], models: Sequence[Path]) -> list[frozenset[str]]:
    locks = [(path, read_lock(path)) for path in paths]
    if models and not any(lock.is_runtime for _, lock in locks):
        raise UsageError(
            "--model: expected --lock with the lock of a runtime as well",
            hint="locks of images with weights name their model themselves",
        )
    return [labels_of(lock, path, models) for path, lock in locks]
