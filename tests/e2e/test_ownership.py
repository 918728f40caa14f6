"""Enclaves that a command started for itself: nobody else uses them, and their loss costs no picture."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.e2e.cli import Cli, kill, sample, wait_until
from tests.schemas.validation import parsed


@contextmanager
def waiting_diagnose(cli: Cli, *more: object, output: str = "json") -> Iterator[subprocess.Popen[bytes]]:
    """A ``diagnose`` whose enclave runs, and which waits for its last picture on standard input.

    ``more`` begins with a picture: without one to send, no enclave would be started.
    """
    argv = [*cli.program, "diagnose", *map(str, more), "-", "--output", output]
    with subprocess.Popen(
        argv,
        env=cli.environment({"ENCLAVECTL_DIAGNOSE_IN_FLIGHT": "1"}),
        cwd=cli.base,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            wait_until(lambda: [one["state"] for one in listed(cli)] == ["RUNNING"], "its enclave runs")
            yield process
        finally:
            process.kill()


def listed(cli: Cli) -> list[dict[str, object]]:
    found: list[dict[str, object]] = cli.ok("list", "-o", "json").json()["enclaves"]
    return found


def test_a_second_diagnose_starts_an_enclave_of_its_own(cli: Cli) -> None:
    with waiting_diagnose(cli, sample("mel")) as first:
        (owned,) = listed(cli)
        assert owned["owned"] is True
        assert "RUNNING (owned)" in cli.ok("list").out
        assert "the command that started it" in cli.ok("describe", str(owned["name"])).out
        ran = cli.ok("diagnose", sample("nv"), "-o", "json")
        assert ran.json()["evidence"]["module_id"].endswith(str(owned["id"])) is False
        assert "no enclave is running" in cli.refused(6, "send", sample("nv"))["message"]
        for command in ("diagnose", "send"):
            refused = cli.refused(6, command, "--enclave", str(owned["name"]), sample("nv"))
            assert refused["code"] == "owned"
        out, _ = first.communicate(sample("bcc").read_bytes(), timeout=60)
    assert first.returncode == 0
    assert [one["label"]["code"] for one in parsed(out.decode())["results"]] == ["mel", "bcc"]
    cli.assert_nothing_left()


def test_an_enclave_that_another_command_ended_is_told_as_that(cli: Cli) -> None:
    """Before its session there is nothing to go on with; afterwards another enclave answers the rest."""
    with waiting_diagnose(cli, sample("mel")) as command:
        cli.ok("terminate", "--all")
        out, err = command.communicate(sample("nv").read_bytes(), timeout=60)
    assert b"memory" not in err
    if command.returncode == 0:
        assert [one["label"]["code"] for one in parsed(out.decode())["results"]] == ["mel", "nv"]
    else:
        assert command.returncode == 5
        assert parsed(out.decode())["error"]["code"] == "payload-ended"
        assert b"another command terminated it" in err


def test_a_batch_goes_on_with_another_enclave_when_its_own_is_killed(cli: Cli) -> None:
    names = [sample(code) for code in ("nv", "bcc")]
    with waiting_diagnose(cli, *names, output="text") as command:
        (owned,) = listed(cli)
        assert command.stdout is not None
        while not (line := command.stdout.readline()).lstrip().startswith(b"bcc "):
            assert line  # both answers are there, and the third picture is waited for
        kill(int(str(owned["pid"])))
        wait_until(lambda: owned["name"] not in [one["name"] for one in listed(cli)], "it is gone")
        out, err = command.communicate(sample("mel").read_bytes(), timeout=60)
    assert command.returncode == 0, err
    assert [line.split()[0] for line in out.splitlines() if b"%" in line][-3] == b"mel"
    assert b"verified, of a later session: enclave i-" in out
    assert b"going on with another enclave" in err
    cli.assert_nothing_left()


def test_without_a_name_an_enclave_gets_two_words(cli: Cli) -> None:
    ran = cli.ok("run", "-o", "json").json()
    first, second = str(ran["enclave"]["name"]).split("-")
    assert first.isalpha()
    assert second.isalpha()
    cli.ok("terminate", f"{first}-{second}")
