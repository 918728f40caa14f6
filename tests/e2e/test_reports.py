"""``diagnose --report``, and batches that are ended before they are through."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from tests.e2e.cli import Cli, sample, wait_until
from tests.e2e.terminals import Terminal
from tests.schemas.validation import parsed
from tests.small_disk import small_disk


def test_a_report_has_previews_and_the_trust_and_says_where_it_is(shared: Cli, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    ran = shared.ok("diagnose", sample("bkl"), sample("nv"), "--report", report)
    assert f"enclavectl: report written to {report}\n" in ran.err
    page = report.read_text()
    assert page.count('src="data:image/jpeg;base64,') == 2
    assert "simulated" in page.lower()
    assert "2 of 2 pictures classified" in page
    assert "http://" not in page.replace("http://www.w3.org/", "")
    shared.ok("diagnose", sample("bkl"), "--report", report)  # a report of ours is written over
    assert "1 of 1 picture classified" in report.read_text()


def test_a_report_never_takes_the_place_of_a_picture(shared: Cli, tmp_path: Path) -> None:
    """As with ``--report *.png``, where the first picture is the report's name."""
    first, second = (Path(shutil.copy(sample(code), tmp_path / f"{code}.png")) for code in ("bkl", "nv"))
    before = first.read_bytes()
    for more in ([], ["--force"]):
        for inputs in ([second], [first, second], [tmp_path]):
            error = shared.refused(2, "diagnose", *more, "--report", first, *inputs)
            assert "an input" in error["message"] or "a picture" in error["message"]
    assert first.read_bytes() == before
    assert sorted(one.name for one in tmp_path.iterdir()) == ["bkl.png", "nv.png"]


def test_a_report_takes_the_place_of_another_file_only_if_told(shared: Cli, tmp_path: Path) -> None:
    mine = tmp_path / "mine.html"
    mine.write_text("mine")
    error = shared.refused(2, "diagnose", sample("nv"), "--report", mine)
    assert "--force" in error["hint"]
    assert mine.read_text() == "mine"
    shared.ok("diagnose", sample("nv"), "--report", mine, "--force")
    assert "1 of 1 picture classified" in mine.read_text()


def test_a_report_that_cannot_be_written_is_refused_before_anything_starts(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine.html").write_text("mine")
    for place in (tmp_path, tmp_path / "no" / "r.html", tmp_path / "mine.html"):
        error = cli.refused(2, "diagnose", sample("bkl"), "--report", place)
        assert "--report" in error["message"]
    assert cli.enclave_folders() == []


def test_a_report_that_the_disk_does_not_take_costs_no_answer(shared: Cli, tmp_path: Path) -> None:
    with small_disk(tmp_path / "full", "4k") as full:
        ran = shared.run("diagnose", "-o", "json", sample("bkl"), "--report", full / "r.html")
    assert ran.status == 3
    assert [one["label"]["code"] for one in ran.json()["results"]] == ["bkl"]
    assert "No space left on device" in ran.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("kind", ["json", "text"])
def test_what_is_answered_when_a_batch_is_ended_is_not_lost(
    shared: Cli, tmp_path: Path, number: signal.Signals, kind: str
) -> None:
    report = tmp_path / "r.html"
    # Standard input stays open: the picture that it is to bring is never read to its end.
    names = [*[str(sample("bkl"))] * 150, "-", *[str(sample("nv"))] * 9]
    terminal = Terminal(shared.start("diagnose", "-o", kind, "--report", str(report), *names))
    wait_until((tmp_path / "r-001.html").exists, "the first page of the report")
    terminal.process.send_signal(number)
    done = terminal.end()
    out, err = done.out, done.err
    assert done.status == 130, err
    assert "interrupted: " in err
    assert "of 160 pictures have a result" in err
    assert "Incomplete" in report.read_text()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["r-001.html", "r-002.html", "r.html"]
    if kind == "json":
        value = parsed(out)
        assert value["complete"] is False
        assert value["pictures"] == 160
        assert 100 <= value["answered"] == len(value["results"]) < 160
        assert value["error"]["code"] == "interrupted"
        assert value["error"]["exit_code"] == 130
    else:
        assert out.count("bkl.png") >= 100
