"""``enclavectl console``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Annotated

import typer

from enclavectl.backends.registry import choose_backend, find_enclave
from enclavectl.cli import options
from enclavectl.cli.console_text import print_console
from enclavectl.cli.invocation import begin
from enclavectl.cli.options import OutputFormat
from enclavectl.errors import HostError, Interrupted, UsageError
from enclavectl.files import require_output
from enclavectl.new_files import require_new, write_whole

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
            file = stack.enter_context(new_private_file(save))
            chunks = copied(chunks, file, save, keeps_part=follow)
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


def copied(chunks: Iterator[bytes], file: FileIO, path: Path, *, keeps_part: bool) -> Iterator[bytes]:
    """Write each chunk to ``file``, which is at ``path``, before it is yielded.

    ``keeps_part``: where the disk fills up, what was written before stays.

    Raises:
        HostError: the file system refused.
    """
    for chunk in chunks:
        try:
            write_whole(file.fileno(), chunk)
        except OSError as exc:
            if not keeps_part:
                file.truncate(0)  # all of it is still to be had, and a part would pass for the whole
            raise HostError(
                f"--save {path}: cannot be written ({exc.strerror})", hint="is the disk full? df -h"
            ) from exc
        yield chunk


@contextmanager
def new_private_file(path: Path) -> Iterator[FileIO]:
    """Create an empty file that only this user can read; remove it if the block fails and nothing is in it.

    Raises:
        UsageError: something is there, or its folder is missing, takes no files or is full.
    """
    require_new("--save", path)
    require_output("--save", path)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.fchmod(descriptor, 0o600)
    except OSError as exc:
        raise UsageError(f"--save {path}: cannot be written ({exc.strerror})") from exc
    with FileIO(descriptor, "wb") as file:
        try:
            yield file
        except BaseException:
            if os.fstat(descriptor).st_size == 0:
                with suppress(OSError):
                    path.unlink()  # it would refuse the next try
            raise
