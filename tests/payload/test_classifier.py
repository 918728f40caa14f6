"""The real runtime with the packaged model, and weights that do not fit their card."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from enclave_payload.card import (
    MAX_WEIGHTS_BYTES,
    PARTS_PER_BILLION,
    CardError,
    Label,
    ModelCard,
    ModelOutput,
    Scores,
    load_card,
)
from enclave_payload.classifier import (
    ModelError,
    TFLiteClassifier,
    check_weights,
    make_classifier,
    read_model,
)
from enclavectl.models.find import find_model
from enclavectl.models.weights import load_weights
from tests.models.tflite import Graph
from tests.payload.cards import CARD, stretched


@pytest.fixture(scope="module")
def card() -> ModelCard:
    return find_model("demo-lesion", data_dir=Path("/nonexistent")).card


@pytest.fixture(scope="module")
def weights() -> bytes:
    return load_weights(find_model("demo-lesion", data_dir=Path("/nonexistent")))


@pytest.fixture
def folder(tmp_path: Path, card: ModelCard, weights: bytes) -> Path:
    """A model as it lies in the measured image."""
    (tmp_path / "model.json").write_bytes(card.to_json())
    (tmp_path / "model.tflite").write_bytes(weights)
    return tmp_path


def noise(seed: int, card: ModelCard) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (card.input.height, card.input.width, 3), np.uint8)
    return Image.fromarray(pixels)


def test_a_picture_gets_a_probability_for_each_label_in_order(card: ModelCard, weights: bytes) -> None:
    found = TFLiteClassifier(weights, card).classify(noise(1, card))
    assert len(found) == len(card.labels)
    assert abs(sum(found) - PARTS_PER_BILLION) < PARTS_PER_BILLION // 100
    assert all(0 <= parts <= PARTS_PER_BILLION for parts in found)


def test_an_answer_depends_on_the_picture_alone(card: ModelCard, weights: bytes) -> None:
    one, two = TFLiteClassifier(weights, card), TFLiteClassifier(weights, card)
    pictures = [noise(seed, card) for seed in range(4)]
    first = [one.classify(picture) for picture in pictures]
    assert [one.classify(picture) for picture in reversed(pictures)] == first[::-1]
    assert [two.classify(picture) for picture in pictures] == first
    assert len({tuple(found) for found in first}) == 4


def test_pixels_enter_as_the_card_says(card: ModelCard, weights: bytes) -> None:
    # (v - mean) / std of a picture equals that of another with everything doubled, and of no other.
    dark = Image.fromarray(np.asarray(noise(1, card)) // 2)
    doubled = Image.fromarray(np.asarray(dark) * 2)
    as_it_is = TFLiteClassifier(weights, card).classify(doubled)
    halved = replace(card, input=stretched(224, 224, "63.75", "63.75"))
    assert TFLiteClassifier(weights, halved).classify(dark) == as_it_is
    assert TFLiteClassifier(weights, card).classify(dark) != as_it_is


def test_the_runtime_agrees_with_itself_when_it_is_asked_directly(card: ModelCard, weights: bytes) -> None:
    try:
        from tflite_runtime.interpreter import Interpreter
    except ModuleNotFoundError:
        from ai_edge_litert.interpreter import Interpreter
    interpreter = Interpreter(model_content=weights, num_threads=1)
    interpreter.allocate_tensors()
    picture = noise(7, card)
    pixels = (np.asarray(picture, np.float32) - np.float32(127.5)) / np.float32(127.5)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], pixels[np.newaxis])
    interpreter.invoke()
    expected = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]
    found = TFLiteClassifier(weights, card).classify(picture)
    assert found == [round(float(share) * PARTS_PER_BILLION) for share in expected]


def test_a_folder_gives_the_classifier_of_its_card(folder: Path, card: ModelCard) -> None:
    assert make_classifier(*read_model(folder)).card == load_card(folder) == card


@pytest.mark.parametrize("name", ["model.json", "model.tflite"])
def test_a_folder_that_lacks_a_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError):
        make_classifier(*read_model(folder))


def test_a_card_that_is_damaged_is_refused(folder: Path) -> None:
    (folder / "model.json").write_bytes((folder / "model.json").read_bytes()[:-1])
    with pytest.raises(CardError):
        make_classifier(*read_model(folder))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda weights: weights[:-1], id="cut"),
        pytest.param(lambda weights: weights + b"\0", id="extended"),
        pytest.param(lambda weights: b"\0" + weights[1:], id="changed"),
        pytest.param(lambda weights: weights.ljust(MAX_WEIGHTS_BYTES + 2, b"\0"), id="over the limit"),
    ],
)
def test_weights_that_are_not_the_cards_are_refused(folder: Path, change: Callable[[bytes], bytes]) -> None:
    (folder / "model.tflite").write_bytes(change((folder / "model.tflite").read_bytes()))
    with pytest.raises(
        ModelError, match=r"^weights: the card names SHA-256 [0-9a-f]{64}, found [0-9a-f]{64}$"
    ):
        make_classifier(*read_model(folder))


@pytest.mark.parametrize("weights", [b"", b"\0" * 64, b"\x08\x07onnx" * 99, b"<!DOCTYPE html>"])
def test_bytes_that_are_no_model_are_refused_though_the_card_names_them(
    card: ModelCard, weights: bytes
) -> None:
    check_weights(weights, replace(card, sha256=hashlib.sha256(weights).hexdigest()))
    with pytest.raises(ModelError, match=r"^cannot load: "):
        TFLiteClassifier(weights, card)


def test_a_card_with_another_input_is_refused(card: ModelCard, weights: bytes) -> None:
    with pytest.raises(ModelError, match=r"^input: the card implies 1 x 224 x 8 x 3, the weights have"):
        TFLiteClassifier(weights, replace(card, input=stretched(8, 224)))


def test_a_card_with_another_number_of_labels_is_refused(card: ModelCard, weights: bytes) -> None:
    one_more = (*card.labels, Label(code="other", name="Other"))
    with pytest.raises(ModelError, match=r"^output has 7 values, the card 8 labels$"):
        TFLiteClassifier(weights, replace(card, labels=one_more))


def test_logits_of_a_model_whose_card_says_softmax_are_refused() -> None:
    graph = Graph()
    image = graph.tensor("image", [1, 8, 8, 3])
    weights = graph.model([image], [graph.dense(graph.mean(image))])
    card = replace(CARD, input=stretched(8, 8), labels=(*CARD.labels, Label(code="x", name="X")))
    with pytest.raises(ModelError, match="not probabilities"):
        TFLiteClassifier(weights, card).classify(noise(1, card))
    logits = replace(card, output=ModelOutput(scores=Scores.LOGITS))
    assert abs(sum(TFLiteClassifier(weights, logits).classify(noise(1, card))) - PARTS_PER_BILLION) < 3
