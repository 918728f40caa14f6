"""A model's card in the form for people: YAML of the schema ``enclavectl.model/2``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from enclave_payload.card import MAX_CARD_BYTES, MODEL_SCHEMA, CardError, ModelCard
from enclavectl.config.setting import shown
from enclavectl.errors import UsageError
from enclavectl.files import read_bounded
from enclavectl.models.expected import ExpectedAnswer, read_expected
from enclavectl.models.measured_form import (
    input_fields,
    measured_input,
    measured_labels,
    measured_output,
    output_fields,
)
from enclavectl.models.weights import Model
from enclavectl.protocol.card import card_from_mapping
from enclavectl.yaml_file import Node, Plain, parse_yaml, refuse_unknown

# The payload accepts cards of at most 64 KiB; YAML takes more for the same labels, and people read more.
MAX_CARD_FILE_BYTES = 256 * 1024

_MEASURED = ("schema", "id", "sha256", "input", "output", "labels", "notice")
_REQUIRED = ("title", "file", *_MEASURED)
_FREE_FORM = ("training", "evaluation", "license", "source")
_FORM_1 = "enclavectl.model/1"
_KEY_FORM = "enclavectl.model-key/1"  # of enclavectl.weights, which this room does not import


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribedModel(Model):
    """A model with its whole card.

    ``extra`` has the free-form parts of the card: training, evaluation, license, source. ``expected`` are
    the answers that its owner saw, for pictures beside the card.
    """

    title: str
    expected: tuple[ExpectedAnswer, ...]
    extra: Mapping[str, Plain]

    def to_json(self) -> dict[str, object]:
        """Return what `model show` and `model fetch` print of a model."""
        card = self.card
        return {
            "id": card.model_id,
            "title": self.title,
            "card": str(self.card_path),
            "file": str(self.weights_path),
            "sha256": card.sha256,
            "input": input_fields(card.input),
            "output": output_fields(card.output),
            "labels": [{"code": label.code, "name": label.name} for label in card.labels],
            "notice": card.notice,
            "expected": [one.to_json() for one in self.expected],
            **self.extra,
        }


def read_card(path: Path) -> DescribedModel:
    """Read the card at ``path`` and return the model that it describes.

    Raises:
        UsageError: the file cannot be read, or is not a card.
    """
    return parse_model_card(read_bounded(path, MAX_CARD_FILE_BYTES, what="model card"), path)


def parse_model_card(data: bytes, path: Path) -> DescribedModel:
    """Parse a card and return the model that it describes; ``path`` names the card. No file is read.

    Raises:
        UsageError: not a model card; the message names the place and the field.
    """
    name = str(path)
    if len(data) > MAX_CARD_FILE_BYTES:
        raise UsageError(f"{name}: expected a model card of at most {MAX_CARD_FILE_BYTES} bytes, found more")
    root = parse_yaml(data, name=name)
    if not isinstance(root.value, dict):
        raise UsageError(f"{name}:{root.line}: expected a model card, found {shown(root.to_plain())}")
    top = root.value
    _require_form(top, name)
    refuse_unknown(top, (*_REQUIRED, "expected", *_FREE_FORM), name=name)
    if missing := [key for key in _REQUIRED if key not in top]:
        raise UsageError(f"{name}: the model card lacks {', '.join(missing)}")
    card = _measured(top, name)
    return DescribedModel(
        card=card,
        title=_line_of_text(top["title"], "title", name),
        card_path=path,
        weights_path=path.parent / _file_name(top["file"], name),
        expected=read_expected(top["expected"], card, name) if "expected" in top else (),
        extra=MappingProxyType({key: top[key].to_plain() for key in _FREE_FORM if key in top}),
    )


def _require_form(top: Mapping[str, Node], name: str) -> None:
    if "schema" not in top or (schema := top["schema"].to_plain()) == MODEL_SCHEMA:
        return  # what is missing is said with the rest of it
    hint = None
    if schema == _FORM_1:
        hint = (
            f"write schema: {MODEL_SCHEMA}; what form 1 meant is fit: stretch and filter: bilinear in input, "
            "and output: {scores: softmax}"
        )
    if schema == _KEY_FORM:
        hint = "this is the key, which stays with the model's owner; the model is the .sealed file"
    raise UsageError(
        f"{name}:{top['schema'].line}: expected schema {MODEL_SCHEMA}, found {shown(schema)}", hint=hint
    )


def _measured(top: Mapping[str, Node], name: str) -> ModelCard:
    values = {key: top[key].to_plain() for key in _MEASURED}
    values["input"] = measured_input(top["input"], name)
    values["output"] = measured_output(top["output"], name)
    values["labels"] = measured_labels(top["labels"], name)
    if isinstance(notice := values["notice"], str):
        values["notice"] = " ".join(notice.split())  # a card may fold a long notice over lines
    try:
        card = card_from_mapping(values)
    except CardError as exc:
        raise UsageError(f"{name}: {exc}") from exc
    if (size := len(card.to_json())) > MAX_CARD_BYTES:
        raise UsageError(
            f"{name}: expected labels and a notice of at most {MAX_CARD_BYTES} bytes, found {size}"
        )
    return card


def _line_of_text(node: Node, key: str, name: str) -> str:
    if isinstance(node.value, str) and 0 < len(node.value) <= 200 and node.value.isprintable():
        return node.value
    raise UsageError(
        f"{name}:{node.line}: {key}: expected 1 to 200 printable characters on one line, "
        f"found {shown(node.to_plain())}"
    )


def _file_name(node: Node, name: str) -> str:
    text = _line_of_text(node, "file", name)
    # A card may come from a stranger, so it may name only a file in its own folder.
    if "/" in text or text in {".", ".."}:
        raise UsageError(
            f"{name}:{node.line}: file: expected the name of a file beside the card, found {shown(text)}"
        )
    return text
