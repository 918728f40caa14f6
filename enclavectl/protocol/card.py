"""The rules for model cards; ``build``, ``model`` and every client check all of them.

The payload checks only the form and its own bounds at start-up (``enclave_payload.card``): ``build`` has
checked the measured card, and the client checks the attested card here, because a card's texts reach a
terminal and a report.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from enclave_payload.card import (
    DECIMAL,
    MAX_ANSWER_LABELS,
    MAX_CARD_BYTES,
    MAX_LABELS,
    MAX_SIDE,
    MODEL_SCHEMA,
    PARTS_PER_BILLION,
    CardError,
    Filter,
    Fit,
    Label,
    Layout,
    ModelCard,
    ModelInput,
    ModelOutput,
    Scores,
)
from enclavectl.json_object import JsonError, parse_json

__all__ = [
    "MAX_ANSWER_LABELS",
    "MAX_LABELS",
    "MAX_SIDE",
    "MODEL_SCHEMA",
    "Filter",
    "Fit",
    "Layout",
    "Scores",
    "card_from_mapping",
    "check_card",
]

# Below a tenth a crop shows the model a corner of what a person sees.
_MIN_CROP, _MAX_CROP = 0.1, 1.0
_CODE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,31}")
_ID = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FIELDS = {"schema", "id", "sha256", "input", "output", "labels", "notice"}
_Word = TypeVar("_Word", bound=StrEnum)


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
    """Check every rule on a card in the measured form, and return the card typed.

    Raises:
        CardError: a key is missing or unknown, or a value is of the wrong type or out of bounds.
    """
    if isinstance(value, dict) and value.get("schema") != MODEL_SCHEMA:
        found = repr(value["schema"]) if "schema" in value else "none (form 1 is not read)"
        raise CardError(f"card: expected schema {MODEL_SCHEMA}, found {found}")
    top = _mapping(value, "card", _FIELDS)
    labels = _labels(top["labels"])
    output = _output(top["output"])
    if len(labels) == 1 and output.scores.is_exclusive:
        raise CardError(f"labels: expected 2 or more with {output.scores} scores, found 1")
    if len(labels) > MAX_ANSWER_LABELS and output.top is None:
        raise CardError(
            f"output.top: expected 1 to {MAX_ANSWER_LABELS}, found none: an answer has no room for all "
            f"of {len(labels)} labels"
        )
    return ModelCard(
        model_id=_matching(top["id"], "id", _ID),
        sha256=_matching(top["sha256"], "sha256", _SHA256),
        input=_input(top["input"]),
        output=output,
        labels=labels,
        notice=_text(top["notice"], "notice", 1000),
    )


def _input(value: object) -> ModelInput:
    given = value.keys() if isinstance(value, dict) else set()
    fit = _word(value["fit"], "input.fit", Fit) if isinstance(value, dict) and "fit" in given else None
    of_fit = {Fit.CROP: {"crop"}, Fit.PAD: {"pad"}}.get(fit, set()) if fit else set()
    scaling = {"values"} if "values" in given else {"mean", "std"}
    form = _mapping(value, "input", {"width", "height", "layout", "fit", "filter"} | of_fit | scaling)
    if "values" in form and form["values"] != "raw":
        raise CardError(f"input.values: expected raw, or mean and std in its place, found {form['values']!r}")
    return ModelInput(
        width=_whole(form["width"], "input.width", 1, MAX_SIDE, "pixels"),
        height=_whole(form["height"], "input.height", 1, MAX_SIDE, "pixels"),
        layout=_word(form["layout"], "input.layout", Layout),
        fit=_word(form["fit"], "input.fit", Fit),
        filter=_word(form["filter"], "input.filter", Filter),
        crop=_crop(form["crop"]) if "crop" in form else None,
        pad=_whole(form["pad"], "input.pad", 0, 255, "as gray") if "pad" in form else None,
        mean=_triple(form["mean"], "input.mean") if "mean" in form else None,
        std=_positive(form["std"], "input.std") if "std" in form else None,
    )


def _output(value: object) -> ModelOutput:
    optional = {"unsure_below_ppb", "top"} & (value.keys() if isinstance(value, dict) else set())
    form = _mapping(value, "output", {"scores"} | optional)
    unsure, top = form.get("unsure_below_ppb", 0), form.get("top", 1)
    return ModelOutput(
        scores=_word(form["scores"], "output.scores", Scores),
        unsure_below_ppb=_whole(unsure, "output.unsure_below_ppb", 0, PARTS_PER_BILLION, "parts per billion")
        if "unsure_below_ppb" in form
        else None,
        top=_whole(top, "output.top", 1, MAX_ANSWER_LABELS, "labels") if "top" in form else None,
    )


def _labels(value: object) -> tuple[Label, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_LABELS:
        raise CardError(f"labels: expected a list of 1 to {MAX_LABELS} [code, name] pairs")
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


def _word(value: object, where: str, words: type[_Word]) -> _Word:
    if isinstance(value, str) and value in set(words):
        return words(value)
    raise CardError(f"{where}: expected one of {', '.join(words)}; found {value!r}")


def _decimal(value: object, where: str) -> str:
    if not isinstance(value, str) or DECIMAL.fullmatch(value) is None:
        raise CardError(
            f"{where}: expected a decimal number between -1e6 and 1e6 with at most 12 places, found {value!r}"
        )
    return value


def _triple(value: object, where: str) -> tuple[str, str, str]:
    if not isinstance(value, list) or len(value) != 3:
        raise CardError(f"{where}: expected three numbers (R, G, B), found {value!r}")
    red, green, blue = (_decimal(number, where) for number in value)
    return red, green, blue


def _positive(value: object, where: str) -> tuple[str, str, str]:
    numbers = _triple(value, where)
    if any(float(number) <= 0 for number in numbers):
        raise CardError(f"{where}: expected positive numbers, found {', '.join(numbers)}")
    return numbers


def _crop(value: object) -> str:
    number = _decimal(value, "input.crop")
    if not _MIN_CROP <= float(number) <= _MAX_CROP:
        raise CardError(f"input.crop: expected {_MIN_CROP:g} to {_MAX_CROP:g}, found {number}")
    return number


def _whole(value: object, where: str, least: int, most: int, unit: str) -> int:
    if type(value) is not int or not least <= value <= most:
        raise CardError(f"{where}: expected {least} to {most} {unit}, found {value!r}")
    return value


def _text(value: object, where: str, limit: int) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= limit or not value.isprintable():
        raise CardError(f"{where}: expected 1 to {limit} printable characters on one line")
    return value


def _matching(value: object, where: str, pattern: re.Pattern[str]) -> str:
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        raise CardError(f"{where}: expected {pattern.pattern}, found {value!r}")
    return value
