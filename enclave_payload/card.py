"""The model card as the payload needs it: what goes in, what comes out, which bytes are the weights.

The operator's side keeps the full card in YAML (``enclavectl.models.card``). What is measured beside the
weights is this part of it, as JSON, so that the payload needs no YAML parser.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

# 64 labels with names of 100 characters have 10 kB; the key configuration must hold it (messages).
MAX_CARD_BYTES = 16 * 1024
# MobileNet v1 1.0 in float32 has 17 MB; larger weights would not fit the memory of the smallest enclave.
MAX_WEIGHTS_BYTES = 64 * 1024 * 1024
# Outputs are probabilities that add up to one; a float32 softmax over 64 labels is closer than this.
MAX_SUM_ERROR = 0.01
# The register of the model. PCR0 to PCR15 are the hypervisor's, so 16 is the first that a program may extend.
# https://github.com/aws/aws-nitro-enclaves-nsm-api/blob/main/docs/attestation_process.md
MODEL_PCR = 16
# The measured file that stands for card and weights in an image without them.
SEALED_MARK = "sealed"
SEALED_MARK_CONTENT = b"sealed\n"


class CardError(ValueError):
    """The card breaks a rule; the message names the field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """One class of the model: ``code`` is for programs, ``name`` for people."""

    code: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What the payload must know of a model.

    ``sha256`` is of the weights file. A pixel value v of 0..255 enters the model as ``(v - mean) / std``.
    ``labels`` are in the order of the model's outputs.
    """

    model_id: str
    sha256: str
    width: int
    height: int
    mean: float
    std: float
    labels: tuple[Label, ...]
    notice: str

    def to_json(self) -> bytes:
        """Encode in the one canonical way, so that the same card is always measured as the same bytes."""
        value = {
            "id": self.model_id,
            "sha256": self.sha256,
            "input": {"width": self.width, "height": self.height, "mean": self.mean, "std": self.std},
            "labels": [[label.code, label.name] for label in self.labels],
            "notice": self.notice,
        }
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def parse_card(data: bytes) -> ModelCard:
    """Read what ``ModelCard.to_json`` wrote, in that one encoding.

    Only the form is asked for here. ``build`` holds a card to all the rules before it is measured, and every
    client does so again with the attested card (``enclavectl.protocol.card``).

    Raises:
        CardError: over ``MAX_CARD_BYTES``, or not the encoding of a card.
    """
    if len(data) > MAX_CARD_BYTES:
        raise CardError(f"card: expected at most {MAX_CARD_BYTES} bytes, found {len(data)}")
    try:
        card = _from_json(json.loads(data))
        is_canonical = card.to_json() == data
    except (ValueError, RecursionError) as exc:  # not JSON, not the shape, or text that has no encoding
        raise CardError(f"card: expected what build writes ({exc})") from exc
    if not is_canonical:  # unknown keys, a key twice, spaces
        raise CardError("card: expected the one encoding that build writes")
    return card


def model_commitment(card: bytes) -> bytes:
    """Hash the card's canonical JSON to the 48 bytes with which the enclave extends ``MODEL_PCR``."""
    return hashlib.sha384(b"enclavectl model v1" + card).digest()


def model_register(card: bytes) -> bytes:
    """Compute what ``MODEL_PCR`` holds after one extension from zero with the card's commitment."""
    return hashlib.sha384(bytes(48) + model_commitment(card)).digest()


def load_card(folder: Path) -> ModelCard:
    """Read the measured card, ``model.json`` in ``folder``.

    Raises:
        CardError: it is not valid.
        OSError: it cannot be read.
    """
    with (folder / "model.json").open("rb") as file:
        return parse_card(file.read(MAX_CARD_BYTES + 1))


def _from_json(value: object) -> ModelCard:
    match value:
        case {
            "id": str(model_id),
            "sha256": str(sha256),
            "input": {"width": int(width), "height": int(height), "mean": float(mean), "std": float(std)},
            "labels": [*pairs],
            "notice": str(notice),
        }:
            return ModelCard(
                model_id=model_id,
                sha256=sha256,
                width=width,
                height=height,
                mean=mean,
                std=std,
                labels=tuple(map(_label, pairs)),
                notice=notice,
            )
    raise CardError("a field is missing or of another type")


def _label(pair: object) -> Label:
    match pair:
        case [str(code), str(name)]:
            return Label(code=code, name=name)
    raise CardError("a label is not [code, name]")
