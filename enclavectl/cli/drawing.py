"""Drawing with Rich. ``Screen`` imports this at the first drawing; errors, notes and JSON do not need it.

Text is never parsed as markup: Rich would raise on a file name such as ``[/tmp/x]``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from enclavectl.trust import LOCAL_ROOT, Trust

# Where there is no terminal nothing is wrapped or cut: wider than any line of ours.
_UNBOUNDED = 1 << 20
_TRUST_STYLES = {
    "nitro": "bold green",
    "emulated": "bold yellow",
    "simulated": "bold yellow",
    "debug": "bold red",
}
_TRUST_WORDS = {
    "nitro": "AWS signed for this enclave, whose code is measured.",
    "emulated": (
        "a virtual machine on this host plays the enclave: QEMU measured it, nobody signed. It protects "
        "nothing from this host's owner."
    ),
    "simulated": (
        "a development key signed for this enclave, which runs on no protected hardware. It protects nothing "
        "from whoever runs it."
    ),
    "debug": "the enclave runs in debug mode: nothing measures its code and its console can be read.",
}


# For the backend local, whose root signs for nothing but processes.
_PROCESS_WORDS = "a process on this machine plays the enclave. It protects nothing from this machine's owner."


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

    def trust(self, trust: str, root: str | None) -> None:
        """Draw the line above every answer: the trust in the evidence, under the root of that name."""
        line = Text(trust.upper(), style=_TRUST_STYLES[trust])
        is_process = trust == Trust.SIMULATED and root == LOCAL_ROOT
        words = _PROCESS_WORDS if is_process else _TRUST_WORDS[trust]
        line.append(f"  {words}", style="default not bold")
        self.out.print(line)

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

    def bold(self, text: str, *, soft_wrap: bool) -> None:
        """Draw a line in bold."""
        self.out.print(Text(text, style="bold"), soft_wrap=soft_wrap)


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
