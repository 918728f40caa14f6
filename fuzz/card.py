"""Any bytes are a model card that keeps every rule, and that the payload reads alike, or a CardError."""

from enclave_payload.card import CardError, Label, ModelCard, parse_card
from enclavectl.protocol.card import MAX_LABELS, MAX_SIDE, check_card

_CARD = ModelCard(
    model_id="demo-lesion",
    sha256="0a" * 32,
    width=224,
    height=224,
    mean=127.5,
    std=127.5,
    labels=(Label(code="bcc", name="Basal cell carcinoma"), Label(code="nv", name="Nævus")),
    notice="No diagnosis.",
)

SEEDS: list[bytes] = [
    b"",
    _CARD.to_json(),
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
    assert 1 <= card.width <= MAX_SIDE
    assert 1 <= card.height <= MAX_SIDE
    assert 2 <= len(card.labels) <= MAX_LABELS
    assert card.std > 0


def _read_by_the_payload(data: bytes) -> None:
    try:
        card = parse_card(data)
    except CardError as exc:
        str(exc).encode()
        return
    assert card.to_json() == data
