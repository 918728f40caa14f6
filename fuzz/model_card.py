"""Any bytes are a model (weights beside the card, measured part reads back the same) or a UsageError."""

from pathlib import Path

from enclave_payload.card import parse_card
from enclavectl.errors import UsageError
from enclavectl.models.card import parse_model_card

_CARD = Path("/models/m/model.yaml")
_VALID = """\
schema: enclavectl.model/2
id: m
title: A model
file: model.tflite
sha256: "{digest}"
input: {{width: 224, height: 224, fit: crop, crop: 0.875, filter: sampled, mean: [1, 2.5, -3e0], std: 127.5}}
output: {{scores: softmax, unsure_below: 0.6, top: 3}}
labels:
  - {{code: bcc, name: Basal cell carcinoma}}
  - code: nv
    name: Melanocytic nevi
notice: >
  This is
  no diagnosis.
training: {{seed: 7, epochs: [1, 2.5, null, true]}}
""".format(digest="0a" * 32)

SEEDS: list[bytes] = [
    b"",
    _VALID.encode(),
    _VALID.replace("model.tflite", "../../etc/passwd").encode(),
    _VALID.replace("127.5", "1e999").encode(),
    _VALID.replace("A model", '"\\ud800"').encode(),
    _VALID.replace("labels:", "labels: &x").encode(),
]


def one(data: bytes) -> None:
    try:
        model = parse_model_card(data, _CARD)
    except UsageError as exc:
        _check_message(exc.message)
        return
    assert model.weights_path.parent == _CARD.parent
    assert model.weights_path != _CARD.parent
    assert parse_card(model.card.to_json()) == model.card


def _check_message(message: str) -> None:
    assert message.startswith(str(_CARD)), message
    assert len(message) < 100_000  # a CardError may quote a value whole; a card has at most 64 KiB
    message.encode()  # what is shown can be written
