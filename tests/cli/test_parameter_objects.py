from __future__ import annotations

from dataclasses import dataclass
from inspect import Parameter, signature
from typing import Annotated

import typer
from typer.testing import CliRunner

from enclavectl.cli.parameter_objects import with_parameter_objects


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    width: Annotated[int, typer.Option("--width", help="How wide.")] = 3
    is_deep: Annotated[bool, typer.Option("--deep", help="How deep.")] = False


_SMALL = Size()


def make_command(seen: list[object]) -> typer.Typer:
    app = typer.Typer()

    @app.command()
    @with_parameter_objects
    def draw(
        name: Annotated[str, typer.Argument(help="What.")],
        size: Size = _SMALL,
        color: Annotated[str, typer.Option("--color", help="Which.")] = "red",
    ) -> None:
        """Draw something."""
        seen.extend((name, size, color))

    assert [(one.name, one.default) for one in signature(draw).parameters.values()] == [
        *(("name", Parameter.empty), ("width", 3), ("is_deep", False), ("color", "red")),
    ]
    return app


def test_the_fields_are_options_of_the_command() -> None:
    seen: list[object] = []
    ran = CliRunner().invoke(make_command(seen), ["box", "--width", "7", "--deep", "--color", "blue"])
    assert ran.exit_code == 0, ran.output
    assert seen == ["box", Size(width=7, is_deep=True), "blue"]


def test_without_options_the_fields_have_their_defaults() -> None:
    seen: list[object] = []
    assert CliRunner().invoke(make_command(seen), ["box"]).exit_code == 0
    assert seen == ["box", _SMALL, "red"]


def test_a_value_of_another_type_is_refused() -> None:
    seen: list[object] = []
    assert CliRunner().invoke(make_command(seen), ["box", "--width", "wide"]).exit_code == 2
    assert seen == []
