"""A model's card in lines: what goes in, what comes out, the labels."""

from __future__ import annotations

from collections.abc import Sequence

from enclave_payload.card import Label, ModelInput, ModelOutput
from enclavectl.protocol.answers import PARTS_PER_BILLION
from enclavectl.protocol.card import Fit

# As many as a screen holds; the card and JSON have all of them.
_MAX_LABELS = 40


def input_line(form: ModelInput) -> str:
    """Describe the input: size, fit, filter and scaling."""
    fit = {Fit.CROP: f"crop {form.crop}", Fit.PAD: f"pad with gray {form.pad}"}.get(form.fit, str(form.fit))
    layout = "" if form.layout == "nhwc" else f" {form.layout}"
    return f"{form.width} x {form.height} RGB{layout}, {fit}, {form.filter}, {_scaling(form)}"


def _scaling(form: ModelInput) -> str:
    if form.mean is None or form.std is None:
        return "raw values"
    if len(set(form.mean)) == len(set(form.std)) == 1:
        return f"(v - {form.mean[0]}) / {form.std[0]}"
    return f"(v - [{', '.join(form.mean)}]) / [{', '.join(form.std)}]"


def output_line(form: ModelOutput) -> str:
    """Describe the output: its scores, and what the card says of answers."""
    parts = [str(form.scores)]
    if form.top is not None:
        parts.append(f"the {form.top} most probable labels")
    if form.unsure_below_ppb is not None:
        parts.append(f"unsure below {form.unsure_below_ppb / PARTS_PER_BILLION:.4g}")
    return ", ".join(parts)


def label_lines(labels: Sequence[Label]) -> list[tuple[str, str]]:
    """Return a line for each label, up to as many as a screen holds."""
    lines = [(f"label {label.code}", label.name) for label in labels[:_MAX_LABELS]]
    rest = len(labels) - len(lines)
    return [*lines, ("labels", f"and {rest} more")] if rest else lines
