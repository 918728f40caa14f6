"""Two streams, one rule: standard output is the answer, standard error is the story.

Text is never parsed as markup, and what others named (files, labels, console bytes) cannot steer the
terminal: control characters are shown, not sent.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from enclavectl.errors import EnclavectlError

if TYPE_CHECKING:
    from rich.console import Console

ERROR_SCHEMA = "enclavectl.error/1"
_PLAIN_WIDTH = 100
_TRUST_STYLES = {
    "nitro": "bold green",
    "emulated": "bold yellow",
    "simulated": "bold yellow",
    "debug": "bold red",
}
_TRUST_WORDS = {
    "nitro": "AWS signed for this enclave, whose code is measured.",
    "emulated": "QEMU measured this enclave; nobody signed. It protects nothing from this machine's owner.",
    "simulated": (
        "a process on this machine plays the enclave. It protects nothing from this machine's owner."
    ),
    "debug": "the enclave runs in debug mode: nothing measures its code and its console can be read.",
}


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether the command line asks for JSON, also when it is too broken to be parsed."""
    return any(
        argument in {"--output=json", "-ojson", "-o=json"}
        or (argument in {"--output", "-o"} and tuple(arguments[index + 1 : index + 2]) == ("json",))
        for index, argument in enumerate(arguments)
    )


def visible(text: str) -> str:
    """``text`` with every character that is not printable spelled out."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def error_value(error: EnclavectlError) -> dict[str, object]:
    """An error as it stands in JSON."""
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
        self._has_progress = False

    @cached_property
    def out(self) -> Console:
        """The answer's console. It is as wide as the terminal, or 100 columns where there is none."""
        return _console(stderr=False)

    @cached_property
    def err(self) -> Console:
        """The story's console."""
        return _console(stderr=True)

    def load(self) -> None:
        """Import what draws, at a time when there is nothing else to do."""
        import rich.table
        import rich.text

        _ = (self.out, rich.table, rich.text)

    def result(self, value: Mapping[str, object]) -> None:
        """The command's one JSON object."""
        import json

        # ASCII: a file name need not be Unicode, and whoever reads us need not expect UTF-8.
        sys.stdout.write(json.dumps(value, indent=2) + "\n")
        sys.stdout.flush()

    def error(self, error: EnclavectlError) -> None:
        """What was expected, what was found and what to do next; as JSON on standard output if asked."""
        if self.as_json:
            self.result({"schema": ERROR_SCHEMA, "error": error_value(error)})
        sys.stderr.write(f"enclavectl: {visible(error.message)}\n")
        if error.hint:
            sys.stderr.write(f"  try: {visible(error.hint)}\n")
        sys.stderr.flush()

    def line(self, value: Mapping[str, object]) -> None:
        """One JSON object on one line, for commands that answer more than once."""
        import json

        sys.stdout.write(json.dumps(value) + "\n")
        sys.stdout.flush()

    def notice(self, text: str) -> None:
        """The model's notice, which goes with every answer."""
        from rich.text import Text

        self.out.print(Text(visible(text), style="bold"))

    def note(self, text: str) -> None:
        """A fact for a person, on standard error."""
        self._end_progress()
        sys.stderr.write(f"enclavectl: {visible(text)}\n")

    def step(self, text: str) -> None:
        """Something has begun; shown only where a person watches."""
        self._end_progress()
        if sys.stderr.isatty() and not self.as_json:
            self.err.print(f"· {visible(text)}", style="dim")

    def update(self, what: str, elapsed_s: float, bound_s: float) -> None:
        """How far something long is, on one line that is written over; shown only where a person watches."""
        if sys.stderr.isatty() and not self.as_json:
            sys.stderr.write(f"\r\x1b[K· {visible(what)}: {elapsed_s:.0f} s of at most about {bound_s:.0f} s")
            self._has_progress = True

    def trust(self, trust: str) -> None:
        """The line that stands above every answer: what the evidence is worth."""
        from rich.text import Text

        self._end_progress()
        line = Text(trust.upper(), style=_TRUST_STYLES[trust])
        line.append(f"  {_TRUST_WORDS[trust]}", style="default not bold")
        self.out.print(line, soft_wrap=not sys.stdout.isatty())

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """A plain table without borders, one line a row."""
        from rich.table import Table

        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(visible(cell) for cell in row))
        self.out.print(table)

    def heading(self, text: str) -> None:
        """What the next block is about."""
        from rich.text import Text

        self.out.print(Text(visible(text), style="bold"), soft_wrap=True)

    def facts(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Names and values, aligned."""
        from rich.text import Text

        rows = list(pairs)
        width = max((len(name) for name, _ in rows), default=0) + 2
        for name, value in rows:
            line = Text(name.ljust(width), style="dim")
            line.append(visible(value), style="not dim")
            self.out.print(line, soft_wrap=True)

    def _end_progress(self) -> None:
        if self._has_progress:
            sys.stderr.write("\r\x1b[K")
            self._has_progress = False


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    class PipedConsole(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # Rich would end the process, as if that were our bug

    stream = sys.stderr if stderr else sys.stdout
    return PipedConsole(
        stderr=stderr,
        markup=False,
        highlight=False,
        emoji=False,
        soft_wrap=False,
        width=None if stream.isatty() else _PLAIN_WIDTH,
    )
