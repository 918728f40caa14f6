"""``diagnose``: the main job, in text and JSON."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.e2e.cli import CODES, Cli, sample


def test_on_a_machine_where_nothing_ever_ran(cli: Cli) -> None:
    ran = cli.ok("diagnose", sample("bcc"))
    first, *lines = ran.out.splitlines()
    assert first.startswith("SIMULATED  a process on this machine plays the enclave.")
    assert str(sample("bcc")) in lines
    assert len([line for line in lines if "%" in line]) == 3
    assert next(line for line in lines if "%" in line).split()[0] == "bcc"
    assert any(line.split()[:3] == ["evidence", "verified;", "signed"] for line in lines)
    assert lines[-1], "the model's notice goes with every answer"
    assert ran.err == ""
    cli.assert_nothing_left()


def test_every_sample_is_what_its_name_says_in_one_json_object(cli: Cli) -> None:
    names = [str(sample(code)) for code in reversed(CODES)]
    value = cli.ok("diagnose", *names, "--output", "json").json()
    head = {"schema", "trust", "backend", "evidence", "model"}
    tail = {"left_out", "later_evidence", "pictures", "answered", "complete"}
    assert list(value)[-1] == "complete"
    assert set(value) == head | {"results"} | tail
    assert (value["complete"], value["pictures"], value["answered"]) == (True, 7, 7)
    assert (value["schema"], value["trust"], value["backend"]) == (
        "enclavectl.diagnosis/1",
        "simulated",
        "local",
    )
    evidence, model = value["evidence"], value["model"]
    assert value["later_evidence"] == []
    assert evidence["verified"] is True
    assert evidence["module_id"].startswith("i-00000000000000000-enc")
    assert evidence["timestamp"].endswith("+00:00")
    assert {"0", "1", "2"} <= set(evidence["pcrs"])
    assert len(bytes.fromhex(evidence["nonce"])) == 32
    assert model["id"] == "demo-lesion"
    assert len(model["sha256"]) == 64
    assert "diagnos" in model["notice"]
    assert [result["image"] for result in value["results"]] == names
    for code, result in zip(reversed(CODES), value["results"], strict=True):
        parts = {"label", "probabilities", "rest", "receipted", "warnings", "timings_ms"}
        assert set(result) == {"image", "sha256", "session"} | parts
        assert result["receipted"] is True
        assert result["sha256"] == hashlib.sha256(sample(code).read_bytes()).hexdigest()
        assert set(result["label"]) == {"code", "name", "probability"}
        assert result["label"]["code"] == code
        assert tuple(result["probabilities"]) == CODES
        assert result["probabilities"][code] == result["label"]["probability"]
        assert sum(result["probabilities"].values()) == pytest.approx(1, abs=0.01)
        assert result["timings_ms"]["total"] > result["timings_ms"]["inference"] > 0


def test_order_stdin_folders_and_repetition(shared: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for code in ("nv", "df"):
        shutil.copy(sample(code), folder)
    (folder / "notes.txt").write_text("no picture")
    names: list[str | Path] = [sample("mel"), "-", folder, sample("mel")]
    ran = shared.ok("diagnose", "-o", "json", *names, stdin=sample("vasc").read_bytes())
    results = ran.json()["results"]
    wanted = [str(sample("mel")), "-", str(folder / "df.png"), str(folder / "nv.png"), str(sample("mel"))]
    assert [result["image"] for result in results] == wanted
    assert [result["label"]["code"] for result in results] == ["mel", "vasc", "df", "nv", "mel"]
    assert ran.err == (
        f"enclavectl: {folder}: left out 1 file (1 .txt)\n"
        "enclavectl: using the running enclave shared, model demo-lesion\n"
    )
    assert ran.json()["left_out"] == [
        {"folder": str(folder), "files": {".txt": 1}, "subfolders": 0, "hidden": 0}
    ]


def test_recursive_takes_subfolders(shared: Cli, tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    shutil.copy(sample("nv"), tmp_path / "a" / "b" / "scan.jfif")
    error = shared.refused(2, "diagnose", tmp_path)
    assert "only 1 subfolder" in error["message"]
    results = shared.ok("diagnose", "-r", "-o", "json", tmp_path).json()["results"]
    assert [result["label"]["code"] for result in results] == ["nv"]
    sent = shared.ok("send", "--recursive", "-o", "json", tmp_path).json()
    assert [result["image"] for result in sent["results"]] == [str(tmp_path / "a" / "b" / "scan.jfif")]
    assert [folder["folder"] for folder in sent["left_out"]] == [str(tmp_path)]
    shared.ok("listen", "--count", "1", "--timeout", "60")


def test_a_refused_picture_costs_exit_5_and_nothing_else(shared: Cli, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(sample("bcc").read_bytes()[:5000])
    text = tmp_path / "text.png"
    text.write_text("no picture")
    names = [sample("bcc"), broken, sample("mel"), text, sample("nv")]
    ran = shared.run("diagnose", *names, "--output", "json")
    assert ran.status == 5
    results = ran.json()["results"]
    assert [result["image"] for result in results] == [str(name) for name in names]
    assert [result.get("label", result.get("error"))["code"] for result in results] == [
        "bcc",
        "unreadable",
        "mel",
        "unsupported-format",
        "nv",
    ]
    for result in (results[1], results[3]):
        assert set(result) == {"image", "sha256", "session", "error"}
        assert set(result["error"]) == {"code", "message", "hint"}
    ran = shared.run("diagnose", *names)
    assert ran.status == 5
    assert ran.out.index("broken.png") < ran.out.index("mel.png") < ran.out.index("text.png")
    assert "the enclave refused it: it is damaged, cut short" in " ".join(ran.out.split())


def test_where_no_picture_can_be_sent_no_enclave_is_started(cli: Cli, tmp_path: Path) -> None:
    """Standard input counts as well: it is read before an enclave is needed."""
    (tmp_path / "page.jpg").write_text("<html>")
    (tmp_path / "empty.png").touch()
    names = [str(tmp_path / "page.jpg"), "-", str(tmp_path / "empty.png")]
    beside = ("--report", tmp_path / "r.html", "--evidence", tmp_path / "e.json")
    ran = cli.run("diagnose", *names, "-o", "json", *beside, stdin=b"no picture")
    assert ran.status == 5
    value = ran.json()
    assert (value["trust"], value["evidence"], value["model"]) == (None, None, None)
    assert (value["complete"], value["pictures"], value["answered"]) == (True, 3, 0)
    assert [one["error"]["code"] for one in value["results"]] == [
        "unsupported-format",
        "unsupported-format",
        "empty",
    ]
    assert "neither report nor evidence" in ran.err
    text = cli.run("diagnose", names[0])
    assert (text.status, text.out.splitlines()[-1]) == (
        5,
        "No picture can be sent, so no enclave was asked.",
    )
    assert not list((cli.state / "local").glob("enclaves/*"))
    assert sorted(one.name for one in tmp_path.iterdir() if one.is_file()) == ["empty.png", "page.jpg"]
    cli.assert_nothing_left()


def test_a_picture_of_one_color_is_answered_with_a_warning(shared: Cli, tmp_path: Path) -> None:
    flat = tmp_path / "flat.png"
    Image.new("RGB", (96, 96), (181, 122, 97)).save(flat)
    assert "warning: the picture is (nearly) of one color" in shared.ok("diagnose", flat).out
    warnings = shared.ok("diagnose", "-o", "json", flat).json()["results"][0]["warnings"]
    assert [warning["code"] for warning in warnings] == ["one-color"]
    shared.ok("send", flat)
    answer = json.loads(shared.ok("listen", "--count", "1", "--timeout", "60", "-o", "json").out)
    assert answer["result"]["warnings"] == warnings


def test_a_rotated_picture_is_the_same_picture(shared: Cli) -> None:
    results = shared.ok("diagnose", "-o", "json", sample("bcc").with_name("bcc-rotated.jpg")).json()[
        "results"
    ]
    assert results[0]["label"]["code"] == "bcc"


def test_a_fresh_enclave_beside_the_running_one(shared: Cli) -> None:
    value = shared.ok("diagnose", "--fresh", sample("df"), "-o", "json").json()
    running = shared.ok("describe", "shared", "-o", "json").json()["enclave"]["id"]
    assert running not in value["evidence"]["module_id"]
    listed = shared.ok("list", "-o", "json").json()["enclaves"]
    assert [one["name"] for one in listed] == ["shared"]
