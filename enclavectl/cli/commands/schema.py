"""``enclavectl schema``: what the JSON of every command means, for programs, and for editors of files."""

from __future__ import annotations

from typing import Annotated

import typer

from enclavectl.cli.completion import schema_names
from enclavectl.cli.invocation import screen_for
from enclavectl.cli.options import Output, OutputFormat
from enclavectl.schemas.store import list_schemas, load_schema

SCHEMAS_SCHEMA = "enclavectl.schemas/1"

SchemaName = Annotated[
    str | None,
    typer.Argument(
        metavar="[NAME]",
        help="A schema's name, or the schema member of an object; default: list them.",
        autocompletion=schema_names,
    ),
]


def schema(name: SchemaName = None, output: Output = OutputFormat.TEXT) -> None:
    """Print the JSON Schema of an output or a file.

    There is one for each object that --output json prints, and for the files that people write: the
    configuration, policies and model cards. Without NAME the command lists them. A printed schema needs no
    other; the dialect is draft 2020-12.

    Examples:
      enclavectl schema                            list them
      enclavectl schema diagnosis                  what diagnose prints
      enclavectl schema policy > policy.json       for an editor or a validator
    """
    screen = screen_for(output)
    if name is not None:
        screen.result(load_schema(name))
    elif screen.as_json:
        entries = [entry.to_json() for entry in list_schemas()]
        screen.result({"schema": SCHEMAS_SCHEMA, "schemas": entries})
    else:
        screen.table(("NAME", "WHAT IT DESCRIBES"), [(one.name, one.title) for one in list_schemas()])
