"""A first card for weights: what the file says, what a preset says, and what nobody said.

What is not known stands in the draft as ``unknown``, which no reader of cards accepts: somebody decides.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from enclave_payload.card import MAX_ANSWER_LABELS, MAX_LABELS, MAX_SIDE, MODEL_SCHEMA, Layout
from enclave_payload.scores import Quantization, quantized_values
from enclavectl.errors import UsageError
from enclavectl.models.flatbuffer import FlatbufferError
from enclavectl.models.measured_form import decimal_text
from enclavectl.models.other_formats import require_tflite
from enclavectl.models.presets import Channels, Preset
from enclavectl.models.weights_file import FileTensor, WeightsFile, read_weights_file

UNKNOWN = "unknown"
_LEAST = {"uint8": 0, "int8": -128}
_DEFAULT_TOP = 10
_MAX_NAME = 100
NOTICE = "This card is a draft. Nobody has checked the answers of this model."


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A key of the card that neither the file nor a preset says, and what to do about it."""

    key: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """The text of the card, what is left to a person, and the file that it is about."""

    text: str
    gaps: tuple[Gap, ...]
    weights: WeightsFile
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftRequest:
    """The weights by content and name, and what their owner says of them."""

    data: bytes
    file: str
    model_id: str
    preset: Preset | None = None
    labels: Sequence[str] = ()


def draft_card(request: DraftRequest) -> Draft:
    """Read the weights and write what is known of them.

    Raises:
        UsageError: no TFLite model, a damaged one, or one that cannot be served; the message says why.
    """
    require_tflite(request.data, request.file)
    try:
        weights = read_weights_file(request.data)
    except FlatbufferError as exc:
        raise UsageError(
            f"{request.file}: expected a TFLite model, found a damaged one ({exc})",
            hint="export the model again, or copy it again",
            code="model-broken",
        ) from exc
    for code, what, hint in _obstacles(weights):
        raise UsageError(f"{request.file}: {what}", hint=hint, code=code)
    gaps: list[Gap] = []
    lines = [*_head(request, weights, gaps), *_input(request, weights, gaps)]
    labels = _labels(request, weights, gaps)
    lines += [*_output(weights, len(labels), gaps), "labels:", *labels]
    gaps.append(Gap(key="notice", what="what must everybody know who uses an answer?"))
    lines.append(f"notice: {NOTICE}")
    sha256 = hashlib.sha256(request.data).hexdigest()
    return Draft(text="\n".join(lines) + "\n", gaps=tuple(gaps), weights=weights, sha256=sha256)


def _obstacles(weights: WeightsFile) -> Iterator[tuple[str, str, str]]:
    """Yield what keeps the model from being served: code, message, hint."""
    flex = [name for name in weights.foreign_operations if name.startswith("Flex")]
    if flex:
        yield (
            "model-flex-op",
            f"it needs Select TensorFlow operators ({', '.join(flex)}), which no runtime here has",
            "convert it without SELECT_TF_OPS: only TFLITE_BUILTINS run in the enclave",
        )
    if weights.foreign_operations:
        yield (
            "model-custom-op",
            f"it needs custom operators ({', '.join(weights.foreign_operations)}), which no runtime here has",
            "replace them by built-in ones before you convert it",
        )
    for what, tensors in (("input", weights.inputs), ("output", weights.outputs)):
        if len(tensors) != 1:
            names = ", ".join(one.name for one in tensors[:8])
            yield (
                f"model-{what}s",
                f"expected one {what}, found {len(tensors)} ({names})",
                "export a model that takes a picture only, and gives one value for each label",
            )
        elif tensors[0].dtype != "float32" and (tensors[0].dtype not in _LEAST or tensors[0].scale is None):
            yield (
                "model-type",
                f"expected float32, uint8 or int8 at its {what}, found {tensors[0].dtype}",
                f"convert it with a float32 {what} (the default); what is inside may be quantized",
            )
    yield from _shape_obstacles(weights)


def _shape_obstacles(weights: WeightsFile) -> Iterator[tuple[str, str, str]]:
    source, sink = weights.inputs[0], weights.outputs[0]
    found = f"found {list(source.signature)}"
    if len(source.shape) != 4 or _layout(source) is None:
        is_gray = len(source.shape) == 4 and 1 in (source.shape[1], source.shape[3])
        hint = "a gray one can repeat its channel three times" if is_gray else "export an image classifier"
        yield "model-shape", f"expected an input for RGB pictures, {found}", hint
    elif -1 in source.signature[1:]:
        yield "model-shape", f"expected fixed sides, {found}", "export it with a fixed input size"
    elif source.shape[0] != 1:
        yield "model-shape", f"expected a batch of 1, {found}", "export it with a batch of 1"
    elif not all(1 <= side <= MAX_SIDE for side in source.shape):
        yield "model-shape", f"expected sides of 1 to {MAX_SIDE}, {found}", "export it with a smaller input"
    inner = [side for side in sink.shape if side != 1]
    if len(inner) > 1:
        yield (
            "model-shape",
            f"expected one value for each label, found an output of {list(sink.shape)}: no classifier",
            "segmentation and detection are not served",
        )
    elif weights.scores == "argmax":
        yield "model-scores", "its output is the number of a label alone", "leave out the ARG_MAX at its end"
    elif inner and not 1 <= inner[0] <= MAX_LABELS:
        yield "model-shape", f"expected 1 to {MAX_LABELS} labels, found {inner[0]}", "export fewer labels"


def _layout(source: FileTensor) -> Layout | None:
    if source.shape[3] == 3:
        return Layout.NHWC
    return Layout.NCHW if source.shape[1] == 3 else None


def _head(request: DraftRequest, weights: WeightsFile, gaps: list[Gap]) -> list[str]:
    named = weights.metadata.name if weights.metadata else ""
    title = " ".join(named.split())[:200] or request.model_id
    if not named or not title.isprintable():
        title = request.model_id
        gaps.append(Gap(key="title", what="what is this model, in one line?"))
    lines = [
        f"schema: {MODEL_SCHEMA}",
        f"id: {_quoted(request.model_id)}",
        f"title: {_quoted(title)}",
        f"file: {_quoted(request.file)}",
        f"sha256: {hashlib.sha256(request.data).hexdigest()}",
    ]
    license_ = " ".join(weights.metadata.license.split())[:200] if weights.metadata else ""
    return [*lines, f"license: {_quoted(license_)}"] if license_ else lines


def _input(request: DraftRequest, weights: WeightsFile, gaps: list[Gap]) -> list[str]:
    source, preset = weights.inputs[0], request.preset
    layout = _layout(source)
    height, width = source.shape[2:] if layout is Layout.NCHW else source.shape[1:3]
    lines = ["input:", f"  width: {width}", f"  height: {height}"]
    if layout is Layout.NCHW:
        lines.append("  layout: nchw")
    if preset is None:
        lines += [
            f"  fit: {UNKNOWN}  # stretch, crop or pad: how were the pictures cut in training?",
            f"  filter: {UNKNOWN}  # bilinear, bicubic, lanczos, box, nearest, or TensorFlow's: sampled",
        ]
        gaps.append(Gap(key="input.fit", what="stretch, crop or pad: how were the pictures cut in training?"))
        gaps.append(
            Gap(key="input.filter", what="which filter scaled them? TensorFlow's bilinear is sampled")
        )
    else:
        lines.append(f"  fit: {preset.fit}")
        if preset.crop is not None:
            lines.append(f"  crop: {preset.crop}")
        lines.append(f"  filter: {preset.filter}")
    return [*lines, *_scaling(request, weights, gaps)]


def _scaling(request: DraftRequest, weights: WeightsFile, gaps: list[Gap]) -> list[str]:
    preset, metadata = request.preset, weights.metadata
    if weights.scales_by_itself:
        return ["  values: raw  # the graph scales them by itself"]
    mean, std = _channels(metadata.mean if metadata else ()), _channels(metadata.std if metadata else ())
    if (mean is None or std is None) and preset is not None:
        mean, std = preset.mean, preset.std
    if mean is None or std is None or any(Fraction(one) <= 0 for one in std):
        gaps.append(
            Gap(
                key="input.mean",
                what="how were pixels scaled: (v - mean) / std, or values: raw in place of both?",
            )
        )
        return [f"  mean: {UNKNOWN}  # or values: raw, in place of mean and std", f"  std: {UNKNOWN}"]
    if _is_raw(weights.inputs[0], mean, std):
        return ["  values: raw  # mean and std amount to the input's own scale"]
    return [f"  mean: {_listed(mean)}", f"  std: {_listed(std)}"]


def _channels(numbers: tuple[float, ...]) -> Channels | None:
    """Return the numbers of the metadata, one or three, as a card has them."""
    if len(numbers) not in (1, 3) or not all(abs(one) < 10**6 for one in numbers):
        return None
    # A float32 holds seven digits: 123.675 comes back as it was written.
    texts = [decimal_text(Decimal(f"{one:.7g}")) for one in numbers]
    red, green, blue = texts if len(texts) == 3 else texts * 3
    return red, green, blue


def _is_raw(source: FileTensor, mean: Channels, std: Channels) -> bool:
    """Tell whether an 8-bit input of raw pixels is within 1 of the scaled one everywhere.

    Raw is then nearer to the model before it was quantized.
    """
    if source.dtype not in _LEAST or not source.scale or not source.scale > 0:
        return False
    least = _LEAST[source.dtype]
    quantization = Quantization(Fraction(source.scale), source.zero_point, least)
    return all(
        abs(entry - (value + least)) <= 1
        for offset, step in set(zip(mean, std, strict=True))
        for value, entry in enumerate(quantized_values(Fraction(offset), Fraction(step), quantization))
    )


def _output(weights: WeightsFile, count: int, gaps: list[Gap]) -> list[str]:
    scores = weights.scores
    if scores == "logits":
        scores = "logits" if count > 1 else "logits-sigmoid"
        gaps.append(
            Gap(
                key="output.scores",
                what="the graph ends without softmax or sigmoid: are its labels exclusive (logits), or not "
                "(logits-sigmoid)?",
            )
        )
    lines = ["output:", f"  scores: {scores}"]
    return [*lines, f"  top: {_DEFAULT_TOP}"] if count > MAX_ANSWER_LABELS else lines


def _labels(request: DraftRequest, weights: WeightsFile, gaps: list[Gap]) -> list[str]:
    inner = [side for side in weights.outputs[0].shape if side != 1]
    count = inner[0] if inner else 1
    names = [*request.labels] or [*(weights.metadata.labels if weights.metadata else ())]
    if len(names) != count:
        if request.labels:
            raise UsageError(
                f"expected {count} labels, one for each output, found {len(names)}",
                hint="is there a background label before the others?" if count == len(names) + 1 else None,
                code="model-labels",
            )
        gaps.append(Gap(key="labels", what=f"how are the {count} outputs called, in their order? (--labels)"))
        names = [f"Output {index}" for index in range(count)]
    codes: dict[str, None] = {}
    lines = []
    for index, name in enumerate(names):
        shown = " ".join("".join(char for char in name if char.isprintable()).split())[:_MAX_NAME]
        code = _code(shown, index, codes)
        codes[code] = None
        lines.append(f"- {{code: {_quoted(code)}, name: {_quoted(shown or code)}}}")
    return lines


def _code(name: str, index: int, taken: dict[str, None]) -> str:
    code = re.sub(r"[^a-z0-9_.]+", "-", name.lower()).strip("-_.")[:32].rstrip("-_.")
    if code and code not in taken:
        return code
    suffix = f"-{index}"
    return f"{code[: 32 - len(suffix)] or 'label'}{suffix}"


def _listed(numbers: Channels) -> str:
    return numbers[0] if len(set(numbers)) == 1 else f"[{', '.join(numbers)}]"


def _quoted(text: str) -> str:
    # JSON's strings are YAML; a plain word stays plain.
    is_plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*", text) and text.lower() not in {
        "true",
        "false",
        "null",
    }
    return text if is_plain else json.dumps(text, ensure_ascii=False)
