"""The page of all commands is made of outlines, which must not be told from the commands themselves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from enclavectl.cli.app import build_app
from tests.cli.command import enclavectl


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], []])
def test_the_page_is_that_of_the_whole_tree(arguments: list[str], tmp_path: Path) -> None:
    page = enclavectl(*arguments, home=tmp_path)
    assert page.status == 0
    # The same with all commands whole: as for a shell that completes, by a variable that is always set.
    code = "from enclavectl.cli import app, main; app._COMPLETION = 'PATH'; main.run(['--help'])"
    whole = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert page.out == whole.stdout
    app = build_app(["no-such-command"])
    names = [command.name for command in app.registered_commands] + [g.name for g in app.registered_groups]
    listed = [line.split()[0] for line in page.out.partition("Commands:")[2].splitlines() if line.strip()]
    assert listed == names


def test_shells_complete_commands_and_their_options(tmp_path: Path) -> None:
    completing = {"_ENCLAVECTL_COMPLETE": "complete_bash"}
    names = enclavectl(
        home=tmp_path, environ={**completing, "COMP_WORDS": "enclavectl pl", "COMP_CWORD": "1"}
    )
    assert names.out.split() == ["plan"]
    words = {**completing, "COMP_WORDS": "enclavectl plan --mem", "COMP_CWORD": "2"}
    assert enclavectl(home=tmp_path, environ=words).out.split() == ["--memory"]
