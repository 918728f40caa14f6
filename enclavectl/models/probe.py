"""A check that a model can serve, before an enclave starts: the runtime's message, and a fix."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from enclave_payload.card import MAX_SUM_ERROR, ModelCard
from enclavectl.errors import UsageError
from enclavectl.models.interpreter import Observation, Tensor, observe
from enclavectl.models.other_formats import other_weights
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
    other = other_weights(load_weights(model))
    if other is not None:
        raise UsageError(
            f"{model.weights_path}: expected a TFLite model, found {other.name}",
            hint=other.hint,
            code="model-format",
        )
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
    True: "convert it with TensorFlow 2.16 or older; or use Python 3.12 or newer, which gets a newer runtime "
    "(for build: --base-image)",
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
    if found.dtype == "float32":
        return None
    return Misfit(
        code="model-type",
        message=f"expected float32 at its {what}, found {found.dtype}",
        hint=f"convert it with a float32 {what} (inference_{what}_type = tf.float32, the default); "
        "what is inside may be quantized",
    )


def _input(found: Tensor, card: ModelCard) -> Misfit | None:
    if misfit := _type_misfit("input", found):
        return misfit
    expected = (1, card.height, card.width, 3)
    if found.shape == expected and -1 not in found.signature[1:]:
        return None
    message = f"expected an input of {_sides(expected)} as its card says, found {_sides(found.signature)}"
    return _shape_misfit(message, _input_hint(found, card))


def _input_hint(found: Tensor, card: ModelCard) -> str:
    match found.signature:
        case (_, *inner) if -1 in inner:
            return "export it with a fixed input size"
        case (1, 3, _, _):
            return "export it with channels last: TFLite's layout is batch, height, width, channels"
        case (1, _, _, 1):
            return "export a model for RGB pictures; a gray one can repeat its channel three times"
        case (1, height, width, 3):
            return f"write width: {width} and height: {height} into the card's input"
        case (batch, _, _, 3):
            return f"export it with a batch of 1 in place of {batch}"
    return f"export an image classifier for RGB pictures of {card.width} x {card.height}"


def _output(found: Tensor, card: ModelCard) -> Misfit | None:
    if misfit := _type_misfit("output", found):
        return misfit
    count = len(card.labels)
    if found.shape == (1, count):
        return None
    expected = _sides((1, count))
    message = f"expected an output of {expected}, one for each label, found {_sides(found.signature)}"
    if math.prod(found.shape) == count:
        return _shape_misfit(message, f"reshape the output to {expected} before you convert it")
    if found.shape == (1, 1) and count == 2:
        return _shape_misfit(message, "end the model in a softmax over two outputs in place of one sigmoid")
    return _shape_misfit(message, "write the model's own labels into the card, in the order of its outputs")


def _values(found: Observation, card: ModelCard) -> Misfit | None:
    for values in found.values:
        total = math.fsum(values) if all(map(math.isfinite, values)) else math.nan
        if all(value >= 0 for value in values) and abs(total - 1) < MAX_SUM_ERROR:
            continue
        shown = ", ".join(f"{value:.3g}" for value in values[:4]) + (", ..." if len(values) > 4 else "")
        message = f"expected probabilities that add up to 1, found {shown} for a test picture"
        if math.isnan(total):
            hint = f"are mean: {card.mean:g} and std: {card.std:g} in the card what it was trained with?"
            return Misfit(code="model-not-finite", message=message, hint=hint)
        if all(0 <= value <= 1 for value in values):
            return Misfit(
                code="model-sigmoids",
                message=message,
                hint="its labels are not exclusive (sigmoids); end it in a softmax over the labels",
            )
        return Misfit(
            code="model-logits",
            message=message,
            hint="it has no softmax at the end (from_logits=True); add one before you convert it",
        )
    return None


def _sides(sides: tuple[int, ...]) -> str:
    return "[" + ", ".join("any" if side == -1 else str(side) for side in sides) + "]"
