"""A check that a model can serve, before an enclave starts: the runtime's message, and a fix."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from enclave_payload.card import Layout, ModelCard, Scores
from enclave_payload.scores import ScoreError, adds_up, to_parts
from enclavectl.errors import UsageError
from enclavectl.models.interpreter import observe
from enclavectl.models.observation import Observation, Tensor, input_sides, is_served_type
from enclavectl.models.other_formats import require_tflite
from enclavectl.models.weights import Model, load_weights

_MAX_WORDS = 240
# The code of the one misfit that depends on the version of the runtime.
OP_VERSION = "model-op-version"


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfit:
    """Why a model cannot serve: a stable ``code``, what was found, and one thing to do."""

    code: str
    message: str
    hint: str


def probe(model: Model) -> Observation:
    """Check that the model can serve: it loads, it fits its card, and it answers in probabilities.

    This takes about a second, in a process of its own.

    Raises:
        UsageError: it cannot serve, or its weights do not match the card.
        HostError: there is no runtime here, or no process can be started.
    """
    require_tflite(load_weights(model), model.weights_path)
    found = observe(model.weights_path, model.card)
    if (misfit := judge(found, model.card)) is not None:
        raise UsageError(f"{model.weights_path}: {misfit.message}", hint=misfit.hint, code=misfit.code)
    return found


def judge(found: Observation, card: ModelCard) -> Misfit | None:
    """Return the reason why a model of that observation cannot serve with that card; None if it can."""
    if found.failed == "allocate" and (dynamic := _dynamic_sides(found)):
        return dynamic
    if found.failed is not None:
        return _refused(found)
    return (
        _count("input", found.inputs)
        or _count("output", found.outputs)
        or _input(found.inputs[0], card)
        or _output(found.outputs[0], card)
        or _values(found, card)
    )


def _refused(found: Observation) -> Misfit:
    words = _first_words(found.words)
    does = {"load": "cannot load it", "allocate": "cannot prepare it", "inference": "fails while it runs"}
    message = f"{found.runtime} {does[found.failed or 'load']}: {words}"
    is_old = found.runtime.startswith("tflite-runtime")
    for pattern, code, hint in (
        (r"Didn't find op for builtin|builtin_code out of range", OP_VERSION, _OP_VERSION[is_old]),
        (
            "Select TensorFlow op",
            "model-flex-op",
            "convert it without SELECT_TF_OPS: only TFLITE_BUILTINS run in the enclave",
        ),
        (
            "unresolved custom op",
            "model-custom-op",
            "replace that operation by built-in ones before you convert it; the runtime has no others",
        ),
    ):
        if re.search(pattern, found.words):
            return Misfit(code=code, message=message, hint=hint)
    return Misfit(
        code="model-broken",
        message=message,
        hint="export the model again: its hash is the card's, so the damage is older than the card",
    )


_OP_VERSION = {
    True: "convert it with TensorFlow 2.16 or older; or build with the newer runtime: "
    "enclavectl build --runtime ai-edge-litert",
    False: "convert it with the TensorFlow of that runtime's time, or an older one",
}


def _first_words(words: str) -> str:
    """Return the first sentence of the runtime's repetitive message, and the operation that it names."""
    first = re.split(r"\. (?=[A-Z])|\n|Registration failed", words.strip(), maxsplit=1)[0].rstrip(".")
    node = re.search(r"Node number \d+ \(([^)]{1,80})\)", words)
    named = f" ({node[1]})" if node and node[1] not in first else ""
    return f"{first[:_MAX_WORDS]}{named}" or "no reason given"


def _dynamic_sides(found: Observation) -> Misfit | None:
    if any(-1 in one.signature[1:] for one in found.inputs):
        return _shape_misfit("its input has sides that are not fixed", "export it with a fixed input size")
    return None


def _count(what: str, tensors: tuple[Tensor, ...]) -> Misfit | None:
    if len(tensors) == 1:
        return None
    names = ", ".join(one.name for one in tensors) or "none"
    hint = {
        "input": "export a model that takes the picture only; the enclave has nothing else to give it",
        "output": "export a model with the probabilities as its only output",
    }[what]
    return Misfit(
        code=f"model-{what}s", message=f"expected one {what}, found {len(tensors)} ({names})", hint=hint
    )


def _shape_misfit(message: str, hint: str) -> Misfit:
    return Misfit(code="model-shape", message=message, hint=hint)


def _type_misfit(what: str, found: Tensor) -> Misfit | None:
    if is_served_type(found):
        return None
    return Misfit(
        code="model-type",
        message=f"expected float32, uint8 or int8 at its {what}, found {found.dtype}",
        hint=f"convert it with a float32 {what} (inference_{what}_type = tf.float32, the default); "
        "what is inside may be quantized",
    )


def _input(found: Tensor, card: ModelCard) -> Misfit | None:
    if misfit := _type_misfit("input", found):
        return misfit
    expected = input_sides(card)
    if found.shape == expected and -1 not in found.signature[1:]:
        return None
    message = f"expected an input of {_sides(expected)} as its card says, found {_sides(found.signature)}"
    return _shape_misfit(message, _input_hint(found, card))


def _input_hint(found: Tensor, card: ModelCard) -> str:
    is_first = card.input.layout is Layout.NCHW
    sides = found.signature
    if len(sides) != 4 or 3 not in sides:
        is_gray = len(sides) == 4 and 1 in (sides[1], sides[3])
        return (
            "export a model for RGB pictures; a gray one can repeat its channel three times"
            if is_gray
            else f"export an image classifier for RGB pictures of {card.input.width} x {card.input.height}"
        )
    if -1 in sides[1:]:
        return "export it with a fixed input size"
    if sides[0] not in (1, -1):
        return f"export it with a batch of 1 in place of {sides[0]}"
    if (sides[1] == 3) != is_first:
        return f"write layout: {Layout.NHWC if is_first else Layout.NCHW} into the card's input"
    height, width = sides[2:] if is_first else sides[1:3]
    return f"write width: {width} and height: {height} into the card's input"


def _output(found: Tensor, card: ModelCard) -> Misfit | None:
    if misfit := _type_misfit("output", found):
        return misfit
    labels, inner = len(card.labels), [side for side in found.shape if side != 1]
    if len(inner) > 1:
        return _shape_misfit(
            f"expected one value for each label, found {_sides(found.signature)}: no classifier",
            "segmentation and detection are not served; export a classifier",
        )
    count = inner[0] if inner else 1
    if count == labels:
        return None
    message = f"expected {labels} outputs, one for each label, found {count}"
    if count == labels + 1:
        return _shape_misfit(message, "is there a background label before the others? name it in the card")
    if count == 1 and labels == 2:
        return _shape_misfit(message, "with one sigmoid write one label, and scores: sigmoid in output")
    return _shape_misfit(message, "write the model's own labels into the card, in the order of its outputs")


def _values(found: Observation, card: ModelCard) -> Misfit | None:
    for values in found.values:
        try:
            to_parts(values, card.output.scores)
        except ScoreError:
            return _no_scores(values, card)
    return None


def _no_scores(values: tuple[float, ...], card: ModelCard) -> Misfit:
    shown = ", ".join(f"{value:.3g}" for value in values[:4]) + (", ..." if len(values) > 4 else "")
    message = f"expected {card.output.scores} scores as its card says, found {shown} for a test picture"
    if not all(map(math.isfinite, values)):
        return Misfit(
            code="model-not-finite",
            message=message,
            hint="are mean and std in the card what it was trained with?",
        )
    if all(0 <= value <= 1 for value in values) and not adds_up(_parts(values), Scores.SOFTMAX):
        return Misfit(
            code="model-sigmoids",
            message=message,
            hint="its labels are not exclusive; write scores: sigmoid into the card's output",
        )
    return Misfit(
        code="model-logits",
        message=message,
        hint="it has no softmax at the end (from_logits=True); write scores: logits into the card's output",
    )


def _parts(values: tuple[float, ...]) -> list[int]:
    return [round(value * 1e9) for value in values]


def _sides(sides: tuple[int, ...]) -> str:
    return "[" + ", ".join("any" if side == -1 else str(side) for side in sides) + "]"
