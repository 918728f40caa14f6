"""The only module that starts processes: without a shell, inherited environment or descriptors."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from enclavectl.errors import HostError

# The environment of our child processes: nothing of the user's.
MINIMAL_ENVIRONMENT = {"LANG": "C.UTF-8", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}

# Bytes of a process's output that are read; the outputs that we parse are far smaller.
MAX_CAPTURED_BYTES = 16 * 1024 * 1024
_MAX_LINE = 64 * 1024  # bytes of a line passed on at once; longer lines come in pieces
_TICK_S = 0.02  # how late the end of a process may be noticed whose children keep its outputs open
SLOW_AFTER_S = 2.0  # nitro-cli itself takes tenths; longer waits have a cause that a person should know
_GRACE_S = 10.0  # for an interrupted process to clean up


# Tuples, not dataclasses: those import inspect, ast and dis, and the supervisor of a local enclave must start
# the payload before it imports anything slow.
class Command(NamedTuple):
    """A process to start: the absolute program and its arguments, its folder, its inherited descriptors."""

    argv: Sequence[str]
    cwd: Path
    pass_fds: tuple[int, ...] = ()
    environment: Mapping[str, str] = MINIMAL_ENVIRONMENT


# PR_SET_PDEATHSIG (prctl(2)) survives execve. The parent may have died before, which only its number shows.
_DYING = (
    "import ctypes,os,signal,sys\n"
    "ctypes.CDLL(None).prctl(1,signal.SIGKILL,0,0,0)\n"
    "if os.getppid()==int(sys.argv[1]): os.execv(sys.argv[2],sys.argv[2:])"
)


def dying_with_us(argv: Sequence[str]) -> list[str]:
    """Return the arguments of a program that the kernel kills as soon as this process ends, however it ends.

    For programs that are started by the main thread: the signal is sent at the end of the thread.
    """
    return [sys.executable, "-ISB", "-c", _DYING, str(os.getpid()), *argv]


class Output(NamedTuple):
    """The output of a process that has ended, and its exit status, which is negative for a signal."""

    status: int
    out: bytes
    err: bytes


def capture(command: Command, *, timeout_s: float) -> Output:
    """Run a process without standard input and return its output; kill it after ``timeout_s``.

    It is killed as well when it has written over ``MAX_CAPTURED_BYTES``.

    Raises:
        HostError: it could not be started, did not end in time, or wrote too much.
    """
    program = command.argv[0]
    process = start(command, output=subprocess.PIPE, errors=subprocess.PIPE, in_own_session=False)
    with process:
        try:
            return _read_both(process, program, timeout_s)
        except subprocess.TimeoutExpired as exc:
            raise HostError(f"{program}: did not end within {timeout_s:g} s") from exc
        finally:
            process.kill()  # which does nothing to one that was waited for


def _read_both(process: subprocess.Popen[bytes], program: str, timeout_s: float) -> Output:
    """Return both outputs, once the process has ended: children of it may keep them open."""
    assert process.stdout is not None
    assert process.stderr is not None
    until = time.monotonic() + timeout_s
    texts = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
    still_open = set(texts)
    poll = select.poll()
    for descriptor in texts:
        poll.register(descriptor, select.POLLIN)
    while still_open:
        ready = poll.poll(_TICK_S * 1000)
        if not ready and process.poll() is not None:
            break
        for descriptor, _ in ready:
            texts[descriptor] += (piece := os.read(descriptor, _MAX_LINE))
            if not piece:
                poll.unregister(descriptor)
                still_open.remove(descriptor)
        if sum(map(len, texts.values())) > MAX_CAPTURED_BYTES:
            raise HostError(f"{program}: expected at most {MAX_CAPTURED_BYTES} bytes of output, found more")
        if time.monotonic() > until:
            raise subprocess.TimeoutExpired(program, timeout_s)
    status = process.wait(max(0.0, until - time.monotonic()))
    out, err = map(bytes, texts.values())
    return Output(status=status, out=out, err=err)


def capture_to_the_end(
    command: Command,
    *,
    on_interrupt: Callable[[], None],
    meanwhile: Callable[[], object] | None = None,
    if_slow: Callable[[], object] | None = None,
) -> Output:
    """Run a process until it ends by itself, and return its output. The process is never killed.

    ``meanwhile`` is called while it runs, ``if_slow`` when it still runs after ``SLOW_AFTER_S``.

    The process has its own session, so a Ctrl-C at the terminal does not reach it. If we are interrupted,
    ``on_interrupt`` is called and the process continues without us; it writes to a file in memory, not to a
    pipe that would break.

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
            if if_slow is not None:
                try:
                    process.wait(SLOW_AFTER_S)
                except subprocess.TimeoutExpired:
                    if_slow()
            status = process.wait()
        except KeyboardInterrupt:
            # After an interrupt during its start, the process may run as well.
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
    """Run a process, call ``on_line`` with each line of its output, and return its exit status.

    ``source`` is an open file for its standard input. The lines are of both outputs, without line ends; very
    long ones come in pieces. There is no time limit. An interrupt of ours interrupts the process.

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
    in_own_session: bool = True,
) -> subprocess.Popen[bytes]:
    """Start a process, without standard input; both outputs go to ``output``.

    With ``errors``, the standard error goes there. In a session of its own, no Ctrl-C at the terminal reaches
    it.

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
            start_new_session=in_own_session,
        )
    except OSError as exc:
        raise HostError(f"{command.argv[0]}: cannot be started ({exc.strerror})") from exc


def hide_memory() -> None:
    """Keep this process's memory out of core dumps, and from every other process of the user.

    Programs that it starts are as dumpable as ever. Not RLIMIT_CORE: those would inherit it, and a
    core_pattern that pipes to a program, as systemd's, does not heed it. Where there is no Linux, it is all
    that can be had.

    Raises:
        HostError: the kernel refuses.
    """
    if sys.platform != "linux":
        import resource  # noqa: PLC0415 - not on Windows, where nothing dumps memory by itself

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        return
    import ctypes  # noqa: PLC0415 - takes 10 ms, which most commands do not need

    # include/uapi/linux/prctl.h
    pr_set_dumpable = 4
    if ctypes.CDLL(None, use_errno=True).prctl(pr_set_dumpable, 0, 0, 0, 0) != 0:
        raise HostError(f"prctl(PR_SET_DUMPABLE): {os.strerror(ctypes.get_errno())}")


def handle_of(process_id: int) -> int | None:
    """Open a descriptor that names the process even if its number is reused; None if it has ended."""
    try:
        return os.pidfd_open(process_id)
    except OSError:
        return None


def has_ended(handle: int) -> bool:
    """Return whether the process of that descriptor has ended."""
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(0))


def wait_ended(process: subprocess.Popen[bytes], timeout_s: float) -> bool:
    """Wait for the end of the process; return False if it still runs after ``timeout_s``.

    Unlike ``Popen.wait(timeout)``, which polls every 50 ms, this returns at once when the process ends.
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
