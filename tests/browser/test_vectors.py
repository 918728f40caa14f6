"""The protocol vectors in TypeScript: browser/test/vectors.test.ts in Node."""

from __future__ import annotations

import subprocess

from tests.browser.lane import BROWSER, built_tests, node


def test_the_protocol_vectors_pass_in_node() -> None:
    argv = [node(), "--test", str(built_tests() / "vectors.test.mjs")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout[-4000:]
    assert "# fail 0" in done.stdout


def test_the_lock_names_no_registry_of_a_machine() -> None:
    assert "resolved" not in (BROWSER / "package-lock.json").read_text()
