"""``diagnose``: the main job, in text and JSON."""

from __future__ import annotations

import base64
import hashlib
import shutil
from pathlib import Path

import pytest

from tests.e2e.cli import CODES, Cli, sample


def test_on_a_machine_where_nothing_ever_ran(cli: Cli) -> None:
    ran = cli.ok("diagnose", sample("bcc"))
    first, *lines = ran.out.splitlines()
    assert first.startswith("SIMULATED  a process on this machine plays the enclave.")
    assert str(sample("bcc")) in lines
    assert len([line for line in lines if "%" in line]) == 3
    assert next(line for line in lines if "%" in line).split()[0] == "bcc"
    assert any(line.startswith("evidence  verified; signed ") for line in lines)
    assert lines[-1], "the model's notice goes with every answer"
    assert ran.err == ""
    cli.assert_nothing_left()


def test_every_sample_is_what_its_name_says_in_one_json_object(cli: Cli) -> None:
    names = [str(sample(code)) for code in reversed(CODES)]
    value = cli.ok("diagnose", *names, "--output", "json").json()
    assert set(value) == {"schema", "trust", "backend", "evidence", "later_evidence", "model", "results"}
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
        assert set(result) == {"image", "sha256", "session", "label", "probabilities", "timings_ms"}
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
    assert ran.err == "enclavectl: using the running enclave shared, model demo-lesion\n"


@pytest.mark.parametrize("top", [1, 7, 64])
def test_top_says_how_many_labels(shared: Cli, top: int) -> None:
    lines = shared.ok("diagnose", sample("nv"), "--top", str(top)).out.splitlines()
    shown = [line.split()[0] for line in lines if "%" in line]
    assert len(shown) == min(top, 7)
    assert shown[0] == "nv"


def test_the_report_has_the_picture_and_the_trust(shared: Cli, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    shared.ok("diagnose", sample("bkl"), "--report", report)
    page = report.read_text()
    assert base64.b64encode(sample("bkl").read_bytes()).decode() in page
    assert "simulated" in page.lower()
    assert "http://" not in page.replace("http://www.w3.org/", "")


def test_a_report_that_cannot_be_written_is_refused_before_anything_else(shared: Cli, tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "no" / "r.html"):
        error = shared.refused(2, "diagnose", sample("bkl"), "--report", place)
        assert "--report" in error["message"]


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
