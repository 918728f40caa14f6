"""The tests in TypeScript that need no browser: browser/test/*.test.ts in Node."""

from __future__ import annotations

import subprocess

import pytest

from tests.browser.lane import BROWSER, built_tests, node


@pytest.mark.parametrize("name", ["vectors", "inbox"])
def test_they_pass_in_node(name: str) -> None:
    argv = [node(), "--test", str(built_tests() / f"{name}.test.mjs")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout[-4000:]
    assert "# fail 0" in done.stdout


def test_the_lock_names_no_registry_of_a_machine() -> None:
    assert "resolved" not in (BROWSER / "package-lock.json").read_text()
