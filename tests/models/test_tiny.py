"""Models as people have them, in the payload's own classifier, against answers computed by hand."""

from __future__ import annotations

import hashlib
import struct
from fractions import Fraction

import pytest
from PIL import Image

from enclave_payload.card import (
    PARTS_PER_BILLION,
    Filter,
    Fit,
    Label,
    Layout,
    ModelCard,
    ModelInput,
    ModelOutput,
    Scores,
)
from enclave_payload.classifier import TFLiteClassifier
from enclave_payload.scores import Quantization, ScoreError, quantized_values, reader, to_parts
from tests.models.tiny import INPUT_SCALE, MODELS, SIDE, logits_of, sigmoid_of, softmax_of

COLOR = (200, 100, 50)
HALF = ("127.5",) * 3
# Of each model: how many labels it has, and what its outputs are.
ENDS = {
    "logits": (3, Scores.LOGITS),
    "sigmoid": (3, Scores.SIGMOID),
    "binary": (1, Scores.SIGMOID),
    "uint8-logits": (3, Scores.LOGITS),
    "f32-1001": (1001, Scores.SOFTMAX),
    "uint8-1001": (1001, Scores.SOFTMAX),
}

# SHA-256, its first half: other bytes are another model for everybody's cards.
BYTES = {
    "f32": "31802a87b11511b264341fdd87cb2538",
    "f16": "227a8c37692baa050ee06b1eebf374cf",
    "logits": "762ed1a794adf0cefd372bd9be8ade61",
    "sigmoid": "9079a902327ac4934ec6e413f62b44a7",
    "binary": "8e6f75b9d3f5ccfd83204a4c4991a62d",
    "nchw": "e1ab6ac0ac5931943a7573c3458a8426",
    "out4d": "430ab69a599a68f5a98e4c40dc24e4a8",
    "dynbatch": "f8be79fbc6eb97b7d3994e18289f3628",
    "int8": "9e67c24c6b29d6f7f1383bac838d0261",
    "uint8": "df620887de49587abdf0d2f404304713",
    "uint8-logits": "7f309c848e14fd00fc9bcd8958d8be5a",
    "f32-1001": "a05045d8a2ae974764a399f17b3e5fd8",
    "uint8-1001": "beea76047998c68f661ce138ca6a0874",
}


def card_of(name: str, weights: bytes, **changes: object) -> ModelCard:
    count, scores = ENDS.get(name, (3, Scores.SOFTMAX))
    form = {"mean": HALF, "std": HALF, **changes}
    return ModelCard(
        model_id=name,
        sha256=hashlib.sha256(weights).hexdigest(),
        input=ModelInput(
            width=SIDE,
            height=SIDE,
            layout=Layout.NCHW if name == "nchw" else Layout.NHWC,
            fit=Fit.STRETCH,
            filter=Filter.BOX,
            **form,  # type: ignore[arg-type]
        ),
        output=ModelOutput(scores=scores, top=10 if count > 64 else None),
        labels=tuple(Label(code=f"c{index}", name=f"Class {index}") for index in range(count)),
        notice="A test.",
    )


def test_the_script_writes_the_same_bytes_everywhere() -> None:
    assert {name: hashlib.sha256(make()).hexdigest()[:32] for name, make in MODELS.items()} == BYTES


def picture() -> Image.Image:
    return Image.new("RGB", (SIDE, SIDE), COLOR)


def by_hand(name: str) -> list[float]:
    count, scores = ENDS.get(name, (3, Scores.SOFTMAX))
    logits = logits_of([(value - 127.5) / 127.5 for value in COLOR], count)
    return sigmoid_of(logits) if scores is Scores.SIGMOID else softmax_of(logits)


@pytest.mark.parametrize("name", MODELS)
def test_an_answer_is_the_one_computed_by_hand(name: str) -> None:
    weights = MODELS[name]()
    found = TFLiteClassifier(weights, card_of(name, weights)).classify(picture())
    expected = by_hand(name)
    # In 8 bits: a step of the softmax, and what the rounding of logits makes of it.
    tolerance = 0.02 if "int8" in name else 1e-6
    assert len(found) == len(expected)
    for parts, share in zip(found, expected, strict=True):
        assert parts / PARTS_PER_BILLION == pytest.approx(share, abs=tolerance)


def test_the_reference_numbers() -> None:
    assert by_hand("f32") == pytest.approx([0.230439, 0.355601, 0.413960], abs=1e-6)


@pytest.mark.parametrize("name", ["int8", "uint8"])
def test_raw_pixels_enter_an_8_bit_model_within_a_step(name: str) -> None:
    weights = MODELS[name]()
    raw = TFLiteClassifier(weights, card_of(name, weights, mean=None, std=None)).classify(picture())
    scaled = TFLiteClassifier(weights, card_of(name, weights)).classify(picture())
    assert all(parts % 3_906_250 == 0 for parts in (*raw, *scaled))
    for one, other in zip(raw, scaled, strict=True):
        assert abs(one - other) <= 2 * 3_906_250


def test_each_channel_has_its_own_scaling() -> None:
    weights = MODELS["f32"]()
    means, stds = ("123.675", "116.28", "103.53"), ("58.395", "57.12", "57.375")
    found = TFLiteClassifier(weights, card_of("f32", weights, mean=means, std=stds)).classify(picture())
    inputs = [(v - float(m)) / float(s) for v, m, s in zip(COLOR, means, stds, strict=True)]
    for parts, share in zip(found, softmax_of(logits_of(inputs, 3)), strict=True):
        assert parts / PARTS_PER_BILLION == pytest.approx(share, abs=1e-6)


def test_the_tie_of_tensorflows_own_scale_is_rounded_away_from_zero() -> None:
    mean = Fraction("127.5")
    unsigned = quantized_values(mean, mean, Quantization(Fraction(INPUT_SCALE), 127, 0))
    assert unsigned[:6] == [0, 1, 2, 3, 4, 5]
    assert unsigned[125:131] == [125, 126, 127, 127, 128, 129]
    assert unsigned[252:] == [251, 252, 253, 254]
    signed = quantized_values(mean, mean, Quantization(Fraction(INPUT_SCALE), -1, -128))
    assert signed[:4] == [-128, -127, -126, -125]
    assert signed[252:] == [123, 124, 125, 126]


def test_a_scale_that_is_that_of_pixels_changes_nothing() -> None:
    found = quantized_values(Fraction(0), Fraction(255), Quantization(Fraction(1, 255), 0, 0))
    assert found == list(range(256))


@pytest.mark.parametrize(
    ("scale", "value", "parts"),
    [(0.00390625, 1, 3_906_250), (0.00390625, 255, 996_093_750), (0.0036, 255, 917_999_984)],
)
def test_8_bit_outputs_are_exact(scale: float, value: int, parts: int) -> None:
    (single,) = struct.unpack("<f", struct.pack("<f", scale))
    assert reader(Scores.SIGMOID, Quantization(Fraction(single), 0, 0))([value]) == [parts]


@pytest.mark.parametrize(
    ("outputs", "scores"),
    [
        ([float("nan"), 1.0], Scores.SOFTMAX),
        ([float("inf"), 1.0], Scores.LOGITS),
        ([-0.02, 1.0], Scores.SIGMOID),
        ([1.02, 0.0], Scores.SIGMOID),
        ([0.5, 0.45], Scores.SOFTMAX),
    ],
)
def test_what_is_no_score_is_refused(outputs: list[float], scores: Scores) -> None:
    with pytest.raises(ScoreError):
        to_parts(outputs, scores)


def test_logits_that_would_overflow_are_shares_all_the_same() -> None:
    assert to_parts([1e30, -1e30], Scores.LOGITS) == [PARTS_PER_BILLION, 0]
    assert to_parts([1e30, -1e30, 0.0], Scores.LOGITS_SIGMOID) == [PARTS_PER_BILLION, 0, 500_000_000]
