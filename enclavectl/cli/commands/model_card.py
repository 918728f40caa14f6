"""``enclavectl model card``: a first card for weights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from enclave_payload.card import MAX_WEIGHTS_BYTES
from enclavectl.cli.invocation import screen_for
from enclavectl.cli.options import DryRun, Output, OutputFormat
from enclavectl.cli.screen import Screen
from enclavectl.errors import UsageError
from enclavectl.files import read_bounded, require_output, status_at, write_atomic
from enclavectl.models.draft import Draft, DraftRequest, draft_card
from enclavectl.models.find import CARD_NAME
from enclavectl.models.presets import PRESETS
from enclavectl.models.weights_file import FileTensor
from enclavectl.suggest import suggestion

SCHEMA = "enclavectl.model-card-new/1"
_MAX_LABELS_BYTES = 256 * 1024

WeightsPath = Annotated[Path, typer.Argument(metavar="WEIGHTS", help="A .tflite file.")]
From = Annotated[
    str | None, typer.Option("--from", metavar="TOOL", help=f"What trained it: {', '.join(PRESETS)}.")
]
Labels = Annotated[
    Path | None, typer.Option("--labels", metavar="FILE", help="The labels' names, one a line, in order.")
]
ModelId = Annotated[
    str | None, typer.Option("--id", metavar="ID", help="The model's id; default: the name of the file.")
]
CardOutput = Annotated[
    Path | None,
    typer.Option(
        "--to",
        metavar="FILE",
        help=f"The card to write; default: {CARD_NAME} beside the weights; never overwritten.",
    ),
]


def new(
    weights: WeightsPath,
    preset: From = None,
    labels: Labels = None,
    model_id: ModelId = None,
    to: CardOutput = None,
    dry_run: DryRun = False,
    output: Output = OutputFormat.TEXT,
) -> None:
    """Write the draft of a card: what the weights say, and what they do not.

    Reads the shapes, types, scores, embedded metadata and labels of a .tflite file; TensorFlow and TFLite are
    not needed. What nobody said stands in the draft as "unknown", which no command accepts. --from fills in
    how a tool prepares pictures.

    Examples:
      enclavectl model card new m.tflite                      look what it says
      enclavectl model card new m.tflite --from torchvision   that tool's habits
      enclavectl model card new m.tflite --labels labels.txt  name its labels
    """
    screen = screen_for(output)
    if preset is not None and preset not in PRESETS:
        raise UsageError(f"--from {preset!r}: no such tool; {suggestion(preset, PRESETS)}")
    path = to or weights.parent / CARD_NAME
    if path.parent.absolute() != weights.parent.absolute():
        raise UsageError(f"--to {path}: expected a file beside the weights, which a card names by name alone")
    require_output("--to", path, size=int(not dry_run))
    if not dry_run and status_at(path, follows_links=False) is not None:
        raise UsageError(
            f"{path}: exists already, and a card is never overwritten",
            hint="--to names another file; --dry-run only prints",
            code="card-exists",
        )
    draft = draft_card(
        DraftRequest(
            data=read_bounded(weights, MAX_WEIGHTS_BYTES, what="weights file"),
            file=weights.name,
            model_id=model_id or _id_of(weights),
            preset=None if preset is None else PRESETS[preset],
            labels=_lines(labels, preset),
        )
    )
    if not dry_run:
        write_atomic(path, draft.text.encode(), mode=0o644)
    if screen.as_json:
        screen.result(_value(draft, path, is_written=not dry_run))
    else:
        _draw(screen, draft, path, is_written=not dry_run)


def _id_of(weights: Path) -> str:
    name = re.sub(r"[^a-z0-9_.-]+", "-", weights.stem.lower()).strip("-_.")[:64]
    return name or "model"


def _lines(path: Path | None, preset: str | None) -> list[str]:
    if path is None:
        return []
    text = read_bounded(path, _MAX_LABELS_BYTES, what="list of labels").decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if preset == "teachable-machine":  # "0 Daisy"
        lines = [re.sub(r"^[0-9]+ ", "", line) for line in lines]
    return lines


def _value(draft: Draft, path: Path, *, is_written: bool) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "card": str(path) if is_written else None,
        "text": draft.text,
        "sha256": draft.sha256,
        "input": _tensor(draft.weights.inputs[0]),
        "output": _tensor(draft.weights.outputs[0]),
        "scores": draft.weights.scores,
        "unknown": [{"key": gap.key, "question": gap.what} for gap in draft.gaps],
    }


def _tensor(tensor: FileTensor) -> dict[str, object]:
    scale = {} if tensor.scale is None else {"scale": tensor.scale, "zero_point": tensor.zero_point}
    return {"name": tensor.name, "type": tensor.dtype, "shape": list(tensor.signature), **scale}


def _draw(screen: Screen, draft: Draft, path: Path, *, is_written: bool) -> None:
    if not is_written:
        typer.echo(draft.text, nl=False)
        typer.echo()
    source, sink = draft.weights.inputs[0], draft.weights.outputs[0]
    screen.facts(
        [
            ("card", str(path) if is_written else "not written"),
            ("input", f"{source.dtype} {list(source.signature)}"),
            ("output", f"{sink.dtype} {list(sink.signature)}, {draft.weights.scores}"),
            *((f"decide {gap.key}", gap.what) for gap in draft.gaps),
        ]
    )
    if is_written:
        screen.drawn((f"next: edit {path}, then: enclavectl model check {path}", ""))
