"""The generator draws the same picture for the same request, and another for any other."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tools.lesions import HEIGHT, KINDS, WIDTH, draw

SAMPLES = sorted((Path(__file__).parents[2] / "samples").glob("*.png"))


def small(kind: str, seed: int) -> bytes:
    return draw(kind, seed, width=80, height=60).tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_same_request_same_bytes(kind: str) -> None:
    assert small(kind, 7) == small(kind, 7)


def test_pictures_differ_between_kinds_and_seeds() -> None:
    pictures = [small(kind, seed) for kind, seed in itertools.product(KINDS, range(4))]
    assert len(set(pictures)) == len(pictures)


@pytest.mark.parametrize(("width", "height"), [(WIDTH, HEIGHT), (450, 600), (224, 224), (16, 16), (640, 17)])
def test_every_kind_can_be_drawn_at_any_size(width: int, height: int) -> None:
    for kind in KINDS:
        picture = draw(kind, 3, width=width, height=height)
        assert (picture.mode, picture.size) == ("RGB", (width, height))


@pytest.mark.parametrize("kind", KINDS)
def test_lesion_is_visible(kind: str) -> None:
    # Without hair, light and noise in play one picture may hide its lesion; the mean of some does not.
    mean = np.mean([np.asarray(draw(kind, seed, width=120, height=90), float) for seed in range(24)], axis=0)
    middle, edge = (
        mean[35:55, 50:70].mean(axis=(0, 1)),
        mean[20:70, [8, 9, 10, -11, -10, -9]].mean(axis=(0, 1)),
    )
    assert np.abs(middle - edge).max() > 12


@pytest.mark.parametrize("kind", KINDS)
def test_another_size_shows_the_same_scene(kind: str) -> None:
    box = Image.Resampling.BOX
    large = np.asarray(draw(kind, 5, width=400, height=300).resize((40, 30), box), float)
    little = np.asarray(draw(kind, 5, width=200, height=150).resize((40, 30), box), float)
    other = np.asarray(draw(kind, 6, width=200, height=150).resize((40, 30), box), float)
    assert np.abs(large - little).mean() < 4 < np.abs(large - other).mean()


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_samples_are_what_their_metadata_says(path: Path) -> None:
    with Image.open(path) as image:
        words = image.info["Description"].split()
        stored = np.asarray(image, float)
    again = draw(words[words.index("--kind") + 1], int(words[words.index("--seed") + 1]))
    # Another numpy or processor may round a few pixels differently.
    assert np.abs(stored - np.asarray(again, float)).mean() < 0.5


@pytest.mark.parametrize(
    ("kind", "seed", "width", "height", "found"),
    [
        ("cat", 0, 80, 60, "'cat'"),
        ("nv", -1, 80, 60, "found -1"),
        ("nv", 0, 80, 15, "80x15"),
        ("nv", 0, 15, 60, "15x60"),
    ],
)
def test_refuses_what_it_cannot_draw(kind: str, seed: int, width: int, height: int, found: str) -> None:
    with pytest.raises(ValueError, match=found):
        draw(kind, seed, width=width, height=height)
