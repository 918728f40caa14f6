"""Commands with an answer for each of several files: a block or list item each, and the worst exit code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from enclavectl.cli.screen import Screen, error_value
from enclavectl.errors import EnclavectlError


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A command's answer for one file: JSON, text, and exit code."""

    value: Mapping[str, object]
    draw: Callable[[], None]
    exit_code: int = 0


def answer_each(screen: Screen, files: Sequence[Path], schema: str, answer: Callable[[Path], Answer]) -> None:
    """Write the answer for each file, and continue after one that cannot be read.

    For several files the output is one JSON object with ``schema`` and a list, in which each item has its
    file and either the file's answer or its error. Errors of ``answer`` must name the file.

    Raises:
        EnclavectlError: there is only one file, and it has no answer.
            typer.Exit: with the highest exit code, if that is not zero.
    """
    worst = 0
    items: list[Mapping[str, object]] = []
    for file in files:
        try:
            found = answer(file)
        except EnclavectlError as exc:
            if len(files) == 1:
                raise
            worst = max(worst, exc.exit_code)
            items.append({"file": str(file), "error": error_value(exc)})
            screen.note(exc.message)
            continue
        worst = max(worst, found.exit_code)
        items.append(found.value if len(files) == 1 else {"file": str(file), **found.value})
        if not screen.as_json:
            if len(files) > 1:
                screen.heading(str(file))
            found.draw()
    if screen.as_json:
        screen.result(items[0] if len(files) == 1 else {"schema": schema, "files": items})
    if worst:
        raise typer.Exit(worst)
