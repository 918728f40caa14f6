"""Drawing with Rich. ``Screen`` imports this at the first drawing; errors, notes and JSON do not need it.

Text is never parsed as markup: Rich would raise on a file name such as ``[/tmp/x]``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

# Where there is no terminal nothing is wrapped or cut: wider than any line of ours.
_UNBOUNDED = 1 << 20


class _PipedConsole(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # Rich would end the process, as if that were our bug


class Drawing:
    """The two consoles, and the forms that all commands draw."""

    def __init__(self) -> None:
        self.out = _console(stderr=False)
        self.err = _console(stderr=True)

    def step(self, text: str) -> None:
        """Draw the step that has begun, on standard error."""
        self.err.print(f"· {text}", style="dim")

    def line(self, parts: Iterable[tuple[str, str]], *, soft_wrap: bool, is_cut: bool) -> None:
        """Draw parts of a line, each in its style; a line that is cut ends with an ellipsis."""
        text = Text.assemble(*parts)
        if is_cut:
            self.out.print(text, overflow="ellipsis", no_wrap=True)
        else:
            self.out.print(text, soft_wrap=soft_wrap)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Draw a table without borders."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*row)
        self.out.print(table)

    def facts(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Draw values behind their names, which are of one width."""
        for name, value in pairs:
            line = Text(name, style="dim").append(value, style="not dim")
            line.rstrip()
            self.out.print(line, soft_wrap=True)


def _console(*, stderr: bool) -> Console:
    """Return a console that is as wide as the terminal, or wraps nothing where there is none."""
    stream = sys.stderr if stderr else sys.stdout
    return _PipedConsole(
        stderr=stderr,
        markup=False,
        highlight=False,
        emoji=False,
        soft_wrap=False,
        width=None if stream.isatty() else _UNBOUNDED,
    )
