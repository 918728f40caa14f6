"""``enclavectl model check``: a model tried on pictures."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from enclavectl.cli.completion import model_names
from enclavectl.cli.invocation import begin
from enclavectl.cli.model_view import input_line, output_line
from enclavectl.cli.options import ConfigFile, Output, OutputFormat
from enclavectl.cli.screen import Screen
from enclavectl.client.folders import collect
from enclavectl.client.pictures import read_picture
from enclavectl.errors import PictureRefused, UsageError
from enclavectl.files import read_bounded
from enclavectl.models.card import DescribedModel, read_card
from enclavectl.models.find import find_model
from enclavectl.models.flatbuffer import FlatbufferError
from enclavectl.models.probe import probe
from enclavectl.models.trial import (
    Seen,
    TrialPicture,
    Variant,
    count_right,
    greatest_difference,
    try_bare,
    try_model,
    try_variants,
)
from enclavectl.models.weights import load_weights
from enclavectl.models.weights_file import read_weights_file
from enclavectl.protocol.answers import PARTS_PER_BILLION

SCHEMA = "enclavectl.model-check/1"
_MAX_CSV_BYTES = 16 * 1024 * 1024
# As wide as a screen holds; JSON has every label.
_MAX_MATRIX = 12
# More pictures than this say no more about a preparation, and each is classified nine times.
_MAX_VARIANT_PICTURES = 200
# The bare interpreter rounds elsewhere; a resampled pixel may be one off.
_CLOSE = 0.02

ModelToCheck = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="A card, its folder, or a model's id.", autocompletion=model_names),
]
Pictures = Annotated[Path | None, typer.Option("--pictures", metavar="DIR", help="Pictures to try it on.")]
Expected = Annotated[
    Path | None,
    typer.Option(
        "--expected", metavar="CSV", help="Lines of file,label: the right label's code for each picture."
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What was found out about a model."""

    model: DescribedModel
    runtime: str
    pictures: Sequence[TrialPicture] = ()
    unread: int = 0
    seen: Sequence[Seen] = ()
    difference: float = 0.0
    same: int = 0
    variants: Sequence[Variant] = ()
    variant_pictures: int = 0
    warnings: Sequence[str] = ()
    broken: Sequence[str] = ()

    @property
    def labelled(self) -> list[tuple[TrialPicture, Seen]]:
        """The pictures whose label is known."""
        return [pair for pair in zip(self.pictures, self.seen, strict=True) if pair[0].label is not None]

    @property
    def right(self) -> int:
        """How many of them got it."""
        return count_right(self.model.card, self.labelled)

    @property
    def matrix(self) -> list[list[int]]:
        """How many pictures of each label (rows) got each label (columns)."""
        codes = [label.code for label in self.model.card.labels]
        rows = [[0] * len(codes) for _ in codes]
        for picture, seen in self.labelled:
            if seen.best is not None and picture.label is not None:
                rows[codes.index(picture.label)][seen.best] += 1
        return rows


def check(
    name: ModelToCheck,
    pictures: Pictures = None,
    expected: Expected = None,
    config: ConfigFile = None,
    output: Output = OutputFormat.TEXT,
) -> None:
    """Try a model on pictures: is it prepared as it was trained?

    Classifies the pictures in the process that does so in the enclave, and compares with a bare interpreter.
    With --expected it shows the accuracy, a confusion matrix, and what every other fit and filter would
    give: a wrong one makes wrong answers without a word. Pictures that the card expects are checked as well;
    if one is off, the exit code is 2.

    Examples:
      enclavectl model check ./m                                  load it
      enclavectl model check ./m --pictures p                     try it
      enclavectl model check ./m --pictures p --expected its.csv  measure it
    """
    if expected is not None and pictures is None:
        raise UsageError("--expected: it needs --pictures, the folder of the files that it names")
    invocation = begin(output, config, {"model": name})
    screen = invocation.screen
    found = read_card(find_model(invocation.config.model, data_dir=invocation.config.data_dir).card_path)
    runtime = probe(found).runtime
    trial = _try(screen, found, runtime, pictures, expected)
    if screen.as_json:
        screen.result(_value(trial))
    else:
        _draw(screen, trial)
    if trial.broken:
        raise UsageError(
            f"{found.card_path}: {trial.broken[0]}",
            hint="another preparation, or another runtime? an 8-bit model's answers are one runtime's",
            code="expected-answer",
            after_answer=True,
        )


def _try(
    screen: Screen, model: DescribedModel, runtime: str, folder: Path | None, expected: Path | None
) -> Trial:
    broken = _check_expected(model)
    warnings = _graph_warnings(model)
    if folder is None:
        return Trial(model=model, runtime=runtime, warnings=warnings, broken=broken)
    labels = {} if expected is None else _read_labels(expected, model)
    pictures, unread = _read(folder, labels)
    screen.step(f"classifying {len(pictures)} pictures in a decoder process")
    seen = try_model(model, pictures)
    screen.step("classifying them with a bare interpreter")
    bare = try_bare(model, pictures)
    same = sum(
        one.best is not None and shares is not None and shares.index(max(shares)) == one.best
        for one, shares in zip(seen, bare, strict=True)
    )
    difference = greatest_difference(seen, bare)
    if difference > _CLOSE:
        warnings.append(f"a bare interpreter's probabilities differ by up to {difference:.3f}")
    pairs = [pair for pair in zip(pictures, seen, strict=True) if pair[0].label is not None]
    pairs = pairs[:_MAX_VARIANT_PICTURES]
    labelled = [picture for picture, _ in pairs]
    others: Sequence[Variant] = ()
    if labelled:
        others = try_variants(model, labelled, lambda what: screen.step(f"trying {what}"))
        right = count_right(model.card, pairs)
        if others and others[0].right > right:
            warnings.append(
                f"with {others[0].name} {others[0].right} of {len(labelled)} are right, "
                f"as the card is {right}: was it trained that way?"
            )
    return Trial(
        model=model,
        runtime=runtime,
        pictures=pictures,
        unread=unread,
        seen=seen,
        difference=difference,
        same=same,
        variants=others,
        variant_pictures=len(labelled),
        warnings=warnings,
        broken=broken,
    )


def _check_expected(model: DescribedModel) -> list[str]:
    """Return a line for each expected answer of the card that is not the model's."""
    pictures = [_picture(str(model.card_path.parent / one.file), one.label) for one in model.expected]
    codes = [label.code for label in model.card.labels]
    broken = []
    for one, seen in zip(model.expected, try_model(model, pictures) if pictures else [], strict=True):
        if seen.best is None:
            broken.append(f"{one.file}: expected {one.label}, found no answer ({seen.problem})")
            continue
        share = seen.parts[codes.index(one.label)] / PARTS_PER_BILLION
        if codes[seen.best] != one.label or abs(share - one.probability) > one.tolerance:
            broken.append(
                f"{one.file}: expected {one.label} with {one.probability:g} give or take {one.tolerance:g}, "
                f"found {codes[seen.best]}, and {one.label} with {share:.4f}"
            )
    return broken


def _graph_warnings(model: DescribedModel) -> list[str]:
    """Say where the graph ends otherwise than the card says: a softmax taken for logits is not seen."""
    try:
        scores = read_weights_file(load_weights(model)).scores
    except FlatbufferError as exc:
        return [f"the weights' graph cannot be read ({exc})"]
    carded = model.card.output.scores
    ends = {"softmax": {"softmax"}, "sigmoid": {"sigmoid"}}.get(scores, {"logits", "logits-sigmoid"})
    if carded in ends:
        return []
    return [f"the graph ends in {scores}, and the card says {carded}"]


def _read_labels(path: Path, model: DescribedModel) -> dict[str, str]:
    text = read_bounded(path, _MAX_CSV_BYTES, what="list of labels").decode("utf-8-sig", errors="replace")
    codes = {label.code for label in model.card.labels}
    found: dict[str, str] = {}
    for number, row in enumerate(csv.reader(io.StringIO(text)), 1):
        if not row or (number == 1 and row[:2] == ["file", "label"]):
            continue
        if len(row) < 2 or row[1].strip() not in codes:
            raise UsageError(
                f"{path}:{number}: expected file,label with a label's code, found {','.join(row)[:80]!r}",
                hint=f"the card has {', '.join(sorted(codes)[:8])}",
            )
        found[row[0].strip()] = row[1].strip()
    return found


def _read(folder: Path, labels: dict[str, str]) -> tuple[list[TrialPicture], int]:
    """Read the pictures of a folder; return them and how many could not be read."""
    paths = collect([str(folder)], recursive=True).names
    known = {str(folder / name): label for name, label in labels.items()}
    lost = sorted(known.keys() - set(map(str, map(Path, paths))))
    if lost:
        raise UsageError(f"{lost[0]}: --expected names it, and it is no picture of {folder}")
    pictures, unread = [], 0
    for path in paths:
        try:
            pictures.append(_picture(path, known.get(str(Path(path)))))
        except PictureRefused:
            unread += 1
    if not pictures:
        raise UsageError(f"{folder}: expected pictures, found none that can be read")
    return pictures, unread


def _picture(path: str, label: str | None) -> TrialPicture:
    picture = read_picture(path, lambda _: b"")
    return TrialPicture(path=path, media_type=picture.media_type, label=label)


def _value(trial: Trial) -> dict[str, object]:
    labelled = trial.labelled
    return {
        "schema": SCHEMA,
        "id": trial.model.card.model_id,
        "sha256": trial.model.card.sha256,
        "runtime": trial.runtime,
        "pictures": len(trial.pictures),
        "unread": trial.unread,
        "unanswered": sum(one.best is None for one in trial.seen),
        "bare": {"same_label": trial.same, "greatest_difference": trial.difference} if trial.seen else None,
        "accuracy": trial.right / len(labelled) if labelled else None,
        "labelled": len(labelled),
        "confusion_matrix": trial.matrix if labelled else None,
        "variants": [
            {"change": one.name, "accuracy": one.right / trial.variant_pictures} for one in trial.variants
        ],
        "warnings": list(trial.warnings),
        "broken_expectations": list(trial.broken),
    }


def _draw(screen: Screen, trial: Trial) -> None:
    card, labelled = trial.model.card, trial.labelled
    facts = [
        ("model", f"{card.model_id}, in {trial.runtime}"),
        ("input", input_line(card.input)),
        ("output", output_line(card.output)),
    ]
    if expected := len(trial.model.expected):
        facts.append(("expected", f"{expected - len(trial.broken)} of {expected} as the card says"))
    if trial.pictures:
        count, answers = len(trial.pictures), sum(one.best is not None for one in trial.seen)
        facts += [
            ("pictures", f"{count}, of which {answers} have an answer; {trial.unread} could not be read"),
            ("bare interpreter", f"{trial.same} of {count} alike; differs by at most {trial.difference:.4f}"),
        ]
    if labelled:
        facts.append(("accuracy", f"{trial.right} of {len(labelled)} ({trial.right / len(labelled):.1%})"))
    screen.facts(facts)
    if labelled and len(card.labels) <= _MAX_MATRIX:
        codes = [label.code for label in card.labels]
        screen.heading("confusion matrix (rows: right; columns: found)")
        rows = zip(codes, trial.matrix, strict=True)
        screen.table(["", *codes], [[code, *map(str, row)] for code, row in rows])
    if trial.variants:
        screen.heading(f"what another preparation would give ({trial.variant_pictures} pictures)")
        total = trial.variant_pictures
        screen.table(
            ["change", "right", "accuracy"],
            [[one.name, f"{one.right}", f"{one.right / total:.1%}"] for one in trial.variants],
        )
    for warning in trial.warnings:
        screen.note(f"warning: {warning}")
