"""Text without a terminal: a line for each row and fact, nothing wrapped, cut or padded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from enclavectl.cli.screen import Screen
from enclavectl.models.find import PACKAGED_DIR
from tests.e2e.cli import CODES, Cli, sample
from tests.schemas.validation import parsed

# Wider than the 100 columns that output without a terminal once had, and than any terminal.
LONG = "a" * 300


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """Commands with an enclave that runs, called ``shared``, and one that has ended, called ``gone``."""
    base = tmp_path_factory.mktemp("piped")
    (base / "home").mkdir()
    cli = Cli(base)
    cli.ok("run", "--name", "gone")
    cli.ok("terminate", "gone")
    cli.ok("run", "--name", "shared")
    yield cli
    cli.end_all()
    cli.assert_nothing_left()


def rows(text: str) -> list[list[str]]:
    return [line.split("\t") for line in text.splitlines()]


@pytest.mark.parametrize(
    "command",
    ["list", "history", "describe shared", "doctor --all", "plan", "config show", "model show", "schema"],
)
def test_no_line_ends_with_blanks(cli: Cli, command: str) -> None:
    out = cli.run(*command.split()).out
    assert out.strip()
    assert [line for line in out.splitlines() if line != line.rstrip()] == []


def test_a_row_of_a_table_is_a_line_of_cells_with_tabs_between(cli: Cli) -> None:
    for command, columns in (("list", 6), ("history", 6), ("config show", 3), ("schema", 2)):
        found = rows(cli.ok(*command.split()).out)
        table = found[:2] if command == "history" else found  # which goes on with the consoles' last lines
        assert {len(row) for row in table} == {columns}
        assert all(cell and cell == cell.strip() for row in table for cell in row)
    [header, row] = rows(cli.ok("list").out)
    assert dict(zip(header, row, strict=True))["STATE"] == "RUNNING"


def test_a_long_value_stays_on_its_line(cli: Cli) -> None:
    shown = cli.run("config", "show", env={"ENCLAVECTL_POLICY": f"/{LONG}/policy.yaml"}).out
    assert ["policy", f"/{LONG}/policy.yaml", "environment ENCLAVECTL_POLICY"] in rows(shown)
    notice = next(
        line
        for line in (PACKAGED_DIR / "model.json").read_text().split('"')
        if line.startswith("Demonstration model")
    )
    for command in (["model", "show"], ["diagnose", sample("bcc")]):
        assert [line for line in cli.ok(*command).out.splitlines() if line.endswith(notice)]


def test_an_empty_cell_is_a_dash_and_a_tab_within_one_is_spelled_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Screen(as_json=False).table(("A", "B"), [("1", ""), ("x\ty", "2")])
    assert capsys.readouterr().out == "A\tB\n1\t-\nx\\ty\t2\n"


def labels(text: str) -> list[str]:
    return [
        line.split()[0] for line in text.splitlines() if re.match(r"  [a-z]+ +[#█▏▎▍▌▋▊▉ ]+ *[0-9.]+%", line)
    ]


@pytest.mark.parametrize("asked", [(), ("--top", "1"), ("--top", "5"), ("--top", "64")])
def test_top_holds_for_text_and_json_alike(cli: Cli, asked: tuple[str, ...]) -> None:
    text = cli.ok("diagnose", *asked, sample("mel")).out
    result = cli.ok("diagnose", *asked, "--output", "json", sample("mel")).json()["results"][0]
    shares = result["probabilities"]
    if asked:
        assert len(shares) == min(int(asked[1]), len(CODES))
        assert sorted(shares, key=shares.__getitem__, reverse=True) == labels(text)
    else:
        assert len(labels(text)) == 3, "the default is for people"
        assert tuple(shares) == CODES, "programs get all that they did not ask to be left out"
    assert result["label"]["probability"] == max(shares.values())


def test_a_configured_top_holds_for_json_too(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("diagnose: {top: 2}\n")
    done = cli.ok("diagnose", "--config", tmp_path / "c.yaml", "-o", "json", sample("mel"))
    assert len(done.json()["results"][0]["probabilities"]) == 2


def test_top_holds_for_the_answers_of_listen(cli: Cli) -> None:
    with cli.start("listen", "--count", "1", "--timeout", "30", "--top", "2", "-o", "json") as listener:
        cli.ok("send", "--enclave", "shared", sample("nv"))
        out, _ = listener.communicate(timeout=60)
    assert len(parsed(out)["result"]["probabilities"]) == 2
