"""A model tried on pictures: in the enclave's own decoder processes, in a bare interpreter, and otherwise.

Wrong preprocessing is silent: the answers look like answers. So the same pictures are also classified with
every other fit and filter, one change at a time.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from enclave_payload.card import PARTS_PER_BILLION, Filter, Fit, ModelCard
from enclave_payload.media import MediaType
from enclavectl.errors import EnclaveError, HostError
from enclavectl.models.weights import Model
from enclavectl.run import Command, capture

# A busy machine takes a tenth of a second for a picture, and classifies each some ten times.
_TIMEOUT_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialPicture:
    """A picture's file, and the code of its label, if that is known."""

    path: str
    media_type: MediaType
    label: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the model said of a picture: parts per billion in label order, or the problem."""

    parts: tuple[int, ...] = ()
    problem: str | None = None

    @property
    def best(self) -> int | None:
        """The index of the most probable label."""
        return max(range(len(self.parts)), key=self.parts.__getitem__) if self.parts else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """Another preparation of pictures: its name, its card, and how many were right with it."""

    name: str
    card: ModelCard
    right: int = 0


def try_model(model: Model, pictures: Sequence[TrialPicture], *, card: ModelCard | None = None) -> list[Seen]:
    """Classify the pictures in a decoder process, as the enclave does; with another ``card`` if one is given.

    Raises:
        EnclaveError: the model cannot be loaded there, or no process can be started.
    """
    with _folder(model, card or model.card) as folder:
        names = folder / "pictures.json"
        names.write_text(json.dumps([[_absolute(one), one.media_type] for one in pictures]))
        argv = [sys.executable, "-EPB", "-m", "enclavectl.models.decoding", str(folder), str(names), "1"]
        done = capture(Command(argv=argv, cwd=folder), timeout_s=_TIMEOUT_S)
    seen = [_seen(json.loads(line), model) for line in done.out.decode(errors="replace").splitlines()]
    if done.status != 0 or len(seen) != len(pictures):
        last = done.err.decode(errors="replace").strip().splitlines()[-1:] or [f"status {done.status}"]
        raise EnclaveError(f"{model.card_path}: the decoder process failed ({last[0]:.200})")
    return seen


def _seen(value: dict[str, Any], model: Model) -> Seen:
    if "error" in value:
        raise EnclaveError(f"{model.card_path}: {value['error']}", code="model-broken")
    return Seen(parts=tuple(value["parts"]), problem=value["problem"])


def _absolute(picture: TrialPicture) -> str:
    return str(Path(picture.path).absolute())


def try_bare(model: Model, pictures: Sequence[TrialPicture]) -> list[list[float] | None]:
    """Classify the pictures with a bare interpreter, in a process of its own; None for what it cannot read.

    Raises:
        HostError: that process failed.
    """
    with _folder(model, model.card) as folder:
        names = folder / "pictures.json"
        names.write_text(json.dumps([_absolute(one) for one in pictures]))
        argv = [sys.executable, "-EPB", "-m", "enclavectl.models.bare", str(folder)]
        argv += [str(model.weights_path.absolute()), str(names), "1"]
        done = capture(Command(argv=argv, cwd=folder), timeout_s=_TIMEOUT_S)
    lines = done.out.decode(errors="replace").splitlines()
    if done.status != 0 or len(lines) != len(pictures):
        last = done.err.decode(errors="replace").strip().splitlines()[-1:] or [f"status {done.status}"]
        raise HostError(f"{sys.executable}: the bare interpreter failed ({last[0]:.200})")
    return [json.loads(line) for line in lines]


def variants(card: ModelCard) -> Iterator[Variant]:
    """Yield each other fit and each other filter, one change at a time."""
    form = card.input
    for fit, crop, pad in ((Fit.STRETCH, None, None), (Fit.CROP, "1", None), (Fit.CROP, "0.875", None)):
        if (form.fit, form.crop) != (fit, crop):
            name = f"fit: {fit}" + (f", crop: {crop}" if crop else "")
            yield Variant(name=name, card=replace(card, input=replace(form, fit=fit, crop=crop, pad=pad)))
    if form.fit is not Fit.PAD:
        yield Variant(
            name="fit: pad, pad: 0", card=replace(card, input=replace(form, fit=Fit.PAD, crop=None, pad=0))
        )
    for each in Filter:
        if each is not form.filter:
            yield Variant(name=f"filter: {each}", card=replace(card, input=replace(form, filter=each)))


def try_variants(
    model: Model, pictures: Sequence[TrialPicture], progress: Callable[[str], None]
) -> list[Variant]:
    """Classify the labelled pictures with every other fit and filter; the best ones first.

    Raises:
        EnclaveError: as ``try_model``.
    """
    labelled = [one for one in pictures if one.label is not None]
    found = []
    for one in variants(model.card):
        progress(one.name)
        seen = try_model(model, labelled, card=one.card)
        found.append(replace(one, right=count_right(model.card, zip(labelled, seen, strict=True))))
    return sorted(found, key=lambda one: -one.right)


def count_right(card: ModelCard, pairs: Iterable[tuple[TrialPicture, Seen]]) -> int:
    """Return for how many pictures the most probable label is the right one."""
    codes = [label.code for label in card.labels]
    return sum(one.best is not None and codes[one.best] == picture.label for picture, one in pairs)


def greatest_difference(seen: Sequence[Seen], bare: Sequence[Sequence[float] | None]) -> float:
    """Return the greatest difference of a probability between the payload and the bare interpreter."""
    return max(
        (
            abs(parts / PARTS_PER_BILLION - min(max(share, 0.0), 1.0))
            for one, shares in zip(seen, bare, strict=True)
            if one.parts and shares is not None
            for parts, share in zip(one.parts, shares, strict=True)
        ),
        default=0.0,
    )


@contextmanager
def _folder(model: Model, card: ModelCard) -> Iterator[Path]:
    """Yield a folder with the model as it lies in an image."""
    with tempfile.TemporaryDirectory(prefix="enclavectl-") as name:
        folder = Path(name)
        (folder / "model.json").write_bytes(card.to_json())
        (folder / "model.tflite").symlink_to(model.weights_path.absolute())
        yield folder
