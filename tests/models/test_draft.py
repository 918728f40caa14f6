"""A draft says what the weights say, and names what nobody said."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from random import Random

import pytest

from enclave_payload.card import Filter, Fit, Layout, Scores
from enclavectl.errors import UsageError
from enclavectl.models.card import parse_model_card
from enclavectl.models.draft import UNKNOWN, Draft, DraftRequest, draft_card
from enclavectl.models.flatbuffer import FlatbufferError
from enclavectl.models.presets import PRESETS
from enclavectl.models.weights_file import read_weights_file
from tests.models.test_probe import custom, ending, of_shape, reshaped, two_inputs, two_outputs
from tests.models.tflite import ARG_MAX, INT32, Graph, metadata_of
from tests.models.tiny import MODELS

LABELS = "Daisy\nRose, red\nDaisy\n"


def with_metadata(files: dict[str, str] | None = None) -> bytes:
    graph = Graph()
    image = graph.tensor("image", [1, 8, 8, 3])
    metadata = metadata_of([123.675, 116.28, 103.53], [58.395, 57.12, 57.375], "labels.txt")
    weights = graph.model([image], [graph.softmax(graph.dense(graph.mean(image)))], metadata=metadata)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in ({"labels.txt": LABELS} if files is None else files).items():
            archive.writestr(name, text)
    return weights + packed.getvalue()


def draft(data: bytes, *, preset: str | None = None, labels: tuple[str, ...] = ()) -> Draft:
    chosen = None if preset is None else PRESETS[preset]
    return draft_card(DraftRequest(data=data, file="m.tflite", model_id="m", preset=chosen, labels=labels))


def gaps(found: Draft) -> set[str]:
    return {gap.key for gap in found.gaps}


def test_what_nobody_said_is_unknown_and_no_card() -> None:
    found = draft(MODELS["f32"]())
    assert gaps(found) == {"title", "input.fit", "input.filter", "input.mean", "labels", "notice"}
    assert found.text.count(UNKNOWN) == 4
    with pytest.raises(UsageError, match=r"input\.fit: expected one of stretch, crop, pad; found 'unknown'"):
        parse_model_card(found.text.encode(), Path("/m/model.yaml"))


def test_a_preset_metadata_and_labels_make_a_card() -> None:
    found = draft(with_metadata(), preset="torchvision")
    assert gaps(found) == {"notice"}
    model = parse_model_card(found.text.encode(), Path("/m/model.yaml"))
    assert (model.title, model.extra["license"]) == ("Three colors", "Apache-2.0")
    form = model.card.input
    assert (form.fit, form.crop, form.filter) == (Fit.CROP, "0.875", Filter.BILINEAR)
    assert form.mean == ("123.675", "116.28", "103.53")
    assert form.std == ("58.395", "57.12", "57.375")
    assert [label.code for label in model.card.labels] == ["daisy", "rose-red", "daisy-2"]
    assert model.card.labels[1].name == "Rose, red"


@pytest.mark.parametrize("name", MODELS)
def test_every_tiny_model_gets_a_card(name: str) -> None:
    found = draft(MODELS[name](), preset="teachable-machine")
    card = parse_model_card(found.text.encode(), Path("/m/model.yaml")).card
    scores = {"sigmoid": "sigmoid", "binary": "sigmoid", "logits": "logits", "uint8-logits": "logits"}
    assert card.output.scores is Scores(scores.get(name, "softmax"))
    assert (card.input.layout is Layout.NCHW) is (name == "nchw")
    assert card.output.top == (10 if "1001" in name else None)
    # Within a step of the input's own scale everywhere: raw is nearer to the float model.
    assert (card.input.mean is None) is ("int8" in name)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_makes_a_card_or_asks_for_the_scaling(name: str) -> None:
    found = draft(MODELS["f32"](), preset=name)
    assert ("input.mean" in gaps(found)) is (PRESETS[name].mean is None)
    assert not gaps(found) & {"input.fit", "input.filter"}


def argmax() -> bytes:
    graph = Graph()
    image = graph.tensor("image", [1, 8, 8, 3])
    scores = graph.softmax(graph.dense(graph.mean(image)))
    return graph.model([image], [graph.apply(ARG_MAX, [scores], graph.tensor("best", [1]))])


def of_type(kind: int) -> bytes:
    graph = Graph()
    image = graph.tensor("image", [1, 8, 8, 3], kind)
    return graph.model([image], [graph.softmax(graph.dense(graph.mean(image)))])


@pytest.mark.parametrize(
    ("weights", "code", "message"),
    [
        pytest.param(ending(custom("FlexSoftmax")), "model-flex-op", "Select TensorFlow", id="flex"),
        pytest.param(ending(custom("Detect")), "model-custom-op", r"\(Detect\)", id="custom"),
        pytest.param(two_inputs(), "model-inputs", "found 2", id="two inputs"),
        pytest.param(two_outputs(), "model-outputs", "found 2", id="two outputs"),
        pytest.param(ending(reshaped([1, 3, 2, 1]), 6), "model-shape", "no classifier", id="segmentation"),
        pytest.param(of_shape([1, 8, 8, 1], 1), "model-shape", "RGB", id="gray"),
        pytest.param(of_shape([8, 8, 8, 3]), "model-shape", "batch of 1", id="a batch of 8"),
        pytest.param(of_type(INT32), "model-type", "found int32", id="int32"),
        pytest.param(argmax(), "model-scores", "number of a label", id="argmax"),
        pytest.param(b"", "model-format", "empty", id="empty"),
        pytest.param(b"PK\x03\x04" + bytes(99), "model-format", "ZIP", id="another format"),
        pytest.param(MODELS["f32"]()[:500], "model-broken", "damaged", id="cut"),
        pytest.param(
            with_metadata({"labels.txt": "x" * 70_000}), "model-broken", "list of labels", id="long"
        ),
        pytest.param(with_metadata({f"f{n}": "" for n in range(17)}), "model-broken", "16 files", id="many"),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(weights: bytes, code: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as info:
        draft(weights, preset="keras")
    assert info.value.code == code
    assert info.value.hint


def test_labels_of_another_number_are_refused() -> None:
    with pytest.raises(UsageError, match="expected 3 labels, one for each output, found 2") as info:
        draft(MODELS["f32"](), labels=("a", "b"))
    assert "background" in str(info.value.hint)


@pytest.mark.parametrize("name", ["f32", "int8", "f32-1001"])
def test_a_file_cut_anywhere_is_damaged_and_nothing_else(name: str) -> None:
    whole = MODELS[name]()
    for end in range(0, len(whole), 64):
        try:
            found = read_weights_file(whole[:end])
        except FlatbufferError:
            continue
        assert found.outputs  # what is cut off is the content of the last tensor


def test_changed_bytes_never_take_long() -> None:
    random, whole = Random(5), bytearray(with_metadata())
    for _ in range(2000):
        changed = bytearray(whole)
        for _ in range(random.randint(1, 8)):
            changed[random.randrange(len(changed))] = random.randrange(256)
        try:
            found = read_weights_file(bytes(changed))
        except FlatbufferError:
            continue
        assert isinstance(found.scores, str)


def test_a_graph_that_scales_pixels_is_given_raw_ones() -> None:
    graph = Graph()
    image = graph.tensor("image", [1, 8, 8, 3])
    scaled = graph.apply(0, [image, image], graph.tensor("sum", [1, 8, 8, 3]))
    weights = graph.model([image], [graph.softmax(graph.dense(graph.mean(scaled)))])
    assert "values: raw" in draft(weights, preset="keras").text
