"""From weights to a card that is right, as the owner of a model goes: card new, check, use."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from enclavectl.errors import EnclaveError, UsageError
from enclavectl.models.probe import probe
from enclavectl.models.trial import TrialPicture, try_model
from enclavectl.models.weights import Model
from enclavectl.protocol.media import MediaType
from tests.e2e.cli import SAMPLES, Cli
from tests.models.test_probe import model as model_of
from tests.models.tiny import MODELS


def answered(cli: Cli, *arguments: str | Path) -> dict[str, Any]:
    """The object that a command prints."""
    value = json.loads(cli.ok(*arguments, "--output", "json").out)
    assert isinstance(value, dict)
    return value


def flowers(folder: Path, name: str = "f32") -> Path:
    (folder / "flowers.tflite").write_bytes(MODELS[name]())
    (folder / "labels.txt").write_text("Daisy\nRose\nTulip\n")
    return folder / "flowers.tflite"


def test_a_draft_is_no_model_until_somebody_decides(cli: Cli, tmp_path: Path) -> None:
    weights = flowers(tmp_path)
    value = answered(cli, "model", "card", "new", weights, "--labels", tmp_path / "labels.txt")
    assert {one["key"] for one in value["unknown"]} == {
        "title",
        "input.fit",
        "input.filter",
        "input.mean",
        "notice",
    }
    error = cli.refused(2, "model", "check", tmp_path / "model.yaml")
    assert "found 'unknown'" in error["message"]
    again = cli.refused(2, "model", "card", "new", weights)
    assert again["code"] == "card-exists"


def test_a_card_from_a_preset_serves(cli: Cli, tmp_path: Path) -> None:
    weights = flowers(tmp_path, "uint8")
    cli.ok(
        "model", "card", "new", weights, "--from", "teachable-machine", "--labels", tmp_path / "labels.txt"
    )
    value = answered(cli, "model", "check", tmp_path)
    assert (value["warnings"], value["pictures"]) == ([], 0)
    answer = answered(cli, "diagnose", "--fresh", "--model", tmp_path, SAMPLES / "nv.png")
    (result,) = answer["results"]
    assert list(result["probabilities"]) == ["daisy", "rose", "tulip"]
    assert all(share * 256 == int(share * 256) for share in result["probabilities"].values())


def test_a_thousand_labels_are_answered_by_the_most_probable(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(MODELS["f32-1001"]())
    cli.ok("model", "card", "new", tmp_path / "m.tflite", "--from", "torchvision", "--id", "many")
    card = tmp_path / "model.yaml"
    card.write_text(card.read_text().replace("top: 10", "top: 3\n  unsure_below: 0.999"))
    answer = answered(cli, "diagnose", "--fresh", "--model", card, SAMPLES / "nv.png")
    (result,) = answer["results"]
    shares = list(result["probabilities"].values())
    assert len(shares) == 3
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) + result["rest"] == pytest.approx(1, abs=0.01)
    assert "unsure" in [warning["code"] for warning in result["warnings"]]


def test_wrong_preprocessing_is_told(cli: Cli, tmp_path: Path) -> None:
    """The demonstration model sees pictures stretched: a card that says otherwise costs answers."""
    folder = tmp_path / "demo"
    folder.mkdir()
    packaged = answered(cli, "model", "show", "demo-lesion")
    shutil.copy(packaged["file"], folder / "model.tflite")
    text = Path(packaged["card"]).read_text()
    (folder / "model.yaml").write_text(text.replace("fit: stretch", "fit: pad, pad: 0"))
    names = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in names:
        shutil.copy(SAMPLES / f"{name}.png", pictures)
    labels = tmp_path / "labels.csv"
    labels.write_text("file,label\n" + "".join(f"{name}.png,{name}\n" for name in names))
    value = answered(cli, "model", "check", folder, "--pictures", pictures, "--expected", labels)
    assert value["accuracy"] < 0.5
    assert value["bare"]["same_label"] == 7
    assert value["bare"]["greatest_difference"] < 0.02
    assert value["variants"][0]["accuracy"] == 1
    assert any(warning.startswith("with fit: ") for warning in value["warnings"])


def test_an_answer_that_the_card_expects_is_checked(cli: Cli, tmp_path: Path) -> None:
    packaged = answered(cli, "model", "show", "demo-lesion")
    shutil.copy(packaged["file"], tmp_path / "model.tflite")
    shutil.copy(SAMPLES / "bcc.png", tmp_path)
    expected = "expected:\n- {file: bcc.png, label: LABEL, probability: 0.9, tolerance: 0.1}\n"
    text = Path(packaged["card"]).read_text() + expected
    (tmp_path / "model.yaml").write_text(text.replace("LABEL", "bcc"))
    assert answered(cli, "model", "check", tmp_path)["broken_expectations"] == []
    (tmp_path / "model.yaml").write_text(text.replace("LABEL", "mel"))
    ran = cli.run("model", "check", tmp_path)
    assert ran.status == 2
    assert "bcc.png: expected mel with 0.9 give or take 0.1, found bcc" in ran.err


def damaged() -> dict[str, bytes]:
    """Cut, overwritten and inflated: 30 files that no runtime survives or serves."""
    found: dict[str, bytes] = {}
    for name in ("f32", "int8", "f32-1001"):
        whole = MODELS[name]()
        for part in (1, 2, 3, 5, 6):
            found[f"{name} cut at {part}/7"] = whole[: len(whole) * part // 7]
        for place in (0, 16, len(whole) // 3, len(whole) // 2, len(whole) - 24):
            found[f"{name} of ones at {place}"] = whole[:place] + b"\xff" * 24 + whole[place + 24 :]
    return found


DAMAGED = damaged()


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_weights_cost_the_process_that_parses_them(kind: str, tmp_path: Path) -> None:
    """Thirty of them. Whoever asks gets an error, or an answer where the damage hit a weight only."""
    assert len(DAMAGED) == 30
    model: Model = model_of(tmp_path, DAMAGED[kind], labels=3)
    picture = TrialPicture(path=str(SAMPLES / "nv.png"), media_type=MediaType.PNG)
    with suppress(UsageError, EnclaveError):
        probe(model)
    with suppress(EnclaveError):
        assert len(try_model(model, [picture])) == 1
