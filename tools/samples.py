"""Draws samples/: of every kind one held-out picture that the model gets right, and one stored on its side.

    python -m tools.samples

Each file says in its own metadata how it was drawn.
"""

from __future__ import annotations

import argparse
import io
import itertools
from dataclasses import dataclass
from pathlib import Path

from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from tools.evaluate import HELD_OUT, MODEL, Predict, classify, open_interpreter, predictor
from tools.lesions import HEIGHT, KINDS, WIDTH, draw

FIRST_SEED = HELD_OUT + 100_003  # neither trained on nor counted in the card's evaluation; it looks good
PROBABILITY = (0.7, 0.99)  # sure enough for a demonstration, and not so sure that the bars show nothing
MAX_BYTES = 480_000
_TURN_RIGHT_TO_VIEW = 6  # Exif 2.3, https://www.cipa.jp/std/documents/e/DC-008-2012_E.pdf, Orientation


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One encoded picture and where it comes from."""

    name: str
    seed: int
    probability: float
    data: bytes


def describe(kind: str, seed: int, width: int, height: int) -> str:
    """Return the line for a sample's metadata: the command that draws it again."""
    return f"python -m tools.lesions --kind {kind} --seed {seed} --width {width} --height {height}"


def encode_png(kind: str, seed: int) -> bytes:
    """Draw the picture and encode it as PNG."""
    about = PngInfo()
    about.add_text("Description", describe(kind, seed, WIDTH, HEIGHT))
    out = io.BytesIO()
    draw(kind, seed).save(out, "PNG", optimize=True, pnginfo=about)
    return out.getvalue()


def encode_turned_jpeg(kind: str, seed: int) -> bytes:
    """Encode a portrait picture as a phone does: the pixels on their side, and an orientation tag."""
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = describe(kind, seed, HEIGHT, WIDTH)
    exif[ExifTags.Base.Orientation] = _TURN_RIGHT_TO_VIEW
    stored = draw(kind, seed, width=HEIGHT, height=WIDTH).transpose(Image.Transpose.ROTATE_90)
    out = io.BytesIO()
    stored.save(out, "JPEG", quality=88, exif=exif)
    return out.getvalue()


def find(predict: Predict, kind: str, name: str, first_seed: int = FIRST_SEED) -> Sample:
    """Find the first seed whose picture the model gets right with a probability in PROBABILITY."""
    encode = encode_png if name.endswith(".png") else encode_turned_jpeg
    for seed in itertools.count(first_seed):
        data = encode(kind, seed)
        with Image.open(io.BytesIO(data)) as image:
            probability = classify(predict, image)[kind]
        if PROBABILITY[0] <= probability <= PROBABILITY[1] and len(data) <= MAX_BYTES:
            return Sample(name=name, seed=seed, probability=probability, data=data)
    raise AssertionError("itertools.count does not end")


def readme(samples: list[Sample]) -> str:
    """Write the README beside the samples."""
    rows = "\n".join(
        f"| {sample.name} | {sample.seed} | {sample.probability:.2f} | {len(sample.data) // 1000} kB |"
        for sample in samples
    )
    (low, high), limit = PROBABILITY, f"{MAX_BYTES // 1000} kB"
    return f"""# Sample pictures

Nobody's skin: `tools/lesions.py` drew all of these from a seed. They show the demonstration model's seven
kinds as caricatures. Do not learn from them what a disease looks like, and do not judge a model by them.

| file | seed | probability of its kind | size |
|---|---|---|---|
{rows}

`python -m tools.samples` chose them: for each kind, the first seed from {FIRST_SEED} on (for the rotated one,
from the next) that the model names correctly with a probability from {low} to {high} and whose file is
at most {limit}. They are chosen to work, so they say nothing about accuracy; the model's card does. The model
was neither trained nor evaluated on these seeds. Each file names in its metadata the command that draws it
again (PNG text `Description`, EXIF `ImageDescription`).

`bcc-rotated.jpg` is a portrait picture stored on its side with EXIF orientation 6, as phones do. A reader
that ignores the tag sees it lying.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the sample pictures anew.")
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / "samples")
    output: Path = parser.parse_args().output
    predict = predictor(open_interpreter(MODEL))
    samples = [find(predict, kind, f"{kind}.png") for kind in KINDS]
    samples.append(find(predict, "bcc", "bcc-rotated.jpg", FIRST_SEED + 1))
    output.mkdir(parents=True, exist_ok=True)
    for sample in samples:
        (output / sample.name).write_bytes(sample.data)
        print(f"{sample.name}: seed {sample.seed}, {sample.probability:.3f}, {len(sample.data)} bytes")
    (output / "README.md").write_text(readme(samples))


if __name__ == "__main__":
    main()
