"""Console output on the screen. An enclave may print any bytes, which must not control the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from enclavectl.cli.screen import Screen
from enclavectl.errors import visible

if TYPE_CHECKING:
    from enclavectl.backends.base import Backend, Enclave


def print_console(chunks: Iterable[bytes]) -> None:
    """Print console bytes as they come; escape each control character except the line end."""
    for chunk in chunks:
        lines = chunk.decode("utf-8", errors="replace").split("\n")
        sys.stdout.write("\n".join(visible(line) for line in lines))
        sys.stdout.flush()


def follow_console(screen: Screen, backend: Backend, enclave: Enclave) -> None:
    """Print the console until the enclave ends. Ctrl-C ends the printing, not the enclave."""
    screen.note(f"console of {enclave.name} ({enclave.trust}); Ctrl-C detaches")
    try:
        print_console(backend.console(enclave, follow=True))
    except KeyboardInterrupt:
        screen.note(f"detached; {enclave.name} goes on. enclavectl terminate {enclave.name} ends it")
