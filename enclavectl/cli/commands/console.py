"""``enclavectl console``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from enclavectl.backends.registry import choose_backend, find_enclave
from enclavectl.cli import options
from enclavectl.cli.console_text import print_console
from enclavectl.cli.invocation import begin
from enclavectl.cli.options import OutputFormat
from enclavectl.errors import HostError, Interrupted, UsageError

CONSOLE_SCHEMA = "enclavectl.console/1"

Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on until the enclave ends, or Ctrl-C.")]
Save = Annotated[
    Path | None, typer.Option("--save", metavar="FILE", help="Also write it to this file (0600), as it is.")
]


def console(
    name: options.Name,
    follow: Follow = False,
    save: Save = None,
    backend: options.BackendName = None,
    config: options.ConfigFile = None,
    output: options.Output = OutputFormat.TEXT,
) -> None:
    """Print what a running enclave wrote to its console.

    Prints the newest megabyte at most. A Nitro enclave has a console in debug mode only; it is recorded from
    the start, each line with the time in UTC. With --output json the text is in one object, which --follow
    prints at the end.

    Examples:
      enclavectl console first                     what it wrote so far
      enclavectl console --follow first            and what it goes on to write
      enclavectl console --save console.log first  to a file as well
    """
    invocation = begin(output, config, {"backend": backend})
    chosen = choose_backend(invocation.config, invocation.screen)
    enclave = find_enclave(chosen, name)
    with ExitStack() as stack:
        chunks = chosen.console(enclave, follow=follow)
        if save is not None:
            chunks = _copied(chunks, stack.enter_context(_new_private_file(save)))
        if invocation.screen.as_json:
            collected, interrupted = _collected(chunks)
            text = collected.decode("utf-8", errors="replace")
            value = {"schema": CONSOLE_SCHEMA, "trust": str(enclave.trust), "enclave": enclave.name}
            invocation.screen.result({**value, "text": text})
            if interrupted is not None:
                raise interrupted
            return
        invocation.screen.note(f"console of {enclave.name} ({enclave.trust})")
        print_console(chunks)


def _collected(chunks: Iterator[bytes]) -> tuple[bytes, Interrupted | None]:
    """Return what came until the end or an interruption, and what to end with in the latter case."""
    text = bytearray()
    try:
        for chunk in chunks:
            text += chunk
    except KeyboardInterrupt:
        return bytes(text), Interrupted("interrupted", after_answer=True)
    return bytes(text), None


def _copied(chunks: Iterator[bytes], file: BinaryIO) -> Iterator[bytes]:
    for chunk in chunks:
        try:
            file.write(chunk)
        except OSError as exc:
            raise HostError(f"{file.name}: cannot be written ({exc.strerror})") from exc
        yield chunk


def _new_private_file(path: Path) -> BinaryIO:
    """Create an empty file that only this user can read, in place of any old one.

    Raises:
        UsageError: it cannot be created.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        os.fchmod(descriptor, 0o600)
    except OSError as exc:
        raise UsageError(f"--save {path}: cannot be written ({exc.strerror})") from exc
    return open(descriptor, "wb", buffering=0)  # noqa: PTH123 - a descriptor, not a path
