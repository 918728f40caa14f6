"""Every help page: what it teaches, that its examples work, and that it fits on a terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from enclavectl.cli.app import COMMANDS, GroupRow, Row, build_app
from enclavectl.cli.command_tree import split_help
from tests.cli import tree
from tests.cli.command import enclavectl
from tests.cli.tree import all_rows, parsed, words_of

ROWS = dict(all_rows())
GROUPS = [row for row in tree.ROWS if isinstance(row, GroupRow)]
# The one writes a line of JSON for each session, the other answers by its exit code.
WITHOUT_JSON = {("gateway",), ("fleet", "probe")}
TYPE_NAMES = ("TEXT", "INTEGER", "PATH", "FLOAT", "FILENAME", "DIRECTORY")
commands = pytest.mark.parametrize("words", ROWS, ids=" ".join)


def page_of(words: tuple[str, ...]) -> str:
    os.environ.pop("COLUMNS", None)
    page = parsed([*words, *_required(words)]).get_help()
    assert isinstance(page, str)
    return page


def command_of(words: tuple[str, ...]) -> Any:
    context: Any = build_app().make_context("enclavectl", list(words))
    for index, word in enumerate(words):
        context = context.command.commands[word].make_context(
            word, list(words[index + 1 :]), parent=context, resilient_parsing=True
        )
    return context.command


def _required(words: tuple[str, ...]) -> list[str]:
    values: list[str] = []
    for param in command_of(words).params:
        if param.required:
            values += [param.opts[0], "x"] if param.param_type_name == "option" else ["x"]
    return values


@commands
def test_the_first_line_of_the_page_is_the_summary_of_the_table(words: tuple[str, ...]) -> None:
    prose, _ = split_help(command_of(words).help)
    assert prose.split("\n\n")[0] == ROWS[words].summary


@commands
def test_the_page_says_more_than_the_summary_and_shows_examples(words: tuple[str, ...]) -> None:
    prose, examples = split_help(command_of(words).help)
    assert len(prose.split("\n\n")) >= 2
    assert examples
    own = [line for line, _ in examples if words_of(line)[: len(words)] == list(words)]
    assert own, "no example of the command itself"
    for line, word in examples:
        assert word, f"{line}: says nothing of what it does"
        assert f"  {line}  " in page_of(words)


@commands
def test_the_parser_takes_each_example(words: tuple[str, ...]) -> None:
    for line, _ in split_help(command_of(words).help)[1]:
        context = parsed(words_of(line))
        assert context.command.callback is not None, f"{line}: names no command"
        assert context.command_path.split()[1:] == words_of(line)[: len(context.command_path.split()) - 1]


@commands
def test_the_page_fits_80_columns_and_names_values_not_types(words: tuple[str, ...]) -> None:
    page = page_of(words)
    assert page.startswith(f"Usage: enclavectl {' '.join(words)} ")
    assert ("--output" in page) is (words not in WITHOUT_JSON)
    assert [line for line in page.splitlines() if len(line) > 80] == []
    found = set(page.replace("[", " ").replace("]", " ").replace("...", " ").split()) & set(TYPE_NAMES)
    assert not found, page


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_the_page_of_a_group_shows_each_summary_whole_on_one_line(group: GroupRow) -> None:
    context: Any = build_app().make_context("enclavectl", [group.name])
    page = context.command.commands[group.name].make_context(
        group.name, [], parent=context, resilient_parsing=True
    )
    lines = page.get_help().splitlines()
    assert group.summary in [line.strip() for line in lines]
    for row in group.commands:
        assert [line for line in lines if line.split() == [row.name, *row.summary.split()]]


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], []])
def test_the_first_page_shows_every_command_whole_under_its_heading(
    arguments: list[str], tmp_path: Path
) -> None:
    done = enclavectl(*arguments, home=tmp_path, environ={"COLUMNS": "80"})
    assert (done.status, done.err) == (0, "")
    assert "..." not in done.out.replace("[ARGS]...", "")
    assert max(map(len, done.out.splitlines())) <= 80
    heading, listed = "", []
    for line in done.out.splitlines():
        if line.endswith(":") and not line.startswith(" "):
            heading = line[:-1]
        elif heading not in {"", "Options"} and line.strip():
            name, _, summary = line.strip().partition(" ")
            listed.append((heading, name, summary.strip()))
    assert listed == [(heading, row.name, row.summary) for heading, rows in COMMANDS.items() for row in rows]


def test_a_narrow_terminal_wraps_summaries_and_cuts_none(tmp_path: Path) -> None:
    page = enclavectl("--help", home=tmp_path, environ={"COLUMNS": "50"}).out
    flat = " ".join(page.split())
    assert all(row.summary in flat for row in tree.ROWS)


def test_only_the_module_of_the_named_command_is_loaded() -> None:
    code = (
        "import sys; from enclavectl.cli.boundary import run; run(['model', 'show', '--help']);"
        "print(*(m for m in sys.modules if m.startswith('enclavectl.cli.commands.')), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.split() == ["enclavectl.cli.commands.model"]


def test_the_module_can_be_run_and_calls_itself_enclavectl(tmp_path: Path) -> None:
    def module(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "enclavectl", *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
            check=False,
        )

    for arguments in (["--version"], ["eif", "--help"], ["lock", "show"], ["nonsense"]):
        script = enclavectl(*arguments, home=tmp_path)
        same = module(*arguments)
        assert (same.returncode, same.stdout, same.stderr) == (script.status, script.out, script.err)
    assert module("eif", "--help").stdout.startswith("Usage: enclavectl eif ")


def test_help_is_split_into_prose_and_examples() -> None:
    text = "Do it.\n\nMore of it.\n\nExamples:\n  enclavectl do --it x   it\n  enclavectl do\n"
    assert split_help(text) == (
        "Do it.\n\nMore of it.",
        [("enclavectl do --it x", "it"), ("enclavectl do", "")],
    )
    assert split_help("Do it.") == ("Do it.", [])


def test_every_command_has_a_module_and_a_place_of_its_own() -> None:
    places = [row.place for row in ROWS.values()]
    assert len(places) == len(set(places))
    assert all(isinstance(row, Row) for row in ROWS.values())
