"""Signals that end a command, and blocks that they do not cut in two."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from enclavectl.cli.signals import ending_as_interrupted, gating_interrupts, holding_interrupts_back
from tests.cli.command import COMMAND


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_block_is_done_before_the_interruption_comes(number: signal.Signals) -> None:
    done: list[str] = []
    with ending_as_interrupted():
        before = signal.getsignal(number)

        def block() -> None:
            with holding_interrupts_back():
                os.kill(os.getpid(), number)
                done.append("the rest of the block")

        with pytest.raises(KeyboardInterrupt):
            block()
        assert signal.getsignal(number) is before
    assert done == ["the rest of the block"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_between_blocks_an_interruption_comes_at_once(number: signal.Signals) -> None:
    done: list[str] = []

    def blocks() -> None:
        for name in ("first", "second"):
            with gate:
                done.append(name)
            os.kill(os.getpid(), number)
            done.append(f"after the {name}")

    with ending_as_interrupted():
        before = signal.getsignal(number)
        with pytest.raises(KeyboardInterrupt), gating_interrupts() as gate:
            blocks()
        assert signal.getsignal(number) is before
    assert done == ["first"]


def test_without_a_signal_nothing_is_raised() -> None:
    with holding_interrupts_back():
        pass


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with holding_interrupts_back():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


# A stand-in for the first module that loads, which is interrupted where Ctrl-C would come.
_INTERRUPTED_LOADING = """
import sys, types
class Loading(types.ModuleType):
    def __getattr__(self, name):
        raise KeyboardInterrupt
sys.modules["enclavectl.cli.boundary"] = Loading("enclavectl.cli.boundary")
from enclavectl.cli.main import main
main()
"""


def test_an_interruption_while_the_command_loads_is_no_traceback() -> None:
    program = [sys.executable, "-c", _INTERRUPTED_LOADING]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "enclavectl: interrupted\n")


@pytest.mark.parametrize(
    ("command", "pipe", "status"),
    [
        ("schema", "|", 141),
        ("schema nosuch", "2>&1 >/dev/null |", 2),
        ("schema nosuch", "|&", 2),
        ("policy", "|&", 2),
    ],
)
def test_a_pipe_that_nobody_reads_is_no_success(command: str, pipe: str, status: int) -> None:
    """``grep -q`` closes its pipe early, and what it did not read may have been a refusal."""
    script = f'"$0" {command} {pipe} true; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(
        ["bash", "-c", script, COMMAND], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False
    )
    assert done.returncode == status
    assert b"Traceback" not in done.stderr


def test_a_pipe_of_our_own_is_no_closed_output_because_nobody_reads_errors() -> None:
    """A closed standard error must not hide a bug behind 141."""
    program = (
        "import sys; from enclavectl.cli.closed_output import is_output_closed as closed; sys.exit(closed())"
    )
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=writer, check=False)
    os.close(writer)
    assert done.returncode == 0
