"""Any bytes are a model card that keeps every rule, and that the payload reads alike, or a CardError."""

from dataclasses import replace
from fractions import Fraction

from enclave_payload.card import (
    CardError,
    Filter,
    Fit,
    Label,
    ModelCard,
    ModelInput,
    ModelOutput,
    Scores,
    parse_card,
)
from enclavectl.protocol.card import MAX_ANSWER_LABELS, MAX_LABELS, MAX_SIDE, check_card

_CARD = ModelCard(
    model_id="demo-lesion",
    sha256="0a" * 32,
    input=ModelInput(
        width=224,
        height=224,
        fit=Fit.STRETCH,
        filter=Filter.BILINEAR,
        mean=("127.5",) * 3,
        std=("127.5",) * 3,
    ),
    output=ModelOutput(scores=Scores.SOFTMAX),
    labels=(Label(code="bcc", name="Basal cell carcinoma"), Label(code="nv", name="Nævus")),
    notice="No diagnosis.",
)

SEEDS: list[bytes] = [
    b"",
    _CARD.to_json(),
    replace(_CARD, input=replace(_CARD.input, mean=None, std=None, fit=Fit.PAD, pad=0)).to_json(),
    replace(_CARD, output=ModelOutput(scores=Scores.SIGMOID, top=1, unsure_below_ppb=7)).to_json(),
    _CARD.to_json().replace(b"127.5", b"1e999"),
    _CARD.to_json().replace(b"224", b"NaN"),
    _CARD.to_json().replace(b'"notice"', b'"id":"x","notice"'),
    _CARD.to_json().replace(b"bcc", b"\\ud800"),
]


def one(data: bytes) -> None:
    _read_by_the_payload(data)
    try:
        card = check_card(data)
    except CardError as exc:
        str(exc).encode()  # what is shown can be written
        return
    assert parse_card(card.to_json()) == card
    assert 1 <= card.input.width <= MAX_SIDE
    assert 1 <= card.input.height <= MAX_SIDE
    assert 1 <= len(card.labels) <= MAX_LABELS
    assert card.output.top is not None or len(card.labels) <= MAX_ANSWER_LABELS
    assert all(Fraction(number) > 0 for number in card.input.std or ())


def _read_by_the_payload(data: bytes) -> None:
    try:
        card = parse_card(data)
    except CardError as exc:
        str(exc).encode()
        return
    assert card.to_json() == data
