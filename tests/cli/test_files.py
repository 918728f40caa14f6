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


OUTPUTS: dict[str, list[object]] = {
    "diagnose --report": ["diagnose", sample("nv"), "--report", FILE],
    "diagnose --evidence": ["diagnose", sample("nv"), "--evidence", FILE],
    "diagnose --results": ["diagnose", sample("nv"), "--results", FILE],
    "verify --report": ["verify", sample("nv"), "--report", FILE],
    "policy new": ["policy", "new", "--to", FILE],
    "policy kms": [
        *("policy", "kms", "--policy", "p", "--admin", "a", "--parent", "b", "--context", "m=x", "--to", FILE)
    ],
    "build --to": ["build", "--to", FILE],
    "build --provenance": ["build", "--provenance", FILE],
    "model card new": ["model", "card", "new", "m.tflite", "--to", FILE],
    "config init": ["config", "init", "--config", FILE],
    "units": ["units", FILE],
    "doctor": ["doctor", "--host-root", FILE],
}


@pytest.mark.parametrize("command", OUTPUTS)
def test_a_name_that_no_file_system_takes_is_refused_before_anything_is_done(
    tmp_path: Path, command: str
) -> None:
    # As below a folder that may not be searched, the system cannot say whether something is there.
    name = "n" * 300 + ".csv"
    arguments = [name if one is FILE else one for one in OUTPUTS[command]]
    done = enclavectl(*arguments, home=tmp_path, timeout_s=20)
    assert (done.status, done.out) == (2, ""), done.err
    assert name in done.err


MARKED = {
    "build --lock": ["build", "--lock", FILE],
    "build --provenance": ["build", "--provenance", FILE],
    "eif sign --to": ["eif", "sign", "a.eif", "--key", "k", "--cert", "c", "--to", FILE],
}


@pytest.mark.parametrize("command", MARKED)
def test_what_no_command_writes_over_is_named_with_the_option_and_what_to_do(
    tmp_path: Path, command: str
) -> None:
    (tmp_path / "folder.eif").mkdir()
    os.mkfifo(tmp_path / "fifo.eif")
    for name, what in (("folder.eif", "a folder"), ("fifo.eif", "a FIFO")):
        arguments = [name if one is FILE else one for one in MARKED[command]]
        done = enclavectl(*arguments, home=tmp_path, timeout_s=20)
        assert (done.status, done.out) == (2, ""), done.err
        assert f"{command.rsplit(maxsplit=1)[-1]} {name}: expected" in done.err
        assert f", found {what}\n" in done.err
        assert "  try: name another file" in done.err


@pytest.mark.parametrize(
    ("name", "what"), [("here", "a folder"), ("/dev/null", "a device"), ("link", "a symbolic link")]
)
def test_what_is_there_is_named_by_what_it_is(tmp_path: Path, name: str, what: str) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    for arguments in (
        ["policy", "new", "--to", name],
        ["policy", "kms-lint", "k.json", "--fixed-to", name],
        ["diagnose", sample("nv"), "--evidence", name],
    ):
        done = enclavectl(*arguments, home=tmp_path, timeout_s=20)
        assert (done.status, done.out) == (2, ""), done.err
        assert f"{name}: expected nothing there, found {what}\n" in done.err
        assert "name another file" in done.err


@pytest.mark.parametrize("arguments", [["lock", "show"], ["lock", "check"]])
def test_a_missing_lock_is_told_with_the_option_that_names_another(
    tmp_path: Path, arguments: list[str]
) -> None:
    done = enclavectl(*arguments, home=tmp_path, timeout_s=20)
    assert done.status == 2
    assert done.err.endswith("  try: enclavectl build writes one beside the image; --lock names another\n")


def test_evidence_of_a_second_session_needs_a_free_name_too(tmp_path: Path) -> None:
    (tmp_path / "e-2.json").touch()
    done = enclavectl(
        "diagnose", sample("nv"), "--evidence", tmp_path / "e.json", home=tmp_path, timeout_s=20
    )
    assert (done.status, done.out) == (2, "")
    assert "e-2.json" in done.err


@pytest.mark.parametrize("option", ["--policy", "--root", "--ca", "--client-key", "--token-file", "--config"])
def test_a_report_never_replaces_what_the_command_reads(tmp_path: Path, option: str) -> None:
    kept = tmp_path / "kept"
    kept.write_bytes(b"")  # also a configuration, one of defaults
    words = ["--connect", "wss://localhost:1/v1"] if option != "--config" else []
    done = enclavectl(
        *("diagnose", sample("nv"), *words, option, kept, "--report", kept, "--force"), home=tmp_path
    )
    assert (done.status, "expected a file that is not an input" in done.err) == (2, True), done.err
    assert kept.read_bytes() == b""
