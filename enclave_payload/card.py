"""The model card as the payload needs it: what goes in, what comes out, which bytes are the weights.

The operator's side keeps the full card in YAML (``enclavectl.models.find``); what is measured beside the
weights is this part of it, as JSON, so that the payload needs no YAML parser.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

MAX_CARD_BYTES = 16 * 1024
MAX_LABELS = 64
MAX_SIDE = 1024
_CODE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,31}")
_ID = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


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
        """One canonical encoding, so that the same card is always measured as the same bytes."""
        value = {
            "id": self.model_id,
            "sha256": self.sha256,
            "input": {"width": self.width, "height": self.height, "mean": self.mean, "std": self.std},
            "labels": [[label.code, label.name] for label in self.labels],
            "notice": self.notice,
        }
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def parse_card(data: bytes) -> ModelCard:
    """Read what ``ModelCard.to_json`` wrote.

    Raises:
        CardError: too long, not JSON in UTF-8, a key twice, or a rule of ``card_from_mapping`` is broken.
    """
    if len(data) > MAX_CARD_BYTES:
        raise CardError(f"card: expected at most {MAX_CARD_BYTES} bytes, found {len(data)}")
    try:
        value = json.loads(data.decode(), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as exc:
        raise CardError(f"card: not JSON ({exc})") from exc
    return card_from_mapping(value)


def card_from_mapping(value: object) -> ModelCard:
    """Check a decoded card and return it typed.

    Raises:
        CardError: a key is missing or unknown, or a value is of the wrong type or out of bounds.
    """
    top = _mapping(value, "card", {"id", "sha256", "input", "labels", "notice"})
    image = _mapping(top["input"], "input", {"width", "height", "mean", "std"})
    std = _number(image["std"], "input.std")
    if std <= 0:
        raise CardError(f"input.std: expected a positive number, found {std}")
    return ModelCard(
        model_id=_matching(top["id"], "id", _ID),
        sha256=_matching(top["sha256"], "sha256", _SHA256),
        width=_side(image["width"], "input.width"),
        height=_side(image["height"], "input.height"),
        mean=_number(image["mean"], "input.mean"),
        std=std,
        labels=_labels(top["labels"]),
        notice=_text(top["notice"], "notice", 1000),
    )


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key is used twice")
    return value


def _labels(value: object) -> tuple[Label, ...]:
    if not isinstance(value, list) or not 2 <= len(value) <= MAX_LABELS:
        raise CardError(f"labels: expected a list of 2 to {MAX_LABELS} [code, name] pairs")
    labels = []
    for index, pair in enumerate(value):
        if not isinstance(pair, list) or len(pair) != 2:
            raise CardError(f"labels[{index}]: expected [code, name], found {pair!r}")
        code = _matching(pair[0], f"labels[{index}] code", _CODE)
        labels.append(Label(code=code, name=_text(pair[1], f"labels[{index}] name", 100)))
    if len({label.code for label in labels}) != len(labels):
        raise CardError("labels: a code is used twice")
    return tuple(labels)


def _mapping(value: object, where: str, keys: set[str]) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise CardError(f"{where}: expected a mapping, found {type(value).__name__}")
    if set(value) != keys:
        missing, unknown = sorted(keys - set(value)), sorted(map(str, set(value) - keys))
        raise CardError(f"{where}: missing keys {missing}, unknown keys {unknown}")
    return value


def _number(value: object, where: str) -> float:
    # bool is a subclass of int; `mean: yes` in a YAML card must not become 1.0.
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e6 < value < 1e6:
        raise CardError(f"{where}: expected a number between -1e6 and 1e6, found {value!r}")
    return float(value)


def _side(value: object, where: str) -> int:
    if type(value) is not int or not 1 <= value <= MAX_SIDE:
        raise CardError(f"{where}: expected 1 to {MAX_SIDE} pixels, found {value!r}")
    return value


def _text(value: object, where: str, limit: int) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= limit or not value.isprintable():
        raise CardError(f"{where}: expected 1 to {limit} printable characters on one line")
    return value


def _matching(value: object, where: str, pattern: re.Pattern[str]) -> str:
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        raise CardError(f"{where}: expected {pattern.pattern}, found {value!r}")
    return value
