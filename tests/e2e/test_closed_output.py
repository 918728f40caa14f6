"""Standard output that nobody reads any more, or that takes no more: work that counts without it goes on."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.cli import CODES, Cli, sample, wait_until

OUTPUT_CLOSED = 141
COUNT = 14
NOTE = "standard output was closed; the command goes on without it"
FULL_NOTE = "(No space left on device); the command goes on without it"
OUTPUTS = pytest.mark.parametrize("output", ["text", "json"])


@contextmanager
def unread(cli: Cli, *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """A command whose standard output is a pipe that its reader has closed."""
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.Popen(
        [*cli.program, *map(str, arguments)],
        env=cli.environment(),
        cwd=cli.base,
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writer)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def ended(cli: Cli, *arguments: str | Path) -> tuple[int, str]:
    with unread(cli, *arguments) as process:
        _, err = process.communicate(timeout=90)
    assert "Traceback" not in err, err
    return process.returncode, err


def on_a_full_disk(cli: Cli, *arguments: str | Path) -> tuple[int, str]:
    """The exit code and the standard error of a command whose output goes to a full disk."""
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*cli.program, *map(str, arguments)],
            env=cli.environment(),
            cwd=cli.base,
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=90,
            check=False,
        )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stderr


def hung_up(cli: Cli, *arguments: str | Path, seen: int) -> int:
    """The exit code of a command on a terminal that hangs up once ``seen`` bytes are there."""
    controller, terminal = pty.openpty()
    if seen == 0:
        os.close(controller)
    process = subprocess.Popen(
        [*cli.program, *map(str, arguments)],
        env=cli.environment({"TERM": "xterm"}),
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,  # it is no terminal of ours, so that no SIGHUP comes before the write
    )
    os.close(terminal)
    if seen:
        os.read(controller, seen)
        os.close(controller)
    return process.wait(90)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(COUNT):
        (folder / f"{number:03}.png").symlink_to(sample(CODES[number % 7]))
    return folder


@OUTPUTS
def test_a_batch_with_a_results_file_goes_on_to_the_end(shared: Cli, folder: Path, output: str) -> None:
    path = folder.parent / "out.jsonl"
    code, err = ended(shared, "diagnose", folder, "--results", path, "--output", output)
    assert (code, err.count(NOTE)) == (0, 1)
    assert path.read_bytes().count(b"\n") == COUNT


def test_a_batch_with_a_report_and_evidence_goes_on_and_says_that_a_picture_was_refused(
    shared: Cli, folder: Path
) -> None:
    (folder / "damaged.png").write_bytes(sample("bcc").read_bytes()[:5000])
    report, evidence = folder.parent / "a.html", folder.parent / "e.json"
    code, _ = ended(shared, "diagnose", folder, "--report", report, "--evidence", evidence)
    assert code == 5
    assert report.read_text().count("<article") == COUNT + 1
    assert (folder.parent / "e.receipts.jsonl").read_bytes().count(b"\n") == COUNT


def test_a_batch_whose_answers_nobody_keeps_ends_with_a_code_and_says_what_is_missing(
    shared: Cli, folder: Path
) -> None:
    code, err = ended(shared, "diagnose", folder, "--output", "json")
    assert code == OUTPUT_CLOSED
    assert f"of {COUNT} pictures have a result, the others have none" in err
    assert "--results" in err


def test_a_batch_whose_first_line_nobody_reads_has_no_results(shared: Cli, folder: Path) -> None:
    code, err = ended(shared, "diagnose", folder)
    assert code == OUTPUT_CLOSED
    assert f"closed: 0 of {COUNT} pictures have a result" in err
    code, err = ended(shared, "diagnose", sample("nv"))
    assert (code, "closed: the picture has no result" in err) == (OUTPUT_CLOSED, True)


@pytest.mark.parametrize("seen", [0, 1], ids=["before the first byte", "after the first byte"])
def test_a_terminal_that_hangs_up_is_a_reader_that_closed(shared: Cli, folder: Path, seen: int) -> None:
    report = folder.parent / "a.html"
    assert hung_up(shared, "diagnose", folder, "--report", report, seen=seen) == 0
    assert report.read_text().count("<article") == COUNT
    assert hung_up(shared, "list", seen=0) == OUTPUT_CLOSED
    assert hung_up(shared, "list", "--help", seen=0) == OUTPUT_CLOSED


def test_a_console_that_nobody_reads_leaves_the_enclave_and_says_so(cli: Cli) -> None:
    code, err = ended(cli, "run", "--name", "first", "--debug", "--attach")
    assert (code, "first goes on" in err, "enclavectl terminate first" in err) == (OUTPUT_CLOSED, True, True)
    assert [one["name"] for one in cli.ok("list", "-o", "json").json()["enclaves"]] == ["first"]


def test_what_only_prints_ends_in_silence(shared: Cli) -> None:
    code, err = ended(shared, "list")
    assert (code, err) == (OUTPUT_CLOSED, "")


@OUTPUTS
def test_every_picture_is_handed_in(shared: Cli, folder: Path, output: str) -> None:
    before = len(list(shared.state.glob("pending/*")))
    code, _ = ended(shared, "send", folder, "--output", output)
    assert code == 0
    assert len(list(shared.state.glob("pending/*"))) == before + COUNT


@OUTPUTS
def test_a_verdict_is_in_the_exit_code(shared: Cli, tmp_path: Path, output: str) -> None:
    evidence, report = tmp_path / "e.json", tmp_path / "audit.html"
    shared.ok("diagnose", sample("bcc"), "--evidence", evidence)
    code, _ = ended(shared, "verify", evidence, "--no-policy", "--report", report, "-o", output)
    assert code == 4, "AWS's root did not sign it"
    assert "REFUSED" in report.read_text()


def test_an_enclave_in_the_foreground_serves_on(cli: Cli) -> None:
    with unread(cli, "run", "--name", "first", "--foreground") as process:
        assert process.stderr is not None
        seen = iter(process.stderr.readline, "")
        assert any(NOTE in line for line in seen), process.poll()
        assert [one["name"] for one in cli.ok("list", "-o", "json").json()["enclaves"]] == ["first"]
        cli.ok("diagnose", sample("nv"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_an_answer_that_nobody_read_stays_for_the_next_listener(cli: Cli) -> None:
    cli.ok("run", "--name", "first")
    cli.ok("send", sample("nv"))
    with unread(cli, "listen", "--count", "1", "--timeout", "60") as process:
        assert process.wait(90) == OUTPUT_CLOSED
    assert "nv" in cli.ok("listen", "--count", "1", "--timeout", "60").out


def test_a_closed_standard_error_stops_nothing(cli: Cli) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    words = [*cli.program, "run", "--debug", "--name", "first"]  # which has something to say
    done = subprocess.run(
        words, env=cli.environment(), stdout=subprocess.PIPE, stderr=writer, timeout=90, check=False
    )
    os.close(writer)
    assert done.returncode == 0
    wait_until(lambda: "first" in cli.ok("list").out, "it runs")


@pytest.mark.parametrize(
    "options", [(), ("--output", "json"), ("--no-wait",), ("--debug", "--attach")], ids=" ".join
)
def test_a_full_disk_below_the_output_of_run_leaves_an_enclave_that_is_told(
    cli: Cli, options: tuple[str, ...]
) -> None:
    """Exit code 3 alone reads as: nothing was started."""
    code, err = on_a_full_disk(cli, "run", "--name", "first", *options)
    assert (code, "cannot be written (No space left on device)" in err) == (3, True), err
    assert ("first goes on" in err, "enclavectl terminate first ends it" in err) == (True, True), err
    assert [one["name"] for one in cli.ok("list", "-o", "json").json()["enclaves"]] == ["first"]
    code, err = on_a_full_disk(cli, "terminate", "first", *(options if "json" in options else ()))
    assert (code, err.count(FULL_NOTE), "is complete" in err) == (3, 1, True), err
    assert cli.ok("list", "-o", "json").json()["enclaves"] == []


@OUTPUTS
def test_a_full_disk_below_the_output_stops_no_work_that_counts_without_it(
    shared: Cli, folder: Path, output: str
) -> None:
    report, results = folder.parent / "a.html", folder.parent / "out.jsonl"
    for kept in (("--report", report), ("--results", results)):
        code, err = on_a_full_disk(shared, "diagnose", folder, *kept, "--output", output)
        assert (code, err.count(FULL_NOTE), "is complete" in err) == (3, 1, True), err
    assert report.read_text().count("<article") == COUNT
    assert results.read_bytes().count(b"\n") == COUNT
    before = len(list(shared.state.glob("pending/*")))
    code, err = on_a_full_disk(shared, "send", folder, "--output", output)
    assert (code, err.count(FULL_NOTE), "is complete" in err) == (3, 1, True), err
    assert len(list(shared.state.glob("pending/*"))) == before + COUNT


@OUTPUTS
def test_a_full_disk_below_the_output_does_not_hide_the_verdict(
    shared: Cli, tmp_path: Path, output: str
) -> None:
    evidence = tmp_path / "e.json"
    shared.ok("diagnose", sample("bcc"), "--evidence", evidence)
    code, err = on_a_full_disk(shared, "verify", evidence, "--no-policy", "-o", output)
    assert (code, err.count(FULL_NOTE), "is complete" in err) == (4, 1, False), err


def test_a_full_disk_below_the_answers_of_a_batch_says_how_many_there_are(shared: Cli, folder: Path) -> None:
    code, err = on_a_full_disk(shared, "diagnose", folder)
    assert (code, f"(No space left on device); 0 of {COUNT} pictures have a result" in err) == (3, True), err
    assert "--results" in err


def test_a_full_disk_below_the_output_of_an_enclave_in_the_foreground_leaves_it_serving(cli: Cli) -> None:
    with (
        Path("/dev/full").open("wb") as full,
        subprocess.Popen(
            [*cli.program, "run", "--name", "first", "--foreground"],
            env=cli.environment(),
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stderr is not None
        assert any(FULL_NOTE in line for line in iter(process.stderr.readline, "")), process.poll()
        cli.ok("diagnose", sample("nv"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 3
    assert cli.ok("list", "-o", "json").json()["enclaves"] == []
