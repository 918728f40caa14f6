"""Draws synthetic pictures of skin lesions, so that a demonstration needs nobody's skin.

One kind, one seed and one size always give the same pixels under the same numpy and Pillow. Another
size of the same proportions shows the same scene; only the sensor noise differs. The looks follow the
textbook signs of each kind in simplified form (https://dermoscopedia.org). They overlap on purpose: a
calm melanoma and an uneven nevus are hard to tell apart here too. They prove nothing about real skin.

    python -m tools.lesions --kind bcc --seed 7 --output bcc.png
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from tools.scene import BLOOD, DEEP, MELANIN, Plane, Scene, Spot

WIDTH, HEIGHT = 600, 450  # the size of the pictures of HAM10000, which the tutorial's model was trained on


def draw(kind: str, seed: int, *, width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """Draw an RGB picture of one lesion of this kind.

    Raises:
        ValueError: the kind is unknown, the seed is negative or a side is under 16 pixels.
    """
    if kind not in _DRAW:
        raise ValueError(f"kind: expected one of {', '.join(KINDS)}, found {kind!r}")
    if seed < 0 or min(width, height) < 16:
        raise ValueError(f"expected seed >= 0 and sides >= 16 pixels, found {seed} and {width}x{height}")
    scene = Scene(np.random.default_rng([KINDS.index(kind), seed]), width, height)
    _skin(scene)
    _DRAW[kind](scene)
    _hair(scene)
    _light(scene)
    return _photograph(scene)


def _actinic_keratosis(scene: Scene) -> None:
    """Draw a rough red patch without a clear edge, under white and yellow scale."""
    rng = scene.rng
    spot = scene.spot(size=rng.uniform(0.18, 0.36), uneven=rng.uniform(0.12, 0.3))
    body = spot.body(rng.uniform(0.18, 0.4)) * (0.75 + 0.35 * scene.noise(7))
    # The strawberry pattern: red between pale follicles.
    scene.absorb(BLOOD, body * rng.uniform(0.3, 0.75) * (1 + 0.5 * scene.noise(int(rng.integers(22, 34)))))
    scene.absorb(MELANIN, body * rng.uniform(0.0, 0.45) * scene.patches(5, 0.4))
    flakes = scene.patches(int(rng.integers(20, 34)), rng.uniform(0.35, 0.6)) * (0.6 + 0.5 * scene.noise(60))
    scale = flakes * scene.patches(5, rng.uniform(0.3, 0.55))
    scene.cover((0.95, 0.9, rng.uniform(0.72, 0.88)), body * scale * rng.uniform(0.1, 0.9))
    if rng.random() < 0.4:
        scene.absorb(BLOOD, scene.discs(spot, int(rng.integers(4, 16)), (0.01, 0.025), reach=0.7) * 0.9)


def _basal_cell_carcinoma(scene: Scene) -> None:
    """Draw a pearly pink nodule with a rolled edge and vessels that branch like a tree."""
    rng = scene.rng
    spot = scene.spot(size=rng.uniform(0.16, 0.34), uneven=rng.uniform(0.05, 0.18))
    body = spot.body(rng.uniform(0.06, 0.16))
    scene.absorb(BLOOD, body * rng.uniform(0.1, 0.4) * (1 + 0.3 * scene.noise(6)))
    scene.cover((0.97, 0.88, 0.88), body * rng.uniform(0.1, 0.35) * (0.6 + 0.4 * scene.noise(8)))
    _rolled_edge(scene, spot, rng.uniform(0.02, 0.16))
    scene.absorb(BLOOD, _tree(scene, spot) * rng.uniform(0.15, 1.1))
    if rng.random() < 0.45:  # an ulcer in the middle
        crater = spot.smaller(rng.uniform(0.25, 0.5)).body(0.25) * (0.8 + 0.4 * scene.noise(12))
        scene.absorb(BLOOD, crater * rng.uniform(0.5, 1.2))
        scene.absorb(MELANIN, crater * rng.uniform(0.1, 0.5))
    if rng.random() < 0.45:  # blue-gray ovoid nests
        nests = scene.discs(spot, int(rng.integers(2, 9)), (0.02, 0.05), reach=0.85)
        scene.absorb(DEEP, nests * body * rng.uniform(0.4, 0.9))


def _benign_keratosis(scene: Scene) -> None:
    """Draw a waxy plaque that looks stuck on: sharp edge, pale cysts, dark openings, fissures."""
    rng = scene.rng
    spot = scene.spot(size=rng.uniform(0.2, 0.38), uneven=rng.uniform(0.06, 0.2))
    body = spot.body(rng.uniform(0.015, 0.12))
    density = rng.uniform(0.3, 0.9) * (1 + rng.uniform(0.1, 0.3) * scene.noise(5))
    fissures = scene.ridges(int(rng.integers(7, 12))) * rng.uniform(0.0, 0.7)
    scene.absorb(MELANIN, body * (density + fissures * 0.8))
    scene.cover((0.86, 0.72, 0.5), body * rng.uniform(0.04, 0.35))
    if rng.random() < 0.7:
        cysts = scene.discs(spot, int(rng.integers(4, 26)), (0.006, 0.016), reach=0.85)
        scene.cover((0.98, 0.94, 0.8), cysts * rng.uniform(0.4, 0.85))
    if rng.random() < 0.6:
        openings = scene.discs(spot, int(rng.integers(3, 16)), (0.008, 0.02), reach=0.85)
        scene.absorb(MELANIN, openings * rng.uniform(0.5, 1.2))
    scene.shine(body, spot, rng.uniform(0.02, 0.1))


def _dermatofibroma(scene: Scene) -> None:
    """Draw a pale scar in the middle of a faint brown ring that fades into the skin."""
    rng = scene.rng
    spot = scene.spot(size=rng.uniform(0.15, 0.3), uneven=rng.uniform(0.04, 0.14))
    body = spot.body(rng.uniform(0.15, 0.35))
    scar = spot.smaller(rng.uniform(0.35, 0.6)).body(rng.uniform(0.7, 1.4)) * (0.85 + 0.3 * scene.noise(9))
    ring = body * (1 - rng.uniform(0.2, 0.8) * scar)
    network = 1 + rng.uniform(0.0, 0.6) * scene.network(rng.uniform(0.018, 0.03))
    scene.absorb(MELANIN, ring * network * rng.uniform(0.25, 0.65) * (1 + 0.25 * scene.noise(6)))
    scene.absorb(BLOOD, body * rng.uniform(0.05, 0.35))
    white = scar * (0.8 + 0.4 * scene.ridges(10))
    scene.cover((0.95, 0.86, 0.8), white * rng.uniform(0.05, 0.55))


def _melanoma(scene: Scene) -> None:
    """Uneven in outline, in tone and from side to side: brown to black, blue-gray veil, pale regression."""
    rng = scene.rng
    spot = scene.spot(size=rng.uniform(0.2, 0.42), uneven=rng.uniform(0.07, 0.36))
    body = spot.body(rng.uniform(0.04, 0.14))
    tilt = 1 + rng.uniform(0.05, 0.6) * spot.side(rng.uniform(0, 2 * math.pi))
    tones = 1 + rng.uniform(0.1, 0.6) * scene.noise(int(rng.integers(4, 8)))
    scene.absorb(MELANIN, body * np.clip(rng.uniform(0.5, 1.2) * tilt * tones, 0.1, None))
    network = scene.network(rng.uniform(0.02, 0.035)) * scene.patches(4, 0.4)
    scene.absorb(MELANIN, body * network * rng.uniform(0.0, 0.5))
    if rng.random() < 0.5:
        scene.absorb(DEEP, body * scene.patches(4, rng.uniform(0.2, 0.45)) * rng.uniform(0.3, 0.9))
    if rng.random() < 0.4:
        scene.cover((0.9, 0.82, 0.82), body * scene.patches(5, 0.3) * rng.uniform(0.2, 0.55))
    if rng.random() < 0.4:
        scene.absorb(BLOOD, body * scene.patches(4, 0.3) * rng.uniform(0.2, 0.6))
    if rng.random() < 0.6:  # dots and globules towards the border
        globules = scene.discs(spot, int(rng.integers(6, 36)), (0.006, 0.018), reach=1.08)
        scene.absorb(MELANIN, globules * rng.uniform(0.4, 1.0))


def _nevus(scene: Scene) -> None:
    """Round, of one even brown, often with a regular network; a few are less regular."""
    rng = scene.rng
    spot = scene.spot(size=rng.uniform(0.14, 0.36), uneven=rng.uniform(0.02, 0.2))
    body = spot.body(rng.uniform(0.05, 0.22))
    tones = 1 + rng.uniform(0.03, 0.3) * scene.noise(6)
    middle = 1 + rng.uniform(-0.1, 0.5) * (1 - np.clip(spot.radius, 0, 1))
    network = 1 + float(rng.choice([0.0, 0.25, 0.5])) * scene.network(rng.uniform(0.02, 0.032))
    tilt = 1 + rng.uniform(0.0, 0.3) * spot.side(rng.uniform(0, 2 * math.pi))
    scene.absorb(MELANIN, body * rng.uniform(0.4, 1.1) * tones * middle * network * tilt)
    scene.absorb(BLOOD, body * rng.uniform(0.0, 0.2))
    if rng.random() < 0.25:
        globules = scene.discs(spot, int(rng.integers(5, 25)), (0.006, 0.014), reach=0.95)
        scene.absorb(MELANIN, globules * rng.uniform(0.2, 0.6))


def _vascular_lesion(scene: Scene) -> None:
    """Red to purple lakes of blood, round and packed, with paler walls between them."""
    rng = scene.rng
    spot = scene.spot(size=rng.uniform(0.13, 0.3), uneven=rng.uniform(0.06, 0.2))
    body = spot.body(rng.uniform(0.04, 0.12))
    scene.absorb(BLOOD, body * rng.uniform(0.35, 0.9) * (1 + 0.25 * scene.noise(6)))
    lakes = scene.discs(spot, int(rng.integers(10, 40)), (0.02, 0.055), reach=0.85) * body
    scene.absorb(BLOOD, lakes * rng.uniform(0.4, 1.1))
    scene.absorb(DEEP, lakes * rng.uniform(0.0, 0.9) * scene.patches(5, 0.5))
    if rng.random() < 0.3:  # a clot
        scene.absorb(DEEP, body * scene.patches(3, 0.25) * rng.uniform(0.6, 1.4))
    scene.shine(body, spot, rng.uniform(0.0, 0.06))


_DRAW: dict[str, Callable[[Scene], None]] = {
    "akiec": _actinic_keratosis,
    "bcc": _basal_cell_carcinoma,
    "bkl": _benign_keratosis,
    "df": _dermatofibroma,
    "mel": _melanoma,
    "nv": _nevus,
    "vasc": _vascular_lesion,
}
KINDS = tuple(_DRAW)  # in the order of the model's outputs


def _rolled_edge(scene: Scene, spot: Spot, height: float) -> None:
    rim = np.exp(-(((spot.radius - 0.88) / 0.13) ** 2))
    scene.lighten(rim * height * (0.5 + spot.side(scene.rng.uniform(0, 2 * math.pi))))


def _tree(scene: Scene, spot: Spot) -> Plane:
    """Vessels that start near the border, grow inwards, get thinner and fork."""
    rng = scene.rng
    paths: list[tuple[Plane, float]] = []
    for start in rng.uniform(0, 2 * math.pi, rng.integers(2, 6)):
        origin = spot.at(start, rng.uniform(0.7, 1.0))
        growing = [(origin, start + math.pi + rng.normal(0, 0.4), rng.uniform(0.006, 0.012))]
        while growing and len(paths) < 60:
            point, heading, thickness = growing.pop()
            length = spot.size * rng.uniform(0.35, 0.8)
            path = _wander(rng, point, heading, length)
            paths.append((path, thickness))
            if thickness > 0.003:
                growing += [
                    (path[-1], heading + turn, thickness * 0.62) for turn in rng.normal((-0.6, 0.6), 0.25)
                ]
    return scene.strokes(paths) * spot.body(0.08)


def _wander(rng: np.random.Generator, start: Plane, heading: float, length: float) -> Plane:
    """Make a winding path of 12 points."""
    headings = heading + rng.normal(0, 0.09) * np.arange(11) + np.cumsum(rng.normal(0, 0.1, 11))
    steps = np.stack([np.cos(headings), np.sin(headings)], axis=1) * (length / 11)
    return np.vstack([start, start + np.cumsum(steps, axis=0)])


def _skin(scene: Scene) -> None:
    rng = scene.rng
    # Two pigments over white make every tone from pale to brown, and keep them on one plausible curve.
    scene.absorb(MELANIN, (0.1 + 0.85 * rng.beta(1.0, 3.0)) * (1 + 0.06 * scene.noise(4)))
    scene.absorb(BLOOD, rng.uniform(0.06, 0.24) * (1 + 0.3 * scene.noise(6)))
    scene.absorb(MELANIN, rng.uniform(0.01, 0.05) * scene.ridges(int(rng.integers(24, 40))))
    scene.lighten(rng.uniform(0.005, 0.02) * scene.noise(70))


def _hair(scene: Scene) -> None:
    rng = scene.rng
    count = int(rng.integers(3, 22)) if rng.random() < 0.45 else 0
    lie = rng.uniform(0, 2 * math.pi)
    starts = rng.uniform((-0.75, -0.6), (0.75, 0.6), (count, 2))
    paths = [
        (_wander(rng, start, lie + rng.normal(0, 0.5), rng.uniform(0.25, 0.9)), rng.uniform(0.003, 0.007))
        for start in starts
    ]
    shade = rng.uniform(0.08, 0.35)
    scene.cover((shade, shade * 0.85, shade * 0.75), scene.strokes(paths) * rng.uniform(0.5, 0.95))


def _light(scene: Scene) -> None:
    """Light from one side, darker corners, and at times the round edge of a dermatoscope."""
    rng = scene.rng
    angle = rng.uniform(0, 2 * math.pi)
    slope = scene.x * math.cos(angle) + scene.y * math.sin(angle)
    distance = np.hypot(scene.x, scene.y)
    scene.picture *= (1 + rng.uniform(0, 0.22) * slope - rng.uniform(0, 0.35) * distance**2)[..., None]
    if rng.random() < 0.15:
        scene.cover((0.03, 0.03, 0.03), 1 / (1 + np.exp(-(distance - rng.uniform(0.68, 0.78)) * 90)))


def _photograph(scene: Scene) -> Image.Image:
    """Photograph the scene: exposure, color balance, focus, noise, 8 bits."""
    rng = scene.rng
    balance = rng.uniform(0.88, 1.1) * rng.uniform(0.95, 1.05, 3)
    blur = rng.uniform(0.0, 0.0035) * min(scene.size)
    grain = rng.uniform(0.003, 0.018)
    pixels = np.clip(scene.picture * balance, 0, 1) * 255
    image = Image.fromarray(pixels.astype(np.uint8)).filter(ImageFilter.GaussianBlur(blur))
    noisy = np.asarray(image, np.float32) + grain * 255 * rng.standard_normal(pixels.shape, np.float32)
    return Image.fromarray(np.clip(np.rint(noisy), 0, 255).astype(np.uint8))


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw one synthetic picture of a skin lesion.")
    parser.add_argument("--kind", choices=KINDS, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--width", type=int, default=WIDTH)
    parser.add_argument("--height", type=int, default=HEIGHT)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    draw(options.kind, options.seed, width=options.width, height=options.height).save(options.output)


if __name__ == "__main__":
    main()
