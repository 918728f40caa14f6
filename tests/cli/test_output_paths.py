"""Paths that no file can be written to: an unset variable, a folder, a missing folder, standard output."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.command import enclavectl
from tests.cli.desk import lay_desk
from tests.cli.images import signing_files, write_image
from tests.cli.policies import REGISTERS, lock_of
from tests.cli.test_key_policy import CONTEXT, NOW, WHO, write_policy
from tests.e2e.cli import sample

PATH = object()
KMS = ["policy", "kms", "--policy", "policy.yaml", *WHO, *CONTEXT, *NOW]
NEW = ["policy", "new", "--from-lock", "a.json"]
COMMANDS: dict[str, list[object]] = {
    "diagnose --report": ["diagnose", sample("nv"), "--report", PATH],
    "diagnose --results": ["diagnose", sample("nv"), "--results", PATH],
    "diagnose --evidence": ["diagnose", sample("nv"), "--evidence", PATH],
    "send --evidence": ["send", sample("nv"), "--evidence", PATH],
    "listen --evidence": ["listen", "--evidence", PATH],
    "verify --report": ["verify", "evidence.json", "--report", PATH],
    "attest --out": ["attest", "unix:/nowhere", "--out", PATH],
    "build --to": ["build", "--to", PATH],
    "build --lock": ["build", "--lock", PATH],
    "build --provenance": ["build", "--provenance", PATH],
    "policy kms --to": [*KMS, "--to", PATH],
    "policy kms --to --force": [*KMS, "--to", PATH, "--force"],
    "policy kms --to --dry-run": [*KMS, "--to", PATH, "--dry-run"],
    "policy kms --iam-to": [*KMS, "--iam-to", PATH],
    "policy kms --iam-to --force": [*KMS, "--iam-to", PATH, "--force"],
    "policy kms-lint --fixed-to": ["policy", "kms-lint", "key.json", "--fixed-to", PATH],
    "policy new --to": [*NEW, "--to", PATH],
    "policy new --to --dry-run": [*NEW, "--to", PATH, "--dry-run"],
    "model card new --to": ["model", "card", "new", "m.tflite", "--to", PATH],
    "model seal --to": ["model", "seal", "demo-lesion", "--to", PATH],
    "model release --log": [
        *("model", "release", "m.key", "--policy", "policy.yaml", "--to", "unix:/nowhere", "--log", PATH)
    ],
    "eif sign --to": ["eif", "sign", "a.eif", "--key", "key.pem", "--cert", "cert.pem", "--to", PATH],
    "remote invite --write": ["remote", "invite", "wss://gw", "--policy", "policy.yaml", "--write", PATH],
    "page --to": ["page", "--policy", "policy.yaml", "--remote", "wss://gw", "--to", PATH],
}


@pytest.fixture(scope="module")
def laid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that these commands read."""
    folder = tmp_path_factory.mktemp("laid")
    lay_desk(folder)
    write_policy(folder)
    (folder / "a.json").write_bytes(lock_of(REGISTERS).to_bytes())
    write_image(folder / "a.eif")
    signing_files(folder)
    assert enclavectl(*KMS, "--to", "key.json", home=folder).status == 0
    assert enclavectl("model", "seal", "demo-lesion", "--to", "m.sealed", home=folder).status == 0
    (folder / "folder").mkdir()
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_a_path_that_takes_no_file_is_refused_and_nothing_is_written(
    laid: Path, tmp_path: Path, command: str
) -> None:
    folder = tmp_path / "home"
    shutil.copytree(laid, folder)
    before = sorted(path.name for path in folder.iterdir())
    option = next(word for word in command.split() if word.startswith("--"))
    ending = ".sealed" if command == "model seal --to" else ".csv"  # what --results takes
    for path in ("", "/", "folder", f"nodir/x{ending}", "-"):
        words = [path if one is PATH else one for one in COMMANDS[command]]
        done = enclavectl(*words, home=folder, timeout_s=20)
        assert (done.status, done.out) == (2, ""), (path, done.err)
        assert option in done.err or (path or ".") in done.err, (path, done.err)
        assert "Traceback" not in done.err
        after = sorted(one.name for one in folder.iterdir() if one.name not in (".local", ".config"))
        assert after == before, path


@pytest.mark.parametrize(
    "words", [KMS, NEW, ["eif", "sign", "a.eif", "--key", "key.pem", "--cert", "cert.pem"]]
)
def test_a_missing_folder_is_told_with_what_to_do(laid: Path, words: list[object]) -> None:
    done = enclavectl(*words, "--to", "nodir/x", home=laid)
    assert done.status == 2
    assert "--to nodir/x: expected a file in a folder that exists\n" in done.err
    assert "  try: make the folder first, or name another file\n" in done.err


def test_a_new_folder_in_a_missing_one_is_refused(laid: Path) -> None:
    done = enclavectl("eif", "extract", "a.eif", "--to", "nodir/x", home=laid)
    assert done.status == 2
    assert "  try: make that folder first, or name another one\n" in done.err


def test_standard_output_is_told_from_a_file(laid: Path) -> None:
    done = enclavectl("verify", "evidence.json", "--report", "-", home=laid)
    assert done.err.splitlines()[0] == "enclavectl: --report -: expected a file, not standard output"


@pytest.mark.parametrize("name", [".", "/dev/null"])
def test_nobody_is_told_to_add_a_release_to_a_folder_or_a_device(laid: Path, name: str) -> None:
    done = enclavectl(*NEW, "--to", name, home=laid)
    assert (done.status, "policy add" in done.err) == (2, False), done.err


def test_a_key_policy_is_not_left_behind_where_its_iam_policy_cannot_be_written(
    laid: Path, tmp_path: Path
) -> None:
    shutil.copytree(laid, tmp_path, dirs_exist_ok=True)
    for more in (["nodir/z.json"], ["/dev/null", "--force"]):
        done = enclavectl(*KMS, "--to", "z.json", "--iam-to", *more, home=tmp_path)
        assert done.status == 2, done.err
        assert "--iam-to" in done.err or "/dev/null" in done.err
        assert not (tmp_path / "z.json").exists()
    assert enclavectl(*KMS, "--to", "z.json", "--iam-to", "y.json", home=tmp_path).status == 0
