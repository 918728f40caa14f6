"""A report on the disk: what it may be written over, and how pages come of results in any order."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from enclavectl.client.pictures import Picture
from enclavectl.errors import EnclavectlError, HostError, UsageError
from enclavectl.evidence.file import EvidenceCode, EvidenceError
from enclavectl.evidence.verification import unreadable
from enclavectl.files import STAGED_GLOB
from enclavectl.results.audit_page import write_audit_page
from enclavectl.results.report import PICTURES_PER_PAGE, ReportWriter, check_target, page_paths
from tests.results.pages import Page, diagnosis, picture, refusal, result

HEAD = diagnosis()


def write(path: Path, *results: dict[str, object], total: int | None = None) -> Page:
    writer = ReportWriter(path, len(results) if total is None else total, HEAD)
    for index, one in enumerate(results):
        writer.add(index, one, picture())
    return Page(writer.finish().read_text())


def page(path: Path) -> Page:
    return Page(path.read_text())


def images(path: Path) -> list[str]:
    return [str(one["alt"]).removeprefix("The picture ") for one in page(path).named("img")]


def test_one_page_has_an_overview_the_answers_and_the_evidence(tmp_path: Path) -> None:
    found = write(tmp_path / "r.html", result("a"), refusal("b"), result("c"))
    for expected in (
        "2 of 3 pictures classified",
        "Overview",
        "1 without an answer",
        "Evidence",
        "It proves",
    ):
        assert expected in found.text, expected
    assert images(tmp_path / "r.html") == ["a", "c"]
    assert {one["href"] for one in found.named("a")} == {"#picture-1", "#picture-2", "#picture-3"}
    assert {one["id"] for one in found.named("article")} == {"picture-1", "picture-2", "picture-3"}
    assert sorted(one.name for one in tmp_path.iterdir()) == ["r.html"]
    assert (tmp_path / "r.html").stat().st_mode & 0o777 == 0o600


def test_the_evidence_of_each_enclave_is_on_the_page_that_one_opens(tmp_path: Path) -> None:
    """A batch whose enclave was lost went on with another one, whose evidence counts as much."""
    writer = ReportWriter(tmp_path / "r.html", 2, HEAD)
    writer.add(0, {**result("a"), "session": 0}, picture())
    writer.add(1, {**result("b"), "session": 1}, picture())
    later = {**cast("dict[str, object]", diagnosis()["evidence"]), "module_id": "i-later"}
    found = Page(writer.finish([later]).read_text())
    assert (
        found.text.index("Evidence\n")
        < found.text.index("i-0123")
        < found.text.index("Evidence of session 2")
    )
    assert found.text.index("Evidence of session 2") < found.text.index("i-later")
    assert found.text.count("Answered by enclave") == 1
    assert "Answered by enclave 2" in found.text.partition("2. b")[2]


def test_evidence_of_a_later_enclave_that_nothing_verified_makes_the_page_loud(tmp_path: Path) -> None:
    writer = ReportWriter(tmp_path / "r.html", 1, HEAD)
    writer.add(0, result("a"), picture())
    later = {**cast("dict[str, object]", diagnosis()["evidence"]), "verified": False}
    assert "banner loud" in writer.finish([later]).read_text()


def test_results_come_in_any_order(tmp_path: Path) -> None:
    order = list(range(2 * PICTURES_PER_PAGE + 5))
    random.Random(5).shuffle(order)
    writer = ReportWriter(tmp_path / "r.html", len(order), HEAD)
    for index in order:
        writer.add(index, result(str(index)), picture())
    writer.finish()
    first, second, third = page_paths(tmp_path / "r.html", len(order))
    assert images(first) + images(second) + images(third) == [str(index) for index in range(len(order))]


def test_a_long_batch_is_an_index_with_numbered_pages_beside_it(tmp_path: Path) -> None:
    total = 2 * PICTURES_PER_PAGE + 1
    found = write(tmp_path / "a b#c.html", *[result(str(number)) for number in range(total)])
    names = ["a b#c-001.html", "a b#c-002.html", "a b#c-003.html", "a b#c.html"]
    assert sorted(one.name for one in tmp_path.iterdir()) == names
    assert found.named("img") == []
    assert f"{total} of {total} pictures classified" in found.text
    assert "Evidence" in found.text
    hrefs = [str(one["href"]) for one in found.named("a")]
    assert hrefs[-3:] == [f"./a%20b%23c-00{number}.html" for number in (1, 2, 3)]
    assert f"./a%20b%23c-001.html#picture-{1}" in hrefs
    middle = page(tmp_path / names[1])
    assert f"Pictures {PICTURES_PER_PAGE + 1} to {2 * PICTURES_PER_PAGE} of {total}" in middle.text
    links = {one["href"] for one in middle.named("a")}
    assert links == {"./a%20b%23c.html", "./a%20b%23c-001.html", "./a%20b%23c-003.html"}
    for number in (1, 3):
        assert len(page(tmp_path / names[number - 1]).named("a")) == 4  # overview and a neighbor, twice
    assert "For demonstration only." in middle.text


def test_pages_are_written_as_their_answers_come_and_get_their_names_at_the_end(tmp_path: Path) -> None:
    writer = ReportWriter(tmp_path / "r.html", 3 * PICTURES_PER_PAGE, HEAD)
    for index in range(PICTURES_PER_PAGE + 1):
        writer.add(index, result(str(index)), None)
    [staged] = tmp_path.iterdir()
    assert staged.match(STAGED_GLOB)
    assert "Pictures 1 to 100 of 300" in staged.read_text()
    writer.finish()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["r-001.html", "r-002.html", "r.html"]


def test_a_report_that_is_given_up_leaves_the_one_before_it(tmp_path: Path) -> None:
    results = [result(str(index)) for index in range(PICTURES_PER_PAGE + 1)]
    write(tmp_path / "r.html", *results)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    writer = ReportWriter(tmp_path / "r.html", 2 * PICTURES_PER_PAGE, HEAD)
    for index in range(PICTURES_PER_PAGE + 1):
        writer.add(index, result(f"new {index}"), None)
    writer.discard()
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("answered", [0, 5, PICTURES_PER_PAGE, PICTURES_PER_PAGE + 5])
def test_an_interrupted_batch_has_what_was_answered_and_no_dead_links(tmp_path: Path, answered: int) -> None:
    total = 3 * PICTURES_PER_PAGE
    found = write(tmp_path / "r.html", *[result(str(index)) for index in range(answered)], total=total)
    assert f"{total - answered} of {total} pictures got neither" in found.text
    assert f"{answered} of {total} pictures classified" in found.text
    for path in tmp_path.iterdir():
        for link in page(path).named("a"):
            assert (tmp_path / str(link["href"]).partition("#")[0]).is_file()


def test_answers_behind_a_gap_are_on_the_page_that_links_name(tmp_path: Path) -> None:
    writer = ReportWriter(tmp_path / "r.html", 2 * PICTURES_PER_PAGE, HEAD)
    for index in (*range(PICTURES_PER_PAGE - 3), PICTURES_PER_PAGE + 1, PICTURES_PER_PAGE - 1):
        writer.add(index, result(str(index)), picture())
    found = Page(writer.finish().read_text())
    for link in found.named("a"):
        name, _, anchor = str(link["href"]).partition("#")
        if anchor:
            assert anchor in {one["id"] for one in page(tmp_path / name).named("article")}
    assert images(tmp_path / "r-002.html") == [str(PICTURES_PER_PAGE + 1)]
    assert "2 of" not in found.text.partition("Incomplete")[0]


def test_a_full_disk_stops_the_report_and_not_the_answers(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    writer = ReportWriter(folder / "r.html", 2 * PICTURES_PER_PAGE, HEAD)
    folder.rmdir()
    for index in range(2 * PICTURES_PER_PAGE):
        writer.add(index, result(str(index)), picture())
    with pytest.raises(HostError, match="gone"):
        writer.finish()


def check(path: Path, *inputs: Path | str, total: int = 1, force: bool = False) -> None:
    check_target(path, [str(one) for one in inputs], total, force=force)


def test_a_new_file_and_a_report_of_ours_may_be_written(tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    check(path, tmp_path / "a.png")
    write(path, result())
    check(path, tmp_path / "a.png")
    (tmp_path / "empty.html").touch()
    check(tmp_path / "empty.html")


@pytest.mark.parametrize("force", [False, True])
def test_an_input_is_never_written_over(tmp_path: Path, force: bool) -> None:
    scan = tmp_path / "scan"
    scan.write_bytes(b"not even a picture")
    link, hard = tmp_path / "link", tmp_path / "hard"
    link.symlink_to(scan)
    os.link(scan, hard)
    for path in (scan, link, hard, tmp_path / ".." / tmp_path.name / "scan"):
        with pytest.raises(UsageError, match="expected a file that is not an input"):
            check(path, "-", tmp_path / "other", scan, force=force)


@pytest.mark.parametrize("force", [False, True])
def test_a_picture_is_never_written_over(tmp_path: Path, force: bool) -> None:
    (tmp_path / "a.png").write_bytes(picture().data)
    with pytest.raises(
        UsageError, match=r"a\.png: expected nothing there or a report, found a picture"
    ) as info:
        check(tmp_path / "a.png", tmp_path / "b.png", force=force)
    assert "--report answers.html PICTURE" in str(info.value.hint)


def test_a_file_of_somebody_elses_needs_force(tmp_path: Path) -> None:
    path = tmp_path / "thesis.html"
    path.write_text("<html>years of work</html>")
    with pytest.raises(UsageError, match="found another file") as info:
        check(path)
    assert "--force" in str(info.value.hint)
    check(path, force=True)
    assert path.read_text() == "<html>years of work</html>"


def test_numbered_pages_are_looked_at_as_well(tmp_path: Path) -> None:
    (tmp_path / "r-002.html").write_text("mine")
    check(tmp_path / "r.html", total=PICTURES_PER_PAGE)
    with pytest.raises(UsageError, match=r"r-002\.html: expected nothing there or a report"):
        check(tmp_path / "r.html", total=PICTURES_PER_PAGE + 1)


@pytest.mark.parametrize("name", [".", "no/r.html", "fifo"])
@pytest.mark.parametrize("force", [False, True])
def test_what_cannot_be_a_report_is_refused(tmp_path: Path, name: str, force: bool) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UsageError, match="--report"):
        check(tmp_path / name, force=force)


def test_nothing_of_a_picture_but_its_preview_is_in_a_report(tmp_path: Path) -> None:
    secret = Picture("a.png", picture().media_type, picture().data)
    writer = ReportWriter(tmp_path / "r.html", 1, HEAD)
    writer.add(0, result(), secret)
    text = writer.finish().read_text()
    assert re.findall(r'src="data:([^;]+);', text) == ["image/jpeg"]


STOPPED = """
import os, sys
from enclavectl.results.report import PICTURES_PER_PAGE, ReportWriter
from tests.results.test_report import HEAD, result

left = int(sys.argv[2])

def stop(event, arguments):
    global left
    if event in {"os.rename", "os.remove"}:
        left -= 1
        if left < 0:
            os._exit(9)

path, = map(__import__("pathlib").Path, sys.argv[1:2])
writer = ReportWriter(path, 2 * PICTURES_PER_PAGE, HEAD)
for index in range(2 * PICTURES_PER_PAGE):
    writer.add(index, result(f"new {index}"), None)
sys.addaudithook(stop)
writer.finish()
"""


def test_a_report_that_is_killed_half_way_through_its_names_is_not_taken_for_a_whole_one(
    tmp_path: Path,
) -> None:
    old = [result(f"old {index}") for index in range(2 * PICTURES_PER_PAGE)]
    seen = set()
    for steps in range(12):
        folder = tmp_path / str(steps)
        folder.mkdir()
        write(folder / "r.html", *old)
        words = [sys.executable, "-c", STOPPED, str(folder / "r.html"), str(steps)]
        status = subprocess.run(words, check=False, timeout=60).returncode
        pages = [path.read_text() for path in sorted(folder.glob("r*.html"))]
        # They lead to each other, and with the overview to it.
        ages = {age for age in ("old", "new") for text in pages if f"{age} 1" in text}
        is_whole = (folder / "r.html").exists()
        assert len(ages) < 2, f"after {steps} steps a page leads to one of another report"
        seen.add((status, is_whole, *sorted(ages)))
    assert {(0, True, "new"), (9, True, "old")} <= seen, "the first step and the last one were tried"


def test_a_page_that_cannot_have_its_name_leaves_the_report_before_it(tmp_path: Path) -> None:
    results = [result(f"old {index}") for index in range(PICTURES_PER_PAGE + 1)]
    write(tmp_path / "r.html", *results)
    (tmp_path / "r-002.html").unlink()
    (tmp_path / "r-002.html").mkdir()
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(EnclavectlError, match=r"r-002\.html"):
        write(tmp_path / "r.html", *[result(f"new {index}") for index in range(len(results))])
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def pages_of(path: Path) -> list[str]:
    return sorted(one.name for one in path.parent.iterdir())


def write_pages(path: Path, count: int, word: str) -> None:
    """Write a report of ``count`` pages: an index for 2 and more."""
    total = 1 if count == 1 else (count - 1) * PICTURES_PER_PAGE + 1
    write(path, *[result(f"{word} {index}") for index in range(total)])


def test_a_shorter_report_takes_the_pages_of_the_one_before_with_it(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    write_pages(path, 3, "patient")
    assert pages_of(path) == ["a-001.html", "a-002.html", "a-003.html", "a.html"]
    write_pages(path, 2, "second")
    assert pages_of(path) == ["a-001.html", "a-002.html", "a.html"]
    assert all("patient" not in one.read_text() for one in tmp_path.iterdir())
    write_pages(path, 1, "third")
    assert pages_of(path) == ["a.html"]


def test_a_batch_that_was_stopped_early_leaves_no_page_of_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    write_pages(path, 3, "old")
    write(path, result("new"), total=3 * PICTURES_PER_PAGE)
    assert pages_of(path) == ["a-001.html", "a.html"]


def test_a_report_of_verify_takes_the_pages_of_a_batch_with_it(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    write_pages(path, 3, "patient")
    refused = unreadable(EvidenceError(EvidenceCode.FILE, "cut"))
    write_audit_page(path, refused, name="e.json")
    assert pages_of(path) == ["a.html"]
    assert "patient" not in path.read_text()


def _link(path: Path, page: Path) -> None:
    kept = path.with_name("kept")
    kept.write_bytes(path.read_bytes())
    page.symlink_to(kept)


def _report(_: Path, page: Path) -> None:
    write(page, result("mine"))


def _other_report(path: Path, page: Path) -> None:
    page.write_text(path.read_text().replace("./a.html", "./b.html"))


@pytest.mark.parametrize(
    "make",
    [
        lambda _, page: page.write_text("<html>years of work</html>"),
        lambda _, page: page.mkdir(),
        lambda _, page: os.mkfifo(page),
        _link,
        _report,
        _other_report,
    ],
    ids=["foreign", "folder", "fifo", "link", "own report", "page of another report"],
)
def test_only_pages_that_lead_to_this_report_are_removed(
    tmp_path: Path, make: Callable[[Path, Path], None]
) -> None:
    """The search ends at the first file that is no such page: a page behind it may be kept on purpose."""
    path, other = tmp_path / "a.html", tmp_path / "a-003.html"
    write_pages(path, 4, "old")
    model = tmp_path / "model"
    other.rename(model)
    make(model, other)
    before = (other.lstat().st_mode, other.read_bytes() if other.is_file() else b"")
    write_pages(path, 2, "new")
    write_pages(path, 1, "newer")
    assert {"a-003.html", "a-004.html"} <= set(pages_of(path))
    assert not {"a-001.html", "a-002.html"} & set(pages_of(path))
    assert (other.lstat().st_mode, other.read_bytes() if other.is_file() else b"") == before


def test_a_report_that_is_killed_while_it_removes_pages_leaves_none_for_good(tmp_path: Path) -> None:
    for steps in range(1, 8):
        path = tmp_path / str(steps) / "r.html"
        path.parent.mkdir()
        write_pages(path, 4, "old")
        words = [sys.executable, "-c", STOPPED, str(path), str(steps)]
        assert subprocess.run(words, check=False, timeout=60).returncode == 9
        write_pages(path, 1, "last")
        assert [one.name for one in path.parent.glob("r*")] == ["r.html"], f"after {steps} steps"
