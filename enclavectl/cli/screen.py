"""The two output streams: answers go to standard output, everything else to standard error.

Text is never parsed as markup. Untrusted text (file names, labels, console bytes) cannot control the
terminal: control characters are escaped.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from enclavectl.cli.closed_output import discard_output, lose_output, reason_of, says_closed, says_full
from enclavectl.cli.json_stream import JsonStream
from enclavectl.cli.status_line import StatusLine
from enclavectl.cli.trust_line import trust_line
from enclavectl.errors import EnclavectlError, visible

if TYPE_CHECKING:
    from rich.console import Console

    from enclavectl.cli.drawing import Drawing

ERROR_SCHEMA = "enclavectl.error/1"
# Of a table's row where there is no terminal; a cell has none, as control characters are spelled out.
_SEPARATOR = "\t"
_EMPTY_CELL = "-"


def wants_json(arguments: Sequence[str]) -> bool:
    """Return whether the command line asks for JSON, even if it cannot be parsed."""
    return any(
        argument in {"--output=json", "-ojson", "-o=json"}
        or (argument in {"--output", "-o"} and tuple(arguments[index + 1 : index + 2]) == ("json",))
        for index, argument in enumerate(arguments)
    )


def error_value(error: EnclavectlError) -> dict[str, object]:
    """Return the JSON object of an error."""
    return {
        "kind": error.kind,
        "code": error.code,
        "message": error.message,
        "hint": error.hint,
        "exit_code": error.exit_code,
    }


class Screen:
    """The output of a command."""

    def __init__(self, *, as_json: bool) -> None:
        """With ``as_json`` only ``result`` and ``error`` write to standard output, as one JSON object."""
        self.as_json = as_json
        self._outlives_reader = False
        self._status = StatusLine(sys.stderr)

    def outlive_reader(self) -> None:
        """Go on where standard output is closed or full: for work that counts without the output.

        Without this such an output ends the command. A reader that closes it wants no more, while a full disk
        lost what somebody wants: ``run`` of the boundary ends with an error then, once the work is done.
        """
        self._outlives_reader = True

    @property
    def out(self) -> Console:
        """The console for the answer, after removing the status line."""
        return self._paper.out

    @property
    def _paper(self) -> Drawing:
        self._status.clear()
        return self._drawing

    @cached_property
    def _drawing(self) -> Drawing:
        # Rich takes as long to import as all of Typer, and errors, notes and JSON do not need it.
        from enclavectl.cli.drawing import Drawing  # noqa: PLC0415 - see above

        return Drawing()

    def load(self) -> None:
        """Import the drawing modules early, while the command waits for something else.

        Only a terminal needs them.
        """
        if sys.stdout.isatty():
            _ = self._drawing

    def result(self, value: Mapping[str, object]) -> None:
        """Write the command's one JSON object."""
        # ASCII: a file name need not be Unicode, and a reader need not expect UTF-8.
        self._write(json.dumps(value, indent=2))

    def object_stream(self) -> JsonStream:
        """Begin the command's one JSON object where it is too long to be kept; its parts are written."""
        return JsonStream(self._write_part)

    def line(self, value: Mapping[str, object]) -> None:
        """Write one JSON object on one line, for commands that answer more than once."""
        self._write(json.dumps(value))

    def _write(self, text: str) -> None:
        self._write_part(f"{text}\n")

    def _write_part(self, text: str) -> None:
        self._status.clear()
        with self._reader():
            sys.stdout.write(text)
            sys.stdout.flush()

    @contextmanager
    def _reader(self) -> Iterator[None]:
        """Raise ``BrokenPipeError`` where the reader of standard output is gone, or go on without it.

        A full disk raises the system's OSError.
        """
        try:
            yield
        except OSError as exc:
            if says_full(exc) and self._outlives_reader:
                lose_output(exc)
                told = f"standard output: cannot be written ({reason_of(exc)})"
                self.note(f"{told}; the command goes on without it")
                return
            if not says_closed(exc):
                raise
            if not self._outlives_reader:
                raise BrokenPipeError from exc
            discard_output(sys.stdout)
            self.note("standard output was closed; the command goes on without it")

    def _tell(self, text: str) -> None:
        """Write to standard error. Nothing ends because that is closed or full: it has no answers."""
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except OSError:
            discard_output(sys.stderr)

    def text(self, text: str) -> None:
        """Write a line of the answer as it is."""
        self._write(text)

    def error(self, error: EnclavectlError) -> None:
        """Write an error with its hint; in JSON mode, also as a JSON object."""
        self._status.clear()
        if self.as_json:
            self.result({"schema": ERROR_SCHEMA, "error": error_value(error)})
        hint = f"  try: {visible(error.hint)}\n" if error.hint else ""
        self._tell(f"enclavectl: {visible(error.message)}\n{hint}")

    def notice(self, text: str) -> None:
        """Draw the model's notice, which goes with every answer."""
        self.drawn((text, "bold"))

    def note(self, text: str) -> None:
        """Write a fact for a person, on standard error."""
        self._status.clear()
        self._tell(f"enclavectl: {visible(text)}\n")

    def step(self, text: str) -> None:
        """Show on a terminal that a step has begun."""
        self._status.clear()
        if sys.stderr.isatty():
            try:
                self._paper.step(visible(text))
            except OSError:  # as in _tell
                discard_output(sys.stderr)

    def detail(self, text: str) -> None:
        """Show a line of a tool's output on a terminal."""
        self._status.clear()
        if sys.stderr.isatty():
            self._tell(f"  {visible(text)}\n")

    def update(self, what: str, elapsed_s: float, bound_s: float) -> None:
        """Show the elapsed time of a step on the terminal's status line."""
        self._status.show(f"· {visible(what)}: {elapsed_s:.0f} s of at most about {bound_s:.0f} s")

    def count(self, what: str, done: int, total: int | None, unit: str, *, has_rate: bool = False) -> None:
        """Show the done part of ``total`` on the terminal's status line, and with ``has_rate`` the rate."""
        self._status.count(visible(what), done, total, unit, has_rate=has_rate)

    def end_count(self) -> None:
        """Remove the status line."""
        self._status.clear()

    def trust(self, trust: str, root: str | None) -> None:
        """Draw the line above every answer: the trust in the evidence, under the root of that name."""
        self.drawn(*trust_line(trust, root))

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Draw a plain table without borders; without a terminal, tabs separate the cells of a row."""
        shown = [[visible(cell) for cell in row] for row in rows]
        if sys.stdout.isatty():
            with self._reader():
                self._paper.table(columns, shown)
            return
        lines = (_SEPARATOR.join(cell or _EMPTY_CELL for cell in cells) for cells in (columns, *shown))
        self._write("\n".join(lines))

    def drawn(self, *parts: tuple[str, str], soft_wrap: bool = False, is_cut: bool = False) -> None:
        """Draw a line of parts, each with its style: Rich's words for one, or nothing.

        On a terminal a line is wrapped between words, or with ``soft_wrap`` where the terminal ends, or with
        ``is_cut`` not at all. Where there is no terminal, it is written as it is.
        """
        shown = [(visible(text), style) for text, style in parts]
        if sys.stdout.isatty():
            with self._reader():
                self._paper.line(shown, soft_wrap=soft_wrap, is_cut=is_cut)
        else:
            self._write("".join(text for text, _ in shown))

    def heading(self, text: str) -> None:
        """Draw the heading of the next block."""
        self.drawn((text, "bold"), soft_wrap=True)

    def facts(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Draw names and values, aligned."""
        shown = [(visible(name), visible(value)) for name, value in pairs]
        width = max((len(name) for name, _ in shown), default=0) + 2
        padded = [(name.ljust(width), value) for name, value in shown]
        if sys.stdout.isatty():
            with self._reader():
                self._paper.facts(padded)
        else:
            self._write_part("".join(f"{name}{value}".rstrip() + "\n" for name, value in padded))
