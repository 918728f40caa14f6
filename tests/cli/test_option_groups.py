"""Options that several commands share as one group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from enclavectl.cli.option_groups import spreads_groups


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A group of two options, one of them with a default."""

    width: Annotated[int, typer.Option("--width", help="How wide.")]
    unit: Annotated[str, typer.Option("--unit")] = "mm"


SEEN: list[object] = []


@spreads_groups
def cut(name: Annotated[str, typer.Argument()], size: Size, fast: bool = False) -> None:
    """Cut."""
    SEEN.append((name, size, fast))


APP = typer.Typer()
APP.command()(cut)


@pytest.mark.parametrize(
    ("arguments", "seen"),
    [
        (["a", "--width", "3"], ("a", Size(width=3), False)),
        (["--unit", "cm", "--fast", "--width", "4", "b"], ("b", Size(width=4, unit="cm"), True)),
    ],
)
def test_a_command_gets_its_options_as_one_value(arguments: list[str], seen: object) -> None:
    SEEN.clear()
    assert CliRunner().invoke(APP, arguments, catch_exceptions=False).exit_code == 0
    assert [seen] == SEEN


def test_an_option_of_a_group_without_default_is_required() -> None:
    assert CliRunner().invoke(APP, ["a"]).exit_code == 2


def test_the_options_stand_in_the_help_in_the_place_of_the_group() -> None:
    shown = CliRunner().invoke(APP, ["--help"]).output
    positions = [shown.index(word) for word in ("--width", "How wide.", "--unit", "--fast")]
    assert positions == sorted(positions)
