"""The answers that a model's owner expects for pictures beside the card; ``model check`` compares them."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from enclave_payload.card import ModelCard
from enclavectl.config.setting import shown
from enclavectl.errors import UsageError
from enclavectl.yaml_file import Node, refuse_unknown

# Enough to notice another preprocessing; a test set has files of its own (model check --pictures).
MAX_EXPECTED = 8
_KEYS = ("file", "label", "probability", "tolerance")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedAnswer:
    """The most probable label for a picture beside the card, and its probability give or take."""

    file: str
    label: str
    probability: float
    tolerance: float

    def to_json(self) -> dict[str, object]:
        """Return an element of ``expected``."""
        return asdict(self)


def read_expected(node: Node, card: ModelCard, name: str) -> tuple[ExpectedAnswer, ...]:
    """Read ``expected`` of a card.

    Raises:
        UsageError: not a list of at most ``MAX_EXPECTED`` answers; ``name`` names the card.
    """
    if not isinstance(node.value, list) or len(node.value) > MAX_EXPECTED:
        raise UsageError(f"{name}:{node.line}: expected: expected a list of at most {MAX_EXPECTED} answers")
    return tuple(_answer(one, card, name) for one in node.value)


def _answer(node: Node, card: ModelCard, name: str) -> ExpectedAnswer:
    fields = node.value if isinstance(node.value, dict) else {}
    refuse_unknown(fields, _KEYS, name=name, where="expected")
    if missing := [key for key in _KEYS if key not in fields]:
        raise UsageError(f"{name}:{node.line}: expected: an answer lacks {', '.join(missing)}")
    file, label = fields["file"].to_plain(), fields["label"].to_plain()
    if not isinstance(file, str) or not file.isprintable() or "/" in file or file in {"", ".", ".."}:
        raise UsageError(
            f"{name}:{node.line}: expected.file: expected the name of a picture beside the card, "
            f"found {shown(file)}"
        )
    if label not in {one.code for one in card.labels}:
        raise UsageError(
            f"{name}:{node.line}: expected.label: expected a code of labels, found {shown(label)}"
        )
    return ExpectedAnswer(
        file=file,
        label=str(label),
        probability=_share(fields["probability"], "probability", name),
        tolerance=_share(fields["tolerance"], "tolerance", name),
    )


def _share(node: Node, key: str, name: str) -> float:
    value = node.value
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise UsageError(
            f"{name}:{node.line}: expected.{key}: expected 0 to 1, found {shown(node.to_plain())}"
        )
    return float(value)
