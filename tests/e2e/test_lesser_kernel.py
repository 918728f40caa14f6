"""A machine whose kernel gives the sandbox less: it works, and says what is missing."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cli.command import COMMAND
from tests.e2e.cli import Cli, sample

# In a user namespace of its own, where the limit can be set for all that runs in it.
NO_NAMESPACES = ("unshare", "--user", "--map-root-user", "sh", "-c")
LIMIT = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$0" "$@"'


@pytest.fixture
def lesser(tmp_path: Path) -> Iterator[Cli]:
    try:
        subprocess.run([*NO_NAMESPACES, LIMIT, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as exc:
        pytest.skip(f"no user namespace whose limits can be set ({exc})")
    (tmp_path / "home").mkdir()
    cli = Cli(tmp_path, program=(*NO_NAMESPACES, LIMIT, str(COMMAND)))
    yield cli
    cli.end_all()
    cli.assert_nothing_left()


def test_a_missing_layer_is_said_in_one_line(lesser: Cli) -> None:
    ran = lesser.ok("diagnose", sample("bcc"))
    [line] = [line for line in ran.err.splitlines() if "sandbox" in line]
    assert "lacks namespaces (user.max_user_namespaces allows no more); file tree" in line
    ran = lesser.ok("run", "--name", "lesser")
    assert "the sandbox of lesser lacks namespaces" in ran.err
    assert "sandbox: without namespaces (user.max_user_namespaces" in lesser.ok("console", "lesser").out
    found = {check["id"]: check for check in lesser.run("doctor", "-o", "json").json()["checks"]}
    assert found["local.namespaces"]["state"] == "warn"


def test_a_complete_sandbox_is_not_worth_a_word(lesser: Cli) -> None:
    able = replace(lesser, program=(str(COMMAND),))
    ran = able.ok("diagnose", sample("bcc"))
    if "sandbox" in ran.err:
        pytest.skip("this kernel lacks a layer, and says so")
    able.ok("run", "--name", "able")
    assert "sandbox: complete" in able.ok("console", "able").out
