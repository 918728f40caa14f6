"""What bad input gets: a clear error and the right exit code; ``Cli.run`` refuses tracebacks and exit 1."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from enclavectl.models.find import PACKAGED_DIR
from tests.e2e.cli import Cli, sample


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_bomb() -> bytes:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1_000_000))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, data) for kind, data in chunks)


def frames(path: Path) -> None:
    pictures = [Image.new("RGB", (9, 9), (shade, 0, 0)) for shade in (0, 99, 200)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:])


PICTURES: dict[str, tuple[Callable[[Path], object], str | None]] = {
    "text.png": (lambda path: path.write_text("not a picture"), "unsupported-format"),
    "truncated.png": (lambda path: path.write_bytes(sample("nv").read_bytes()[:3000]), "unreadable"),
    "bomb.png": (lambda path: path.write_bytes(png_bomb()), "too-many-pixels"),
    "empty.png": (lambda path: path.write_bytes(b""), "empty"),
    "huge.png": (lambda path: os.truncate(shutil.copy(sample("nv"), path), 2**24 + 1), "too-large"),
    "fifo.png": (os.mkfifo, "unreadable-file"),
    "animated.gif": (frames, "unsupported-format"),
    "animated.webp": (frames, "more-than-one-frame"),
    "pages.tif": (frames, "more-than-one-frame"),
    "sixteen.png": (Image.new("I;16", (9, 9)).save, "unsupported-pixels"),
    "cmyk.jpg": (Image.new("CMYK", (9, 9)).save, None),
    "palette.png": (Image.new("P", (9, 9)).save, None),
    "alpha.png": (Image.new("RGBA", (9, 9)).save, "nothing-visible"),
    "bilevel.tif": (Image.new("1", (9, 9)).save, None),
    "one.png": (Image.new("RGB", (1, 1)).save, None),
    "thin.png": (Image.new("RGB", (1, 5000)).save, None),
}


def test_every_kind_of_bad_picture_is_refused_by_name_and_the_rest_is_answered(
    shared: Cli, tmp_path: Path
) -> None:
    for name, (make, _) in PICTURES.items():
        make(tmp_path / name)
    ran = shared.run("diagnose", "-o", "json", *(tmp_path / name for name in PICTURES), sample("mel"))
    assert ran.status == 5
    *results, last = ran.json()["results"]
    found = {Path(one["image"]).name: one["error"]["code"] if "error" in one else None for one in results}
    assert found == {name: code for name, (_, code) in PICTURES.items()}
    assert last["label"]["code"] == "mel"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file(shared: Cli, tmp_path: Path) -> None:
    (tmp_path / "closed.png").touch(mode=0)
    ran = shared.run("diagnose", tmp_path / "closed.png", "-o", "json")
    assert ran.status == 5
    assert ran.json()["results"][0]["error"]["code"] == "unreadable-file"


def test_what_cannot_be_named(cli: Cli) -> None:
    (cli.base / "empty").mkdir()
    for argument, message in (
        ("absent.png", "no such file or folder"),
        ("empty", "expected a folder with pictures, found none"),
        ("x" * 5000, "File name too long"),
    ):
        assert message in cli.refused(2, "diagnose", argument)["message"]
    assert "only once" in cli.refused(2, "diagnose", "-", "-")["message"]
    assert cli.run("diagnose").status == 2
    assert cli.run("diagnose", "--no-such-option").status == 2
    assert cli.run("no-such-command").status == 2
    assert cli.run("list", "--output", "xml").status == 2
    assert not cli.state.exists(), "nothing was started for these"


def test_names_that_mean_something_to_a_terminal(shared: Cli, tmp_path: Path) -> None:
    names = ["\x1b[31mred.png", "new\nline.png", "[bold]x.png", "\udcff.png"]
    for name in names:
        shutil.copy(sample("nv"), tmp_path / name)
    ran = shared.ok("diagnose", tmp_path, "--top", "1")
    assert "\x1b" not in ran.out + ran.err
    assert "[bold]x.png" in ran.out
    results = shared.ok("diagnose", tmp_path, "-o", "json").json()["results"]
    assert [one["image"] for one in results] == sorted(str(tmp_path / name) for name in names)
    ascii_only = shared.run("diagnose", tmp_path, env={"PYTHONIOENCODING": "ascii:strict"})
    assert ascii_only.status == 0
    assert "##" in ascii_only.out


def model_copy(cli: Cli) -> Path:
    return shutil.copytree(PACKAGED_DIR, cli.base / "model")


def test_a_model_whose_hash_is_not_its_cards(cli: Cli) -> None:
    folder = model_copy(cli)
    assert cli.ok("model", "show", folder, "-o", "json").json()["id"] == "demo-lesion"
    with next(folder.glob("*.tflite")).open("ab") as file:
        file.write(b"x")
    for command in (("diagnose", sample("nv")), ("run",)):
        error = cli.refused(2, *command, "--model", folder)
        assert "expected SHA-256" in error["message"]
    assert cli.refused(2, "model", "show", folder)["hint"]
    cli.assert_nothing_left()


def test_a_model_that_is_none(cli: Cli) -> None:
    error = cli.refused(2, "diagnose", sample("nv"), "--model", "demo-leison")
    assert "demo-lesion" in error["message"]
    assert "no such model card" in cli.refused(2, "diagnose", sample("nv"), "-m", "/no/model.yaml")["message"]


def replace_weights(folder: Path, weights: bytes) -> None:
    """Other weights in a model's folder, and their hash in its card."""
    next(folder.glob("*.tflite")).write_bytes(weights)
    card = folder / "model.yaml"
    sha256 = f"sha256: {hashlib.sha256(weights).hexdigest()}"
    card.write_text(re.sub("^sha256: .*$", sha256, card.read_text(), flags=re.MULTILINE))


def test_weights_that_are_no_model_start_nothing(cli: Cli) -> None:
    folder = model_copy(cli)
    replace_weights(folder, b"not a model" * 100)
    for command in (["diagnose", sample("nv")], ["run"]):
        error = cli.refused(2, *command, "--model", folder)
        assert error["code"] == "model-broken"
        assert "cannot load it" in error["message"]
    cli.assert_nothing_left()


def test_too_little_memory_is_an_error_and_not_a_hang(cli: Cli) -> None:
    ran = cli.run("run", "--memory", "256", "-o", "json")
    assert ran.status in {0, 5}  # 256 MiB of address space is enough on some machines
    assert cli.refused(2, "run", "--memory", "10")["message"].endswith("found 10")


def test_a_model_by_flag_is_the_model_that_answers(shared: Cli) -> None:
    folder = model_copy(shared)
    assert shared.run("diagnose", sample("nv"), "--model", folder).status == 0  # the same weights
    replace_weights(folder, next(folder.glob("*.tflite")).read_bytes() + b"\0")
    error = shared.refused(6, "diagnose", sample("nv"), "--model", folder)
    assert "expected an enclave with model" in error["message"]
    assert "--fresh" in error["hint"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--root", "x.pem"], "expected --connect as well"),
        (["--connect", "unix:x"], "expected --policy as well"),
        (["--connect", "tcp:x", "--policy", "p.yaml"], "no such policy"),
        (["--connect", "unix:x", "--enclave", "y"], "expected one of --connect and --enclave"),
        (["--connect", "unix:x", "--fresh"], "expected one of --connect and --fresh"),
        (["--fresh", "--enclave", "x"], "expected one of --enclave and --fresh"),
        (["--top", "0"], "from 1 to 64"),
        (["--timeout", "0"], "from 1 to 3600"),
        (["--policy", "absent.yaml"], "no such policy"),
    ],
)
def test_options_that_make_no_sense(shared: Cli, options: list[str], message: str) -> None:
    assert message in shared.refused(2, "diagnose", sample("nv"), *options)["message"]


def test_closed_and_full_streams(shared: Cli) -> None:
    program = str(shared.program[0])
    for redirect in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
        script = f'exec "$0" diagnose "$1" --top 1 {redirect}'
        shell = Cli(shared.base, ("sh", "-c", script, program))
        assert shell.run(sample("nv")).status == 0
    for output in ("json", "text"):
        piped = Cli(
            shared.base, ("bash", "-c", f'"$0" list -o {output} | true; exit ${{PIPESTATUS[0]}}', program)
        )
        assert piped.run().status == 141
        full = Cli(shared.base, ("sh", "-c", f'exec "$0" list -o {output} >/dev/full', program)).run()
        assert full.status == 3
        assert full.err.startswith("enclavectl: the output: cannot be written (No space left on device)\n")
        assert "ignored" not in full.err
    assert "empty" in Cli(shared.base, ("sh", "-c", 'exec "$0" diagnose - <&-', program)).run().out


def test_a_state_folder_that_cannot_be_used(cli: Cli) -> None:
    (cli.base / "file").write_text("")
    for place in ("file", "/proc/nope"):
        for command in (["list"], ["run"], ["diagnose", sample("nv")]):
            ran = cli.run(*command, env={"ENCLAVECTL_STATE_DIR": place})
            assert ran.status == 3 or (place == "/proc/nope" and command == ["list"]), ran.err
    (cli.base / "open" / "local").mkdir(parents=True)
    (cli.base / "open" / "local").chmod(0o755)
    ran = cli.run("run", env={"ENCLAVECTL_STATE_DIR": str(cli.base / "open")})
    assert ran.status == 3
    assert "expected a folder that only its owner may enter" in ran.err


def test_a_state_folder_deep_down(cli: Cli) -> None:
    deep = Cli(cli.base / "/".join(["d" * 60] * 4))
    (deep.base / "home").mkdir(parents=True)
    try:
        deep.ok("run", "--name", "deep")
        results = deep.ok("diagnose", sample("bcc"), "-o", "json").json()["results"]
        assert results[0]["label"]["code"] == "bcc"
    finally:
        deep.run("terminate", "--all")
    deep.assert_nothing_left()
