"""What the payload itself asks of its measured card: the one encoding that build writes."""

import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_payload.card import (
    MAX_CARD_BYTES,
    CardError,
    Fit,
    ModelCard,
    ModelOutput,
    Scores,
    model_commitment,
    model_register,
    parse_card,
)
from tests.payload.cards import CARD

VALUE = json.loads(CARD.to_json())


def written(value: object) -> bytes:
    """As ``ModelCard.to_json`` writes it."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


MANY = [[f"c{index}", "n"] for index in range(1025)]


def with_input(**changes: object) -> bytes:
    return written(VALUE | {"input": VALUE["input"] | changes})


@pytest.mark.parametrize(
    "card",
    [
        pytest.param(CARD, id="stretched"),
        pytest.param(replace(CARD, input=replace(CARD.input, fit=Fit.CROP, crop="0.875")), id="cropped"),
        pytest.param(replace(CARD, input=replace(CARD.input, fit=Fit.PAD, pad=0)), id="padded"),
        pytest.param(replace(CARD, input=replace(CARD.input, mean=None, std=None)), id="raw"),
        pytest.param(
            replace(CARD, output=ModelOutput(scores=Scores.LOGITS, unsure_below_ppb=0, top=64)), id="top"
        ),
    ],
)
def test_what_build_writes_is_read(card: ModelCard) -> None:
    assert written(json.loads(card.to_json())) == card.to_json()
    assert parse_card(card.to_json()) == card


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(CARD.to_json()[:-1], id="cut"),
        pytest.param(CARD.to_json() + b" ", id="a space more"),
        pytest.param(CARD.to_json().decode().encode("utf-16"), id="UTF-16"),
        pytest.param(b"\xef\xbb\xbf" + CARD.to_json(), id="byte order mark"),
        pytest.param(b'{"id":"x",' + CARD.to_json()[1:], id="a key twice"),
        pytest.param(CARD.to_json().replace(b"127.5", b"1.275e2"), id="another way to write a number"),
        pytest.param(CARD.to_json().replace(b"127.5", b"127.50"), id="a zero too many"),
        pytest.param(CARD.to_json().replace(b"bcc", b"\\ud800"), id="text without an encoding"),
        pytest.param(b"[" * 10_000, id="deep"),
        pytest.param(b"1" * 10_000, id="a number of 10,000 digits"),
        pytest.param(b"null", id="null"),
        pytest.param(written(VALUE | {"more": 1}), id="an unknown key"),
        pytest.param(written(VALUE | {"id": 7}), id="an id that is no text"),
        pytest.param(written(VALUE | {"notice": None}), id="no notice"),
        pytest.param(written(VALUE | {"labels": {}}), id="labels that are no list"),
        pytest.param(written(VALUE | {"labels": [["a"]]}), id="a label without a name"),
        pytest.param(written(VALUE | {"labels": [["a", 1]]}), id="a name that is no text"),
        pytest.param(written(VALUE | {"input": {}}), id="no input"),
        pytest.param(written(VALUE | {"input": VALUE["input"] | {"width": "8"}}), id="a width that is text"),
        pytest.param(with_input(std=1), id="a number for its text"),
        pytest.param(with_input(std=["1", "1"]), id="two numbers for three channels"),
        pytest.param(with_input(std=["1", "1", "1e9"]), id="an exponent"),
        pytest.param(with_input(mean=["-0", "0", "0"]), id="a negative zero"),
        pytest.param(with_input(width=True), id="a width that is a boolean"),
        pytest.param(with_input(height=1025), id="a height that takes too much memory"),
        pytest.param(with_input(fit="squash"), id="a fit that there is not"),
        pytest.param(with_input(fit="crop"), id="a crop of no size"),
        pytest.param(with_input(fit="pad", pad=256), id="a gray that is none"),
        pytest.param(with_input(crop="0.5"), id="a crop where nothing is cropped"),
        pytest.param(with_input(values="raw"), id="raw values beside a mean"),
        pytest.param(written(VALUE | {"output": {"scores": "argmax"}}), id="scores that there are not"),
        pytest.param(written(VALUE | {"output": {"scores": "softmax", "top": 65}}), id="a top without room"),
        pytest.param(written(VALUE | {"output": {"scores": "softmax", "top": None}}), id="a top of null"),
        pytest.param(written(VALUE | {"labels": MANY[:65]}), id="65 labels without a top"),
        pytest.param(
            written(VALUE | {"labels": MANY, "output": {"scores": "softmax", "top": 1}}), id="1,025 labels"
        ),
        pytest.param(written(VALUE | {"schema": "enclavectl.model/1"}), id="form 1"),
        pytest.param(written({key: VALUE[key] for key in VALUE if key != "sha256"}), id="a key missing"),
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(CardError, match=r"^card: expected"):
        parse_card(data)


def test_a_card_over_the_limit_is_refused_unread() -> None:
    with pytest.raises(CardError, match=f"at most {MAX_CARD_BYTES} bytes, found {MAX_CARD_BYTES + 1}"):
        parse_card(CARD.to_json().ljust(MAX_CARD_BYTES + 1))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_card_or_a_card_error(data: bytes) -> None:
    with pytest.raises(CardError):
        parse_card(data)


def test_the_model_register_is_one_extension_of_zero_with_the_commitment() -> None:
    """Values computed once, by another program, for a card of two fields."""
    weights = bytes(range(256)) * 257
    card = f'{{"id":"demo-lesion","sha256":"{hashlib.sha256(weights).hexdigest()}"}}'.encode()
    assert model_commitment(card).hex() == (
        "2e1724ab28ff97a94adc1d21e4bf50cafee7d8be543b2af9ccee40e689bef457acaac8aff99e6dbbbdaa5738540ed812"
    )
    assert model_register(card).hex() == (
        "cebc1e92002a93e30ecd9f2dcfba2ecb1ea1c662ee45202badee3e95e40e94f52050ed301a63f65b3ced892196c5a731"
    )
