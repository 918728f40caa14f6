"""The same for a user who is not root, also where the tests themselves run as root, as in containers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cli import Cli, sample

NOBODY = 65534


def unprivileged_prefix() -> list[str] | None:
    """What makes a command run as nobody; None where nobody may not run this interpreter."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return None
    prefix = [setpriv, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    # Twice, as setpriv may still be privileged when it finds the first.
    code = (
        "import subprocess, sys; subprocess.check_call([sys.executable, '-c', 'import enclavectl, hashlib'])"
    )
    probe = subprocess.run([*prefix, sys.executable, "-c", code], capture_output=True, check=False, cwd="/")
    return prefix if probe.returncode == 0 else None


@pytest.fixture
def nobody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    if os.geteuid() != 0:
        pytest.skip("the tests run unprivileged already")
    prefix = unprivileged_prefix()
    if prefix is None:
        pytest.skip(f"user {NOBODY} may not run {sys.executable}, or setpriv is missing")
    base = tmp_path_factory.mktemp("nobody")
    for folder in (base, base / "home"):
        folder.mkdir(exist_ok=True)
        os.chown(folder, NOBODY, NOBODY)
    # Nobody must be able to get there: pytest keeps its folders to itself.
    for parent in base.parents:
        if parent.is_relative_to("/tmp") and parent != Path("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o011)
    cli = Cli(base, (*prefix, str(Path(sys.executable).with_name("enclavectl"))))
    yield cli
    cli.end_all()
    cli.assert_nothing_left()


def test_nobody_can_do_everything(nobody: Cli) -> None:
    value = nobody.ok("diagnose", sample("bcc"), "-o", "json").json()
    assert value["results"][0]["label"]["code"] == "bcc"
    nobody.ok("run", "--name", "mine")
    supervisor, payload = nobody.processes()
    for pid in (supervisor, payload):
        status = Path(f"/proc/{pid}/status").read_text()
        assert f"Uid:\t{NOBODY}\t{NOBODY}" in status
    assert "sandbox: " in nobody.ok("console", "mine").out
    nobody.ok("send", sample("nv"))
    assert "nv" in nobody.ok("listen", "--count", "1", "--timeout", "60").out
    assert {path.stat().st_uid for path in nobody.state.rglob("*")} == {NOBODY}


def test_root_does_not_use_what_belongs_to_nobody(nobody: Cli) -> None:
    nobody.ok("run", "--name", "mine")
    root = Cli(nobody.base)
    ran = root.run("run", "--name", "other")
    assert ran.status == 3
    assert f"of user {NOBODY}" in ran.err
