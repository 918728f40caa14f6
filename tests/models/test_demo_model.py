"""The committed demonstration model is the one that its card describes, and works as the card says."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import ExifTags, Image, ImageOps

from enclave_payload.card import MODEL_SCHEMA, ModelCard
from enclavectl.models.card import read_card
from tools.evaluate import HELD_OUT, Interpreter, classify, evaluate, open_interpreter, predictor
from tools.lesions import KINDS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "enclave_payload" / "model"
SAMPLES = sorted(path for path in (ROOT / "samples").iterdir() if path.suffix in {".png", ".jpg"})


@pytest.fixture(scope="module")
def document() -> dict[str, object]:
    value = yaml.safe_load((FOLDER / "model.yaml").read_bytes())
    assert isinstance(value, dict)
    return value


@pytest.fixture(scope="module")
def card(document: dict[str, object]) -> ModelCard:
    assert document["schema"] == MODEL_SCHEMA
    return read_card(FOLDER / "model.yaml").card


@pytest.fixture(scope="module")
def interpreter() -> Interpreter:
    runtime = open_interpreter(FOLDER / "model.tflite")
    runtime.allocate_tensors()
    return runtime


def test_card_has_exactly_the_keys_of_its_schema(document: dict[str, object]) -> None:
    keys = "schema id title file sha256 input output labels notice training evaluation license"
    assert list(document) == keys.split()


def test_card_is_there_in_both_forms(card: ModelCard) -> None:
    assert (FOLDER / "model.json").read_bytes() == card.to_json()


def test_card_names_these_weights(card: ModelCard) -> None:
    data = (FOLDER / "model.tflite").read_bytes()
    assert hashlib.sha256(data).hexdigest() == card.sha256
    assert len(data) < 1_000_000


def test_labels_are_in_the_order_of_the_outputs(card: ModelCard) -> None:
    assert tuple(label.code for label in card.labels) == KINDS


def test_batch_is_fixed_at_one(interpreter: Interpreter, card: ModelCard) -> None:
    # A dynamic batch shows as -1 in shape_signature and costs tflite-runtime 2.14 its XNNPACK kernels.
    entry, exit_ = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    for field in ("shape", "shape_signature"):
        assert np.array_equal(np.asarray(entry[field]), [1, card.input.height, card.input.width, 3])
        assert np.array_equal(np.asarray(exit_[field]), [1, len(card.labels)])
    assert entry["dtype"] is exit_["dtype"] is np.float32


def test_every_kind_has_a_sample() -> None:
    assert {path.name for path in SAMPLES} == {f"{kind}.png" for kind in KINDS} | {"bcc-rotated.jpg"}


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_sample_is_classified_as_its_name_says(path: Path, interpreter: Interpreter) -> None:
    with Image.open(path) as image:
        answer = classify(predictor(interpreter), image)
    kind = path.stem.split("-")[0]
    assert max(answer, key=answer.__getitem__) == kind
    assert answer[kind] > 0.5
    assert sum(answer.values()) == pytest.approx(1, abs=1e-5)


def test_rotated_sample_lies_on_its_side() -> None:
    with Image.open(ROOT / "samples" / "bcc-rotated.jpg") as image:
        assert image.getexif()[ExifTags.Base.Orientation] == 6
        assert image.size == (600, 450)
        assert ImageOps.exif_transpose(image).size == (450, 600)


def test_accuracy_on_fresh_pictures_is_near_the_cards(
    interpreter: Interpreter, document: dict[str, object]
) -> None:
    measured = document["evaluation"]
    assert isinstance(measured, dict)
    fresh = range(HELD_OUT + 200_000, HELD_OUT + 200_005)
    result = evaluate(predictor(interpreter), fresh)
    assert result.pictures == 35
    assert result.accuracy >= measured["accuracy"] - 0.1


def test_card_adds_up(document: dict[str, object]) -> None:
    measured = document["evaluation"]
    assert isinstance(measured, dict)
    confusion = np.array(measured["confusion_matrix"])
    assert confusion.sum() == measured["pictures"]
    assert measured["accuracy"] == pytest.approx(np.trace(confusion) / confusion.sum(), abs=1e-4)
    recall = np.diag(confusion) / confusion.sum(axis=1)
    assert list(measured["recall"].values()) == pytest.approx(recall.tolist(), abs=1e-4)
