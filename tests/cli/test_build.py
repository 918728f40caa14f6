"""``enclavectl build`` and ``lock`` as far as they go without a Docker engine; the rest is in tests/image."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from enclavectl.cli.build_view import show_plan
from enclavectl.cli.screen import Screen
from tests.artifacts.test_lock import locked_image
from tests.cli.command import enclavectl


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--sign", "key.pem"], "--cert"),
        (["--cert", "cert.pem"], "--sign"),
        (["--allow", "memory"], "reason"),
        (["--allow", "memroy=x"], "memory"),
        (["--image", "a", "--dockerfile", "b"], "--dockerfile"),
        (["--image", "a", "--model", "demo-lesion"], "--model"),
        (["--mode", "other"], "mode"),
        (["--builder", "nitro-cli", "--mode", "reproducible"], "reproducible"),
        (["--builder", "nitro-cli", "--kernel", "x"], "--kernel"),
        (["--builder", "native", "--sign", "arn:aws:kms:eu-west-1:123456789012:key/a", "--cert", "c"], "KMS"),
        (["--sign", "arn:aws:kms:eu-west-1:123456789012:alias/a", "--cert", "c"], "alias"),
        (["--sign", "arn:aws:kms:eu-west-1:123456789012:key/a", "--cert", "c.pem"], "c.pem"),
        (["--builder", "nitro-cli", "--sign", "key.pem", "--cert", "c.pem"], "key.pem"),
        (["--to", "none/enclave.eif"], "folder"),
        (["--to", "/dev/null"], "a device"),
        (["--lock", "/dev/null"], "a device"),
        (["--provenance", "/dev/null"], "a device"),
        (["--provenance", "none/p.json"], "folder"),
        (["--provenance", "enclave.eif"], "expected two files"),
        (["--to", "a.eif", "--lock", "./a.eif"], "two files"),
        (["--model", "no-such-model"], "demo-lesion"),
        (["--sign", "key.pem", "--cert", "cert.pem"], "key.pem"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_done(
    tmp_path: Path, arguments: list[str], words: str
) -> None:
    done = enclavectl("build", *arguments, "--output", "json", home=tmp_path)
    assert done.status == 2, done.err
    assert words in str(done.error())
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_lock_is_not_built_over(tmp_path: Path) -> None:
    lock = tmp_path / "enclavectl.lock.json"
    lock.write_text('{"schema": "enclavectl.lock/1"}')
    done = enclavectl("build", "--output", "json", home=tmp_path)
    assert done.status == 2
    assert "--upgrade-wheels" in str(done.error()["hint"])
    assert lock.read_text() == '{"schema": "enclavectl.lock/1"}'


@pytest.mark.parametrize(
    "words",
    [
        ("--to", "mine"),
        ("--lock", "mine", "--upgrade-wheels"),
        ("--provenance", "mine"),
    ],
)
def test_a_build_writes_over_its_own_files_only(tmp_path: Path, words: tuple[str, ...]) -> None:
    """``--sign key.pem --to key.pem`` would cost the key."""
    (tmp_path / "mine").write_text("a key, for app.eif\n")
    done = enclavectl("build", *words, "--output", "json", home=tmp_path)
    assert (done.status, done.error()["code"]) == (2, "foreign-file")
    assert (tmp_path / "mine").read_text() == "a key, for app.eif\n"


def test_lock_show_and_check(tmp_path: Path) -> None:
    lock, path = locked_image(tmp_path)
    shown = enclavectl("lock", "show", "--output", "json", home=tmp_path)
    assert shown.json() == json.loads(path.read_bytes())
    assert lock.pcrs["PCR0"] in enclavectl("lock", "show", home=tmp_path).out
    checked = enclavectl("lock", "check", "--output", "json", home=tmp_path)
    assert checked.status == 0
    assert checked.json()["pcrs"] == lock.pcrs
    (tmp_path / "out" / "a.eif").unlink()
    lost = enclavectl("lock", "check", "--output", "json", home=tmp_path)
    assert lost.status == 6
    assert lost.error()["code"] == "lock-image"


def test_a_plan_names_the_base_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    base = {"reference": "python:3.11", "id": "sha256:ab", "target": {"python": "3.11"}}
    plan: dict[str, object] = {
        "image": None,
        "builder": "buildkit",
        "base": base,
        "context": [],
        "wheels": [],
    }
    show_plan(Screen(as_json=False), plan, ())
    assert capsys.readouterr().out == "builder  buildkit\nbase     python:3.11 sha256:ab\n"


def test_a_dry_run_wants_no_folder_that_can_be_written(tmp_path: Path) -> None:
    """/proc takes no files, even of root. What comes next is the engine."""
    outputs = ("--to", "/proc/a.eif", "--lock", "/proc/l.json", "--provenance", "/proc/p.json")
    nowhere = {"DOCKER_HOST": "unix:///nosuch.sock"}
    done = enclavectl("build", *outputs, "--dry-run", home=tmp_path, environ=nowhere)
    assert (done.status, "no Docker engine answers" in done.err) == (3, True)
    done = enclavectl("build", *outputs, home=tmp_path, environ=nowhere)
    assert (done.status, "--to /proc/a.eif: " in done.err) == (2, True)
    done = enclavectl("build", "--to", "no/such.eif", "--dry-run", home=tmp_path, environ=nowhere)
    assert (done.status, "--to no/such.eif: " in done.err) == (2, True)


def test_an_engine_that_is_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    done = enclavectl("build", "--dry-run", home=tmp_path, environ={"DOCKER_HOST": "unix:///nosuch.sock"})
    assert done.status == 3
    message = "no Docker engine answers at unix:///nosuch.sock (No such file or directory)"
    assert done.err.startswith(f"enclavectl: {message}\n  try: is it running?")
