"""The only module that starts processes. Lists, never a shell; no inherited environment or descriptors."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from enclavectl.errors import HostError

# What a child of ours may know of its surroundings: nothing of the user's.
MINIMAL_ENVIRONMENT = {"LANG": "C.UTF-8", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}

# Of what a process wrote, at most so much is looked at.
MAX_CAPTURED_BYTES = 16 * 1024 * 1024
_MAX_LINE = 64 * 1024  # of a line that is handed on at once
_GRACE_S = 10.0  # for an interrupted process to take back what it has begun


# Tuples, and not dataclasses as elsewhere: those load inspect, ast and dis, and the supervisor of a local
# enclave starts the payload before it loads anything that takes long.
class Command(NamedTuple):
    """A process to start: absolute program first, its folder, and the descriptors it is handed."""

    argv: Sequence[str]
    cwd: Path
    pass_fds: tuple[int, ...] = ()
    environment: Mapping[str, str] = MINIMAL_ENVIRONMENT


class Output(NamedTuple):
    """What a process that has ended wrote, and its exit status; negative for a signal."""

    status: int
    out: bytes
    err: bytes


def capture(command: Command, *, timeout_s: float) -> Output:
    """Run a process without standard input, and return what it wrote; it is killed after ``timeout_s``.

    Raises:
        HostError: it could not be started, or did not end in time.
    """
    try:
        done = subprocess.run(
            list(command.argv),
            cwd=command.cwd,
            env=dict(command.environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            pass_fds=command.pass_fds,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise HostError(f"{command.argv[0]}: did not end within {timeout_s:g} s") from exc
    except OSError as exc:
        raise HostError(f"{command.argv[0]}: cannot be started ({exc.strerror})") from exc
    return Output(status=done.returncode, out=done.stdout, err=done.stderr)


def capture_to_the_end(
    command: Command,
    *,
    on_interrupt: Callable[[], None],
    meanwhile: Callable[[], object] | None = None,
) -> Output:
    """Run a process until it ends by itself, and return what it wrote: it is never killed.

    ``meanwhile`` is called while it runs.

    It has a session of its own, so that a Ctrl-C of the terminal is not for it. If we are interrupted,
    ``on_interrupt`` is called and the process goes on without us; it writes to memory, not to a pipe whose
    end could break it.

    Raises:
        HostError: it could not be started.
        KeyboardInterrupt: we were interrupted; the process may still run.
    """
    with (
        os.fdopen(os.memfd_create("stdout"), "w+b") as out,
        os.fdopen(os.memfd_create("stderr"), "w+b") as err,
    ):
        process = None
        try:
            process = start(command, output=out, errors=err)
            if meanwhile is not None:
                meanwhile()
            status = process.wait()
        except KeyboardInterrupt:
            # Interrupted while it was being started, it may run as well.
            ended = None if process is None else process.poll()
            if ended is None:
                on_interrupt()
            if process is not None:
                process.returncode = ended or 0  # Popen must not warn that we did not wait
            raise
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read(MAX_CAPTURED_BYTES))
    return Output(status=status, out=texts[0], err=texts[1])


def follow(
    command: Command, *, on_line: Callable[[str], None], source: IO[bytes] | int = subprocess.DEVNULL
) -> int:
    """Call ``on_line`` with each line of a process as it writes it, and return its exit status at its end.

    ``source`` is an open file that becomes its standard input.
    Lines of both outputs, without their ends; very long ones come in pieces. There is no time limit. If we
    are interrupted, so is the process.

    Raises:
        HostError: it could not be started.
    """
    with start(command, output=subprocess.PIPE, source=source) as process:
        try:
            while process.stdout is not None and (line := process.stdout.readline(_MAX_LINE)):
                on_line(line.decode(errors="replace").rstrip("\r\n"))
            return process.wait()
        except BaseException:
            process.send_signal(signal.SIGINT)
            if not wait_ended(process, _GRACE_S):
                process.kill()
            raise


def start(
    command: Command,
    *,
    output: IO[bytes] | int,
    errors: IO[bytes] | int = subprocess.STDOUT,
    source: IO[bytes] | int = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """Start a process in its own session, with no standard input; both outputs go to ``output``.

    ``errors`` takes the standard error apart.

    Raises:
        HostError: it could not be started.
    """
    try:
        return subprocess.Popen(
            list(command.argv),
            cwd=command.cwd,
            env=dict(command.environment),
            stdin=source,
            stdout=output,
            stderr=errors,
            pass_fds=command.pass_fds,
            start_new_session=True,
        )
    except OSError as exc:
        raise HostError(f"{command.argv[0]}: cannot be started ({exc.strerror})") from exc


def handle_of(process_id: int) -> int | None:
    """Open a descriptor for a process, so that its number cannot be reused; None if it has ended."""
    try:
        return os.pidfd_open(process_id)
    except OSError:
        return None


def has_ended(handle: int) -> bool:
    """Whether the process of that descriptor has."""
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(0))


def wait_ended(process: subprocess.Popen[bytes], timeout_s: float) -> bool:
    """Whether the process has ended, at once when it does; False if it runs on after ``timeout_s``.

    Not ``Popen.wait(timeout)``: that looks again only every 50 ms.
    """
    if process.poll() is not None:
        return True
    handle = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        poll.poll(timeout_s * 1000)
    finally:
        os.close(handle)
    return process.poll() is not None
