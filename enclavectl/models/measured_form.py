"""A card's YAML to the measured form: defaults written out, decimal text, shares as whole parts."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation

from enclave_payload.card import PARTS_PER_BILLION, ModelInput, ModelOutput
from enclavectl.config.setting import shown
from enclavectl.errors import UsageError
from enclavectl.protocol.card import Fit, Layout
from enclavectl.yaml_file import Node, Plain, refuse_unknown

_INPUT = ("width", "height", "layout", "fit", "crop", "pad", "filter", "mean", "std", "values")
_OUTPUT = ("scores", "unsure_below", "top")
_MAX_PLACES = 12


def measured_input(node: Node, name: str) -> Plain:
    """Return the measured form of ``input``; a value of the wrong type stays, for the rules to refuse.

    Raises:
        UsageError: an unknown key, or a required one is missing; ``name`` names the card.
    """
    if not isinstance(form := node.value, dict):
        return node.to_plain()
    refuse_unknown(form, _INPUT, name=name, where="input")
    missing = [key for key in ("width", "height", "fit", "filter") if key not in form]
    if "values" not in form:
        missing += [key for key in ("mean", "std") if key not in form]
    if missing:
        raise UsageError(
            f"{name}:{node.line}: input lacks {', '.join(missing)}",
            hint="how was the model trained? wrong preprocessing gives wrong answers without a word",
        )
    value = {key: one.to_plain() for key, one in form.items()}
    value.setdefault("layout", str(Layout.NHWC))
    if value["fit"] == Fit.CROP:
        value["crop"] = _decimal(form["crop"]) if "crop" in form else "1"
    value |= {key: _three(form[key]) for key in ("mean", "std") if key in form}
    return value


def measured_output(node: Node, name: str) -> Plain:
    """Return the measured form of ``output``.

    Raises:
        UsageError: an unknown key, or a share that is none; ``name`` names the card.
    """
    if not isinstance(form := node.value, dict):
        return node.to_plain()
    refuse_unknown(form, _OUTPUT, name=name, where="output")
    if "scores" not in form:
        raise UsageError(
            f"{name}:{node.line}: output lacks scores",
            hint="softmax, sigmoid, logits or logits-sigmoid; model card new reads it from the weights",
        )
    value = {key: one.to_plain() for key, one in form.items() if key != "unsure_below"}
    if "unsure_below" in form:
        value["unsure_below_ppb"] = _parts(form["unsure_below"], name)
    return value


def input_fields(form: ModelInput) -> dict[str, object]:
    """Return the input as people and JSON outputs have it: numbers, and all three channels."""
    value = form.to_value()
    for key in ("mean", "std"):
        if isinstance(numbers := value.get(key), list):
            value[key] = [float(number) for number in numbers]
    if form.crop is not None:
        value["crop"] = float(form.crop)
    return value


def output_fields(form: ModelOutput) -> dict[str, object]:
    """Return the output as people and JSON outputs have it: a share in place of parts per billion."""
    value = form.to_value()
    if form.unsure_below_ppb is not None:
        del value["unsure_below_ppb"]
        value["unsure_below"] = form.unsure_below_ppb / PARTS_PER_BILLION
    return value


def decimal_text(number: Decimal) -> str:
    """Write a decimal number in the one form that a card has."""
    text = f"{number:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in {"-0", ""} else text


def _three(node: Node) -> Plain:
    """Return three decimal texts, of a list or of one number for all channels."""
    if isinstance(node.value, list):
        return [_decimal(one) for one in node.value]
    return [_decimal(node)] * 3


def _decimal(node: Node) -> Plain:
    if (number := _number(node)) is None or abs(number) >= 10**6 or _places(number) > _MAX_PLACES:
        return node.to_plain()
    return decimal_text(number)


def _number(node: Node) -> Decimal | None:
    # As it is written, since a double holds no 123.675. bool is a subclass of int, and `mean: yes` no number.
    if isinstance(node.value, bool) or not isinstance(node.value, int | float) or not node.text:
        return None
    try:
        return Decimal(node.text)
    except InvalidOperation:
        return None


def _places(number: Decimal) -> int:
    exponent = number.normalize().as_tuple().exponent
    return -exponent if isinstance(exponent, int) else _MAX_PLACES + 1


def _parts(node: Node, name: str) -> int:
    number = _number(node)
    if number is None or not 0 <= number <= 1 or _places(number) > 9:
        raise UsageError(
            f"{name}:{node.line}: output.unsure_below: expected a share of 0 to 1 with at most 9 places, "
            f"found {shown(node.to_plain())}"
        )
    return int(number * PARTS_PER_BILLION)


def measured_labels(labels: Node, name: str) -> Plain:
    """Return the labels as pairs of code and name.

    Raises:
        UsageError: no list of labels; ``name`` names the card.
    """
    if not isinstance(labels.value, list):
        raise UsageError(f"{name}:{labels.line}: labels: expected a list, found {shown(labels.to_plain())}")
    return [_label(label, name) for label in labels.value]


def _label(label: Node, name: str) -> Plain:
    fields: Mapping[str, Node] = label.value if isinstance(label.value, dict) else {}
    if set(fields) != {"code", "name"}:
        found = shown(label.to_plain())
        raise UsageError(f"{name}:{label.line}: labels: expected {{code: ..., name: ...}}, found {found}")
    return [fields["code"].to_plain(), fields["name"].to_plain()]
