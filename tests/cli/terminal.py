"""A program on a terminal, and what a person then sees there."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import termios
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_COLUMNS = 100
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|[\r\n]|[^\x1b\r\n]+")


@dataclass(frozen=True, slots=True)
class Shown:
    """What a program wrote to the terminal, byte for byte, what stands there at the end, how it ended."""

    raw: str
    screen: list[str]
    status: int
    out: str


def on_terminal(
    argv: Sequence[str | Path],
    *,
    environ: Mapping[str, str],
    cwd: Path,
    stdout: bool,
    stdin: bytes = b"",
    columns: int = _COLUMNS,
) -> Shown:
    """Run a program whose standard error, and with ``stdout`` also its output, is a terminal.

    Its standard input is that terminal if ``stdin`` has something to be typed, else nothing.
    """
    controller, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (50, columns))
    process = subprocess.Popen(
        argv,
        stdin=terminal if stdin else subprocess.DEVNULL,
        stdout=terminal if stdout else subprocess.PIPE,
        stderr=terminal,
        env={**environ, "TERM": "xterm"},
        cwd=cwd,
    )
    os.close(terminal)
    if stdin:
        os.write(controller, stdin)
    raw = b""
    while True:
        try:
            data = os.read(controller, 1 << 16)
        except OSError:  # every end of the terminal is closed
            break
        if not data:
            break
        raw += data
    out = b"" if process.stdout is None else process.stdout.read()
    if process.stdout is not None:
        process.stdout.close()
    status = process.wait()
    os.close(controller)
    text = raw.decode()
    return Shown(raw=text, screen=rendered(text), status=status, out=out.decode())


def rendered(text: str) -> list[str]:
    """Return what stands on a terminal after ``text``, as far as we use one: CR, LF, erase, colors."""
    lines, column = [""], 0
    for piece in _CONTROL.findall(text):
        if piece == "\r":
            column = 0
        elif piece == "\n":
            lines.append("")
            column = 0
        elif piece == "\x1b[K":
            lines[-1] = lines[-1][:column]
        elif not piece.startswith("\x1b"):
            old = lines[-1].ljust(column)
            lines[-1] = old[:column] + piece + old[column + len(piece) :]
            column += len(piece)
    return [line.rstrip() for line in lines]
