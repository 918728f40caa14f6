"""What commands say of a file that they cannot use: which file, once, and at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.command import enclavectl
from tests.e2e.cli import sample

FILE = object()
COMMANDS: dict[str, list[object]] = {
    "plan": ["plan", FILE],
    "units": ["units", FILE],
    "lock show": ["lock", "show", "--lock", FILE],
    "build": ["build", "--sign", FILE, "--cert", FILE],
    "diagnose": ["diagnose", sample("nv"), "--policy", FILE],
    "listen": ["listen", "--policy", FILE],
    "policy show": ["policy", "show", FILE],
    "policy retire": ["policy", "retire", FILE, "1.0"],
    "config": ["config", "show", "--config", FILE],
    "model": ["model", "show", FILE],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_that_cannot_be_used_is_named_once(tmp_path: Path, command: str) -> None:
    files = {name: tmp_path / name for name in ("absent", "folder", "fifo", "empty", "other")}
    files["folder"].mkdir()
    os.mkfifo(files["fifo"])
    files["empty"].touch()
    files["other"].write_bytes(b"\0\1 something else")
    if command == "units":
        del files["absent"]  # units may be written before the image
    if command == "build":
        del files["empty"], files["other"]  # "the signing key" is which file
    if command == "config":
        del files["empty"]  # a configuration of defaults
    for path in files.values():
        arguments = [path if one is FILE else one for one in COMMANDS[command]]
        done = enclavectl(*arguments, home=tmp_path, timeout_s=20)
        assert (done.status, done.out) == (2, ""), done.err
        assert done.err.count(str(path)) == 1, done.err
