"""The pages say what is there, in sentences that can be read once."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path

import pytest

from enclavectl.cli.app import build_app
from enclavectl.errors import UsageError
from tests.test_architecture import ARROWS, PAYLOAD
from tools.docs_check import PAGES, ROOT, code_texts, findings, parse_page, sentences

PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
_USE = re.compile(r"(?<!\")\benclavectl((?: +[^ |&;<>()#`]+)*)")
_WORD = re.compile(r"[a-z][a-z-]*")
_DIAGRAM_NOTES = 44  # the column where the notes beside the rows begin
_COMMAND_LINE = re.compile(r"^  ([a-z][a-z-]*) {2,}\S", re.MULTILINE)  # of a help page


@cache
def help_of(*words: str) -> str | None:
    """The help page of a command, or None if there is no such command.

    In this process: the pages name some hundred commands, and a process for each takes minutes.
    """
    out = io.StringIO()
    try:
        with redirect_stdout(out):
            build_app().main([*words, "--help"], prog_name="enclavectl", standalone_mode=False)
    except UsageError:
        return None
    return out.getvalue()


@cache
def commands() -> frozenset[str]:
    """The words of the page of all commands."""
    return frozenset(_COMMAND_LINE.findall(help_of() or ""))


def uses(page: Path) -> list[tuple[int, list[str], list[str]]]:
    """Each ``enclavectl ...`` in a page's code, and each ``run --debug``: line, first words, options."""
    found = []
    for line, text in code_texts(parse_page(page.read_text(encoding="utf-8"))):
        is_short = text.partition(" ")[0] in commands() and " --" in text
        for use in _USE.finditer(f"enclavectl {text}" if is_short else text):
            arguments = [word.rstrip(".,:;") for word in use[1].split()]
            count = next((n for n, word in enumerate(arguments) if not _WORD.fullmatch(word)), len(arguments))
            options = [word.partition("=")[0] for word in arguments if word.startswith("--")]
            found.append((line, arguments[: min(count, 3)], options))
    return found


@PAGE
def test_a_page_reads_plainly_and_its_links_lead_somewhere(page: Path) -> None:
    assert list(findings(page)) == []


@PAGE
def test_every_command_and_option_that_a_page_names_exists(page: Path) -> None:
    for line, words, options in uses(page):
        help_page = help_of(*words)
        assert help_page is not None, f"{page.name}:{line}: there is no enclavectl {' '.join(words)}"
        assert [option for option in options if option not in help_page] == [], f"{page.name}:{line}"


def test_every_option_that_a_page_names_alone_exists() -> None:
    pages = [parse_page(page.read_text(encoding="utf-8")) for page in PAGES]
    alone = {
        text.split()[0].partition("=")[0]
        for page in pages
        for _, text in code_texts(page)
        if text[:2] == "--"
    }
    used = {tuple(words) for page in PAGES for _, words, _ in uses(page)}
    help_pages = " ".join(help_of(*words) or "" for words in used)
    assert len(alone) > 20
    assert {option for option in alone if option not in help_pages} == set()


def test_the_readme_lists_every_command() -> None:
    assert {"diagnose", "eif", "config"} <= commands()
    rows = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| `")]
    listed = {word for row in rows for word in re.findall(r"`([a-z]+)[ `]", row.split("|")[1])}
    assert commands() - listed == set()


def test_the_architecture_page_lists_every_room() -> None:
    rows = re.findall(
        r"^\| `?(\w+)/?`? \|", _rooms_section().partition("Beside the packages")[0], re.MULTILINE
    )
    assert set(rows) - {"room"} == {*ARROWS, "cli"} - {PAYLOAD}


def test_the_diagram_of_the_rooms_points_down() -> None:
    """Each arrow of the table leads to a lower row of the diagram, or stands in the diagram by itself."""
    diagram = _rooms_section().split("```")[1]
    beside = {
        pair
        for chain in re.findall(r"\w+(?: -> \w+)+", diagram)
        for pair in zip(chain.split(" -> "), chain.split(" -> ")[1:], strict=False)
    }
    row_of = {
        name: row
        for row, text in enumerate(re.split(r"\n   v\n", diagram))
        for line in text.splitlines()
        for name in re.findall(r"\w+", line[:_DIAGRAM_NOTES].partition(":")[0])
    }
    assert {*ARROWS, "cli"} <= row_of.keys()
    arrows = {(room, to.partition(".")[0]) for room, targets in ARROWS.items() for to in targets}
    assert {(room, to) for room, to in arrows if row_of[room] >= row_of[to]} == beside


def _rooms_section() -> str:
    return (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").partition("## The rooms")[2]


def test_the_site_has_every_page() -> None:
    """A page outside the nav fails `make docs` as well; here it fails without the site's packages."""
    named = (ROOT / "mkdocs.yml").read_text()
    pages = {path.name for path in PAGES if path.name != "README.md"}
    assert {page for page in pages if page not in named} == set()


def problems(text: str, folder: Path) -> list[str]:
    page = folder / "page.md"
    page.write_text(text)
    return [problem.removeprefix("page.md:") for problem in findings(page, folder)]


def test_a_long_sentence_is_found_across_lines_and_in_list_items(tmp_path: Path) -> None:
    assert problems("word " * 20 + "\n" + "word " * 15 + "end.\n", tmp_path) == [
        f"1: expected at most 35 words, found a sentence of 36: {'word ' * 12}..."
    ]
    assert len(problems("- " + ("word\n  " * 36) + "end.\n", tmp_path)) == 1
    assert problems("word " * 17 + "end. " + "Word\n" * 17 + "end.\n", tmp_path) == []
    assert problems("- " + "word " * 18 + "\n" + "- " + "word " * 18 + "\n", tmp_path) == []


def test_sentences_end_where_a_reader_ends_them() -> None:
    assert sentences('One (two.) Three "four." Five. [six seven](x.md) and `a. b. c`.') == [
        "One (two.", 'Three "four.', "Five.", "six seven and code."
    ]  # fmt: skip
    assert sentences("1. First, version 2.14 of `x`.") == ["First, version 2.14 of code."]


@pytest.mark.parametrize(
    "text",
    [
        "```\n" + "word " * 50 + "\n```\n",
        "    " + "word " * 50 + "\n",
        "| " + "word " * 50 + "|\n",
        "https://example.org/" + "a" * 100 + "\n",
    ],
    ids=["fence", "indented", "table", "address"],
)
def test_code_tables_and_addresses_may_be_wide(text: str, tmp_path: Path) -> None:
    assert problems(text, tmp_path) == []


def test_a_wide_line_is_found(tmp_path: Path) -> None:
    assert problems("a" * 50 + " " + "b" * 49 + "\n", tmp_path) == []
    assert problems("a" * 50 + " " + "b" * 50 + "\n", tmp_path) == [
        "1: expected at most 100 columns; wrap the line"
    ]


def test_a_pipe_in_a_cell_is_found(tmp_path: Path) -> None:
    assert problems("Text `a | b`.\n\n| `a` | b |\n", tmp_path) == []
    assert problems("| `a || b` | c |\n", tmp_path) == [
        "1: a pipe in code ends the cell on GitHub; say it without"
    ]


def test_links_to_what_is_not_there_are_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# The *first*: part's end\n\n```\n# not a heading\n```\n")
    good = (
        "[a](other.md) [b](other.md#the-first-parts-end) [c](#here) [d](https://example.org/x)\n\n## Here\n"
    )
    assert problems(good, tmp_path) == []
    assert problems("Text\n[a](gone.md)\n", tmp_path) == ["1: gone.md: no such file"]
    assert problems("| [a](other.md#first) |\n", tmp_path) == ["1: other.md#first: no such heading"]
    assert problems("[a](other.md#not-a-heading)\n", tmp_path) == [
        "1: other.md#not-a-heading: no such heading"
    ]
    assert problems("`[a](gone.md)`\n", tmp_path) == []


def test_a_file_that_the_repository_lacks_is_found(tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "here.py").touch()
    assert problems("See `tools/here.py`, `tools/` and `tools/gone.py --all`.\n", tmp_path) == []
    assert problems("See `tools/gone.py`.\n", tmp_path) == [
        "1: tools/gone.py: the repository has no such file"
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("`enclavectl eif show FILE --lenient`", (["eif", "show"], ["--lenient"])),
        ("```\n$ enclavectl run --cpus=4 x | head -1\n```", (["run"], ["--cpus"])),
        ("```\nenclavectl --version # --not-this\n```", ([], ["--version"])),
        ("```\n  | of enclavectl build, |\n```", (["build"], [])),
        ("`run --debug`", (["run"], ["--debug"])),
    ],
)
def test_commands_are_found_in_code(text: str, expected: tuple[list[str], list[str]], tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(text + "\n")
    assert [(words, options) for _, words, options in uses(page)] == [expected]


def test_a_command_that_does_not_exist_has_no_help() -> None:
    assert help_of("mend") is None
    assert help_of("eif", "mend") is None
