"""The rules for model cards; ``build``, ``model`` and every client check all of them.

The payload checks only the form at start-up (``enclave_payload.card``): ``build`` has checked the measured
card, and the client checks the attested card here, because a card's texts reach a terminal and a report.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from enclave_payload.card import MAX_CARD_BYTES, CardError, Label, ModelCard
from enclavectl.json_object import JsonError, parse_json

# An answer has room for the codes of so many labels (4,096 bytes, up to 48 for each label).
MAX_LABELS = 64
# Pixels. Models of skin lesions take 224 to 600; the enclave resizes the picture to this in memory.
MAX_SIDE = 1024
_CODE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,31}")
_ID = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def check_card(data: bytes) -> ModelCard:
    """Read the output of ``ModelCard.to_json``, and check every rule.

    Raises:
        CardError: too long, not JSON in UTF-8, a duplicate key, or a rule of ``card_from_mapping`` is broken.
    """
    if len(data) > MAX_CARD_BYTES:
        raise CardError(f"card: expected at most {MAX_CARD_BYTES} bytes, found {len(data)}")
    try:
        value = parse_json(data, limit=MAX_CARD_BYTES)
    except JsonError as exc:
        raise CardError(f"card: {exc}") from exc
    return card_from_mapping(value)


def card_from_mapping(value: object) -> ModelCard:
    """Check every rule on a decoded card, and return the card typed.

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
