"""``console``, ``logs`` and ``history``: what enclaves said, and what is kept of those that are gone."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from enclavectl.cli import options
from enclavectl.cli.begin import begin
from enclavectl.cli.lifecycle import Name
from enclavectl.cli.options import OutputFormat

if TYPE_CHECKING:
    from enclavectl.backends.base import Backend, Enclave
    from enclavectl.backends.history import Past
    from enclavectl.cli.screen import Screen

_LAST_LINES = 5
# On a screen, for each of up to 20 enclaves.
_SHOWN_LINES = 2


def console(
    name: Name,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the enclave ends, or Ctrl-C.")
    ] = False,
    save: Annotated[
        Path | None,
        typer.Option("--save", help="Also write it to this file (0600), as it is.", show_default=False),
    ] = None,
    backend: options.BackendName = None,
    config: options.ConfigFile = None,
    output: options.Output = OutputFormat.TEXT,
) -> None:
    """Print what an enclave wrote to its console: the newest megabyte at most.

    A Nitro enclave has one in debug mode only; it is recorded from the start, each line with the time in UTC.
    With --output json the text is in one object; --follow then ends with the enclave.
    """
    from enclavectl.backends.registry import choose_backend, find_enclave

    invocation = begin(output, config, {"backend": backend})
    chosen = choose_backend(invocation.config, invocation.screen)
    enclave = find_enclave(chosen, name)
    with ExitStack() as stack:
        chunks = chosen.console(enclave, follow=follow)
        if save is not None:
            chunks = _copied(chunks, stack.enter_context(_new_private_file(save)))
        if invocation.screen.as_json:
            text = b"".join(chunks).decode("utf-8", errors="replace")
            value = {"schema": "enclavectl.console/1", "trust": str(enclave.trust), "enclave": enclave.name}
            invocation.screen.result({**value, "text": text})
            return
        invocation.screen.note(f"console of {enclave.name} ({enclave.trust})")
        _print(chunks)


def follow_console(screen: Screen, backend: Backend, enclave: Enclave) -> None:
    """The console is shown until the enclave ends; Ctrl-C ends only that, not the enclave."""
    screen.note(f"console of {enclave.name} ({enclave.trust}); Ctrl-C detaches")
    try:
        _print(backend.console(enclave, follow=True))
    except KeyboardInterrupt:
        screen.note(f"detached; {enclave.name} goes on. enclavectl terminate {enclave.name} ends it")


def logs(
    name: Name,
    config: options.ConfigFile = None,
    output: options.Output = OutputFormat.TEXT,
) -> None:
    """Print the console's last lines of an enclave that is gone, and how it ended.

    The newest one of that name is shown. While it runs: enclavectl console.
    """
    from enclavectl.backends.history import History
    from enclavectl.errors import StateError
    from enclavectl.suggest import suggestion

    invocation = begin(output, config, {})
    history = History(invocation.config.state_dir)
    past = history.find(name)
    if past is None:
        names = sorted({one.name for one in history.all()})
        raise StateError(
            f"{name}: no enclave of this name is known to have ended"
            + (f"; {suggestion(name, names)}" if names else ""),
            hint=f"enclavectl console {name} shows one that runs; enclavectl history lists the others",
        )
    if invocation.screen.as_json:
        value = {"schema": "enclavectl.logs/1", "trust": past.trust, "enclave": past.to_json()}
        invocation.screen.result(value)
        return
    invocation.screen.note(f"{past.name} ({past.trust}), started {past.started:%Y-%m-%d %H:%M:%S} UTC")
    if past.console:
        _print(iter([past.console.encode()]))
    else:
        invocation.screen.note("it left no console: only debug mode gives a Nitro enclave one")
    invocation.screen.note(_end_of(past))


def history(
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many, the newest.")] = 20,
    config: options.ConfigFile = None,
    output: options.Output = OutputFormat.TEXT,
) -> None:
    """List enclaves that are gone: when they ran, how they ended, the last they said. Kept: 100."""
    from enclavectl.backends.history import History

    invocation = begin(output, config, {})
    found = History(invocation.config.state_dir).all()[-limit:]
    if invocation.screen.as_json:
        entries = [{**past.to_json(console=False), "last_lines": _last_lines(past)} for past in found]
        invocation.screen.result({"schema": "enclavectl.history/1", "enclaves": entries})
        return
    if not found:
        invocation.screen.note("no enclave that stayed has ended yet")
        return
    rows = [
        (
            past.name,
            past.backend,
            past.trust,
            f"{past.started:%Y-%m-%d %H:%M:%S}",
            "" if past.ended is None else f"{past.ended:%Y-%m-%d %H:%M:%S}",
            past.how,
        )
        for past in found
    ]
    invocation.screen.table(("NAME", "BACKEND", "TRUST", "STARTED (UTC)", "ENDED (UTC)", "HOW"), rows)
    for past in found:
        if lines := _last_lines(past):
            invocation.screen.heading(f"the last that {past.name} said (more: enclavectl logs {past.name})")
            invocation.screen.facts([("", line) for line in lines[-_SHOWN_LINES:]])


def _last_lines(past: Past) -> list[str]:
    return past.console.splitlines()[-_LAST_LINES:]


def _end_of(past: Past) -> str:
    when = "nobody saw when" if past.ended is None else f"{past.ended:%Y-%m-%d %H:%M:%S} UTC"
    return f"{past.name} ended ({when}): {past.how}"


def _print(chunks: Iterator[bytes]) -> None:
    from enclavectl.cli.screen import visible

    for chunk in chunks:
        # An enclave may print what it likes; it must not steer the operator's terminal.
        lines = chunk.decode("utf-8", errors="replace").split("\n")
        sys.stdout.write("\n".join(visible(line) for line in lines))
        sys.stdout.flush()


def _copied(chunks: Iterator[bytes], file: BinaryIO) -> Iterator[bytes]:
    from enclavectl.errors import HostError

    for chunk in chunks:
        try:
            file.write(chunk)
        except OSError as exc:
            raise HostError(f"{file.name}: cannot be written ({exc.strerror})") from exc
        yield chunk


def _new_private_file(path: Path) -> BinaryIO:
    """An empty file that only this user can read; what was there is gone.

    Raises:
        UsageError: it cannot be made.
    """
    from enclavectl.errors import UsageError

    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        os.fchmod(descriptor, 0o600)
    except OSError as exc:
        raise UsageError(f"--save {path}: cannot be written ({exc.strerror})") from exc
    return open(descriptor, "wb", buffering=0)  # noqa: PTH123 - a descriptor, not a path
