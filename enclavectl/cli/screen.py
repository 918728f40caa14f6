"""Two streams, one rule: standard output is the answer, standard error is the story.

Text is never parsed as markup, and what others named (files, labels, console bytes) cannot steer the
terminal: control characters are shown, not sent.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from enclavectl.cli.status_line import StatusLine
from enclavectl.errors import EnclavectlError, visible

if TYPE_CHECKING:
    from rich.console import Console

    from enclavectl.cli.drawing import Drawing

ERROR_SCHEMA = "enclavectl.error/1"


def wants_json(arguments: Sequence[str]) -> bool:
    """Return whether the command line asks for JSON, also when it is too broken to be parsed."""
    return any(
        argument in {"--output=json", "-ojson", "-o=json"}
        or (argument in {"--output", "-o"} and tuple(arguments[index + 1 : index + 2]) == ("json",))
        for index, argument in enumerate(arguments)
    )


def error_value(error: EnclavectlError) -> dict[str, object]:
    """Return an error as it stands in JSON."""
    return {
        "kind": error.kind,
        "code": error.code,
        "message": error.message,
        "hint": error.hint,
        "exit_code": error.exit_code,
    }


class Screen:
    """Where a command writes."""

    def __init__(self, *, as_json: bool) -> None:
        """With ``as_json`` only ``result`` and ``error`` write to standard output, as one JSON object."""
        self.as_json = as_json
        self._status = StatusLine(sys.stderr)

    @property
    def out(self) -> Console:
        """The answer's console, with no status line in the way."""
        return self._paper.out

    @property
    def _paper(self) -> Drawing:
        self._status.clear()
        return self._drawing

    @cached_property
    def _drawing(self) -> Drawing:
        # Rich takes as long to load as all of Typer, and errors, notes and JSON need none of it.
        from enclavectl.cli.drawing import Drawing  # noqa: PLC0415 - see above

        return Drawing()

    def load(self) -> None:
        """Import what draws, at a time when there is nothing else to do."""
        _ = self._drawing

    def result(self, value: Mapping[str, object]) -> None:
        """Write the command's one JSON object."""
        # ASCII: a file name need not be Unicode, and whoever reads us need not expect UTF-8.
        self._write(json.dumps(value, indent=2))

    def line(self, value: Mapping[str, object]) -> None:
        """Write one JSON object on one line, for commands that answer more than once."""
        self._write(json.dumps(value))

    def _write(self, text: str) -> None:
        self._status.clear()
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    def error(self, error: EnclavectlError) -> None:
        """Write what was expected and found, and what to do next; if JSON was asked for, as that too."""
        self._status.clear()
        if self.as_json:
            self.result({"schema": ERROR_SCHEMA, "error": error_value(error)})
        sys.stderr.write(f"enclavectl: {visible(error.message)}\n")
        if error.hint:
            sys.stderr.write(f"  try: {visible(error.hint)}\n")
        sys.stderr.flush()

    def notice(self, text: str) -> None:
        """Draw the model's notice, which goes with every answer."""
        self._paper.bold(visible(text), soft_wrap=False)

    def note(self, text: str) -> None:
        """Write a fact for a person, on standard error."""
        self._status.clear()
        sys.stderr.write(f"enclavectl: {visible(text)}\n")

    def step(self, text: str) -> None:
        """Say that something has begun, where a person watches."""
        self._status.clear()
        if sys.stderr.isatty():
            self._paper.step(visible(text))

    def detail(self, text: str) -> None:
        """Write a line of what a tool prints, where a person watches."""
        self._status.clear()
        if sys.stderr.isatty():
            sys.stderr.write(f"  {visible(text)}\n")

    def update(self, what: str, elapsed_s: float, bound_s: float) -> None:
        """Show how long something has taken, on a line that is written over, where a person watches."""
        self._status.show(f"· {visible(what)}: {elapsed_s:.0f} s of at most about {bound_s:.0f} s")

    def count(self, what: str, done: int, total: int | None, unit: str) -> None:
        """Show how much of ``total`` is done, on a line that is written over, where a person watches."""
        self._status.count(visible(what), done, total, unit)

    def end_count(self) -> None:
        """Remove that line."""
        self._status.clear()

    def trust(self, trust: str) -> None:
        """Draw the line that stands above every answer: what the evidence is worth."""
        self._paper.trust(trust)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Draw a plain table without borders; without a terminal, tabs separate the cells of a row."""
        self._paper.table(columns, [[visible(cell) for cell in row] for row in rows])

    def heading(self, text: str) -> None:
        """Draw what the next block is about."""
        self._paper.bold(visible(text), soft_wrap=True)

    def facts(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Draw names and values, aligned."""
        self._paper.facts([(name, visible(value)) for name, value in pairs])
