"""Progress: where it is drawn, how often, and that nothing of it stays among the answers."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from enclavectl.cli.status_line import StatusLine
from tests.cli.command import COMMAND
from tests.cli.terminal import on_terminal, rendered
from tests.e2e.cli import CODES, Cli, sample


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    base = tmp_path / "base"
    base.mkdir()
    found = Cli(base)
    yield found
    found.ok("terminate", "--all")


def test_it_is_written_over_and_cleared() -> None:
    stream, clock = Terminal(), Clock()
    line = StatusLine(stream, clock)
    line.show("a long first text")
    clock.now_s = 1
    line.show("second")
    assert rendered(stream.getvalue()) == ["second"]
    line.clear()
    assert rendered(stream.getvalue()) == [""]
    written = stream.getvalue()
    line.clear()
    assert stream.getvalue() == written


def test_it_is_drawn_at_most_ten_times_a_second() -> None:
    stream, clock = Terminal(), Clock()
    line = StatusLine(stream, clock)
    for number in range(1000):
        clock.now_s = number / 1000
        line.count("counting", number, 1000, "things")
    assert 8 <= stream.getvalue().count("counting") <= 10


def test_it_is_drawn_again_after_each_answer_that_took_its_place() -> None:
    stream, clock = Terminal(), Clock()
    line = StatusLine(stream, clock)
    for number in range(5):
        line.clear()
        stream.write(f"answer {number}\n")
        line.show("going on")
    assert rendered(stream.getvalue()) == [*(f"answer {number}" for number in range(5)), "going on"]


def test_it_says_how_much_is_done_and_how_long_the_rest_takes() -> None:
    stream, clock = Terminal(), Clock()
    line = StatusLine(stream, clock)
    line.count("diagnosing", 0, 10_000, "pictures")
    clock.now_s = 30
    line.count("diagnosing", 2_500, 10_000, "pictures")
    assert rendered(stream.getvalue()) == [
        "· diagnosing █████                2,500 of 10,000 pictures, about 1 min 30 s left"[:79]
    ]


def test_nothing_is_drawn_where_nobody_watches() -> None:
    stream = io.StringIO()
    StatusLine(stream).count("counting", 1, 2, "things")
    assert stream.getvalue() == ""


def test_a_line_never_wraps() -> None:
    stream = Terminal()
    StatusLine(stream).show("x" * 500)
    assert len(rendered(stream.getvalue())[0]) == 79


def test_json_has_progress_on_the_terminal_and_none_in_the_answer(cli: Cli) -> None:
    pictures = [sample(code) for code in CODES]
    shown = on_terminal(
        [COMMAND, "diagnose", "--output", "json", *pictures],
        environ=cli.environment(),
        cwd=cli.base,
        stdout=False,
    )
    assert shown.status == 0
    assert len(json.loads(shown.out)["results"]) == len(CODES)
    assert "of 7 pictures" in shown.raw
    assert not [line for line in shown.screen if "pictures" in line]


def test_answers_stand_on_the_terminal_with_no_bar_among_them(cli: Cli) -> None:
    pictures = [sample(code) for code in CODES]
    shown = on_terminal(
        [COMMAND, "diagnose", *pictures], environ=cli.environment(), cwd=cli.base, stdout=True
    )
    assert shown.status == 0
    assert "of 7 pictures" in shown.raw
    assert not [line for line in shown.screen if "diagnosing" in line or "of 7 pictures" in line]
    names = iter(shown.screen)
    for picture in pictures:  # each on a line of its own, in order
        assert str(picture) in names
    # A line of three labels for each picture, and nothing before it on its line.
    labels = [line for line in shown.screen if line.lstrip().startswith(CODES) and "%" in line]
    assert len(labels) == 3 * len(CODES)
    assert all(line.startswith("  ") and not line.startswith("   ") for line in labels)


def test_a_narrow_terminal_shows_whole_numbers(cli: Cli) -> None:
    shown = on_terminal(
        [COMMAND, "diagnose", sample("mel")],
        environ=cli.environment(),
        cwd=cli.base,
        stdout=True,
        columns=28,
    )
    labels = [line for line in shown.screen if line.lstrip().startswith(CODES)]
    assert len(labels) == 3
    for line in labels:
        assert re.search(r" [0-9]+\.[0-9]%", line), line
        assert len(line) <= 28


def test_a_person_is_told_that_standard_input_is_read(cli: Cli) -> None:
    shown = on_terminal(
        [COMMAND, "diagnose", "-"], environ=cli.environment(), cwd=cli.base, stdout=True, stdin=b"\x04\x04"
    )
    assert shown.screen[0] == ("enclavectl: reading a picture from standard input; Ctrl-D ends it"), (
        shown.screen
    )


def test_the_terminal_of_these_tests_knows_what_is_written_over() -> None:
    assert rendered("abc\rX\n\x1b[1mbold\x1b[0m\r\x1b[Kq\r\n") == ["Xbc", "q", ""]
