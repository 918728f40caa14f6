"""The model card as the payload needs it: what goes in, what comes out, which bytes are the weights.

The operator's side keeps the full card in YAML (``enclavectl.models.card``). What is measured beside the
weights is this part of it, as JSON, so that the payload needs no YAML parser. What the weights say
themselves, as the type and scale of a tensor, is not repeated: the card's hash fixes them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

# Probabilities are whole parts everywhere: no two readers differ on a float.
PARTS_PER_BILLION = 1_000_000_000
MODEL_SCHEMA = "enclavectl.model/2"
# 1,000 labels as ImageNet has them take 46,001 bytes; the key configuration must hold it (messages).
MAX_CARD_BYTES = 64 * 1024
# Inception v3 has 95 MB in float32, 48 MB in float16; larger weights would not fit the smallest enclave.
MAX_WEIGHTS_BYTES = 64 * 1024 * 1024
# Pixels. Image classifiers take 224 to 600; the picture is resized to this in memory.
MAX_SIDE = 1024
# ImageNet's 1,000 classes, and a background label before them.
MAX_LABELS = 1024
# An answer has room for the codes of so many labels (4,096 bytes, up to 48 for each label).
MAX_ANSWER_LABELS = 64
# The register of the model. PCR0 to PCR15 are the hypervisor's, so 16 is the first that a program may extend.
# https://github.com/aws/aws-nitro-enclaves-nsm-api/blob/main/docs/attestation_process.md
MODEL_PCR = 16
# The measured file that stands for card and weights in an image without them.
SEALED_MARK = "sealed"
SEALED_MARK_CONTENT = b"sealed\n"

# A decimal number has one text, and no float is near it: 123.675 stays 123.675 on every machine.
DECIMAL = re.compile(r"(?!-0\Z)-?(?:0|[1-9][0-9]{0,5})(?:\.[0-9]{0,11}[1-9])?")


class CardError(ValueError):
    """The card breaks a rule; the message names the field."""


class Layout(StrEnum):
    """The order of the input's sides after the batch."""

    NHWC = "nhwc"
    NCHW = "nchw"


class Fit(StrEnum):
    """How a picture of another shape is brought to the input's."""

    STRETCH = "stretch"
    CROP = "crop"
    PAD = "pad"


class Filter(StrEnum):
    """How pixels are resampled. All but the last two look at every pixel when they shrink a picture.

    ``SAMPLED`` is what TensorFlow, Keras and OpenCV call bilinear: half-pixel centers, four pixels each.
    """

    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    LANCZOS = "lanczos"
    BOX = "box"
    NEAREST = "nearest"
    SAMPLED = "sampled"


class Scores(StrEnum):
    """What the model's outputs are: probabilities, or what has to become probabilities."""

    SOFTMAX = "softmax"
    SIGMOID = "sigmoid"
    LOGITS = "logits"
    LOGITS_SIGMOID = "logits-sigmoid"

    @property
    def is_exclusive(self) -> bool:
        """True if the probabilities of all labels add up to one."""
        return self in {Scores.SOFTMAX, Scores.LOGITS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """One class of the model: ``code`` is for programs, ``name`` for people."""

    code: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInput:
    """How a picture becomes the model's input.

    ``crop`` is the part of the largest centered box that is kept, and there only with ``Fit.CROP``; ``pad``
    is the gray of 0..255 around the picture, only with ``Fit.PAD``. A pixel value v of 0..255 enters the
    model as ``(v - mean) / std`` for red, green and blue; as it is where both are None. Numbers are the
    decimal text that ``DECIMAL`` matches.
    """

    width: int
    height: int
    fit: Fit
    filter: Filter
    layout: Layout = Layout.NHWC
    crop: str | None = None
    pad: int | None = None
    mean: tuple[str, str, str] | None = None
    std: tuple[str, str, str] | None = None

    def to_value(self) -> dict[str, object]:
        """Return the measured form: what does not apply is left out."""
        value: dict[str, object] = {
            "width": self.width,
            "height": self.height,
            "layout": str(self.layout),
            "fit": str(self.fit),
            "filter": str(self.filter),
        }
        if self.crop is not None:
            value["crop"] = self.crop
        if self.pad is not None:
            value["pad"] = self.pad
        if self.mean is None or self.std is None:
            return value | {"values": "raw"}
        return value | {"mean": list(self.mean), "std": list(self.std)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOutput:
    """What the outputs mean. With ``top`` an answer has only so many labels, the most probable ones.

    Whoever shows an answer says that it is unsure if the most probable label has less than
    ``unsure_below_ppb`` parts per billion.
    """

    scores: Scores
    unsure_below_ppb: int | None = None
    top: int | None = None

    def to_value(self) -> dict[str, object]:
        """Return the measured form: what does not apply is left out."""
        value: dict[str, object] = {"scores": str(self.scores)}
        if self.unsure_below_ppb is not None:
            value["unsure_below_ppb"] = self.unsure_below_ppb
        if self.top is not None:
            value["top"] = self.top
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What the payload must know of a model.

    ``sha256`` is of the weights file. ``labels`` are in the order of the model's outputs.
    """

    model_id: str
    sha256: str
    input: ModelInput
    output: ModelOutput
    labels: tuple[Label, ...]
    notice: str

    def to_json(self) -> bytes:
        """Encode in the one canonical way, so that the same card is always measured as the same bytes."""
        value = {
            "schema": MODEL_SCHEMA,
            "id": self.model_id,
            "sha256": self.sha256,
            "input": self.input.to_value(),
            "output": self.output.to_value(),
            "labels": [[label.code, label.name] for label in self.labels],
            "notice": self.notice,
        }
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def parse_card(data: bytes) -> ModelCard:
    """Read what ``ModelCard.to_json`` wrote, in that one encoding.

    Asked for are the form, and the bounds that the payload's memory rests on. ``build`` holds a card to all
    the rules before it is measured, and every client does so again with the attested card
    (``enclavectl.protocol.card``).

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
    if not is_canonical:  # unknown keys, a key twice, spaces, what does not apply
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
            "schema": schema,
            "id": str(model_id),
            "sha256": str(sha256),
            "input": dict(picture),
            "output": dict(scores),
            "labels": [*pairs],
            "notice": str(notice),
        } if schema == MODEL_SCHEMA and 1 <= len(pairs) <= MAX_LABELS:
            return ModelCard(
                model_id=model_id,
                sha256=sha256,
                input=_input(picture),
                output=_output(scores, len(pairs)),
                labels=tuple(map(_label, pairs)),
                notice=notice,
            )
    raise CardError("a field is missing, of another type or out of bounds")


def _input(value: Mapping[str, object]) -> ModelInput:
    fit = Fit(str(value.get("fit")))
    return ModelInput(
        width=_whole(value.get("width"), 1, MAX_SIDE),
        height=_whole(value.get("height"), 1, MAX_SIDE),
        layout=Layout(str(value.get("layout"))),
        fit=fit,
        filter=Filter(str(value.get("filter"))),
        crop=_decimal(value.get("crop")) if fit is Fit.CROP else None,
        pad=_whole(value.get("pad"), 0, 255) if fit is Fit.PAD else None,
        mean=_triple(value["mean"]) if "mean" in value else None,
        std=_triple(value["std"]) if "std" in value else None,
    )


def _output(value: Mapping[str, object], labels: int) -> ModelOutput:
    output = ModelOutput(
        scores=Scores(str(value.get("scores"))),
        unsure_below_ppb=_whole(value["unsure_below_ppb"], 0, 10**9) if "unsure_below_ppb" in value else None,
        top=_whole(value["top"], 1, MAX_ANSWER_LABELS) if "top" in value else None,
    )
    if labels > MAX_ANSWER_LABELS and output.top is None:
        raise CardError("an answer has no room for so many labels without top")
    return output


def _whole(value: object, least: int, most: int) -> int:
    if type(value) is int and least <= value <= most:  # True is an int as well
        return value
    raise CardError("a number is missing or out of bounds")


def _decimal(value: object) -> str:
    if isinstance(value, str) and DECIMAL.fullmatch(value):
        return value
    raise CardError("a decimal number is missing or in another form")


def _triple(value: object) -> tuple[str, str, str]:
    match value:
        case [red, green, blue]:
            return _decimal(red), _decimal(green), _decimal(blue)
    raise CardError("expected three decimal numbers")


def _label(pair: object) -> Label:
    match pair:
        case [str(code), str(name)]:
            return Label(code=code, name=name)
    raise CardError("a label is not [code, name]")
