"""The brushes that tools/lesions.py paints with: pigments, noise, discs, strokes.

Lengths are in units of the picture's shorter side, with the origin in the middle of the picture.
Pigments take light away as in Beer and Lambert's law, so layers mix the way they do in skin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

Plane = npt.NDArray[np.floating]
Color = tuple[float, float, float]

# How strongly each pigment takes away red, green and blue.
MELANIN: Color = (0.6, 1.05, 1.35)
BLOOD: Color = (0.16, 1.0, 0.8)
DEEP: Color = (1.15, 0.95, 0.7)  # melanin or blood deep in the skin looks blue-gray


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """Where the lesion lies.

    ``radius`` and ``angle`` are polar coordinates around its middle; the radius is 1 on its border,
    however uneven that is. ``size`` is the mean distance of the border from the middle.
    """

    middle: tuple[float, float]
    size: float
    radius: Plane
    angle: Plane

    def body(self, softness: float) -> Plane:
        """1 inside, 0 outside, with a border of about this width."""
        return 1 / (1 + np.exp(np.clip((self.radius - 1) * (4 / softness), -30, 30)))

    def side(self, direction: float) -> Plane:
        """From -1 on one side of the lesion to 1 on the other."""
        return np.clip(self.radius, 0, 1) * np.cos(self.angle - direction)

    def smaller(self, factor: float) -> Spot:
        """Shrink the outline around its middle."""
        return Spot(
            middle=self.middle, size=self.size * factor, radius=self.radius / factor, angle=self.angle
        )

    def at(self, angle: float, radius: float) -> Plane:
        """Return the point (x, y) in this direction, for a round lesion."""
        offset = np.array([math.cos(angle), math.sin(angle)]) * (radius * self.size)
        return np.array(self.middle) + offset


class Scene:
    """A picture in the making: red, green and blue from 0 to 1, white at first."""

    def __init__(self, rng: np.random.Generator, width: int, height: int) -> None:
        self.rng = rng
        self.size = (width, height)
        self._unit = min(width, height)
        across = (np.arange(width, dtype=np.float32) - (width - 1) / 2) / self._unit
        down = (np.arange(height, dtype=np.float32) - (height - 1) / 2) / self._unit
        self.x, self.y = np.meshgrid(across, down)
        self.picture: Plane = np.ones((height, width, 3), np.float32)

    def absorb(self, pigment: Color, density: Plane) -> None:
        """Lay a pigment over the picture."""
        for channel, strength in enumerate(pigment):
            self.picture[..., channel] *= np.exp(density * -strength)

    def cover(self, color: Color, opacity: Plane) -> None:
        """Paint over the picture; opacity is cut to 0..1."""
        opacity = np.clip(opacity, 0, 1)[..., None]
        self.picture += opacity * (np.array(color, np.float32) - self.picture)

    def lighten(self, amount: Plane) -> None:
        """Add white light, or take it away where the amount is negative."""
        self.picture += amount[..., None]

    def shine(self, body: Plane, spot: Spot, strength: float) -> None:
        """Shade a raised surface: one side of the body catches the light."""
        self.lighten(body * spot.side(self.rng.uniform(0, 2 * math.pi)) * strength)

    def noise(self, cells: int) -> Plane:
        """Smooth random hills from about -1 to 1; so many fit along the shorter side."""
        width, height = self.size
        shape = (-(-cells * height // self._unit) + 1, -(-cells * width // self._unit) + 1)
        lattice = Image.fromarray(self.rng.uniform(-1, 1, shape).astype(np.float32))
        return np.asarray(lattice.resize(self.size, Image.Resampling.BICUBIC))

    def patches(self, cells: int, share: float) -> Plane:
        """Soft islands, 0 or 1, that take about this share of the area."""
        hills = self.noise(cells) + 0.45 * self.noise(2 * cells + 1)
        level = float(np.quantile(hills[::4, ::4], 1 - share))
        return 1 / (1 + np.exp(np.clip((level - hills) * 12, -30, 30)))

    def ridges(self, cells: int) -> Plane:
        """Thin winding lines, 1 on the line and 0 elsewhere."""
        return np.exp(-((self.noise(cells) / 0.12) ** 2))

    def network(self, pitch: float) -> Plane:
        """Make a slightly bent honeycomb with meshes of this width: 1 on the lines, about -0.3 between."""
        bend = 1.6 * pitch
        x, y = self.x + bend * self.noise(7), self.y + bend * self.noise(7)
        turn = self.rng.uniform(0, math.pi)
        wave = np.zeros_like(x)
        for angle in (turn, turn + math.pi / 3, turn + 2 * math.pi / 3):
            wave += np.cos((x * math.cos(angle) + y * math.sin(angle)) * (2 * math.pi / pitch))
        # Uneven strength: in skin the meshes are plain in one place and lost in the next.
        return np.clip(0.4 - wave, -0.3, 1) * np.clip(0.6 + 0.7 * self.noise(5), 0, 1)

    def spot(self, *, size: float, uneven: float) -> Spot:
        """Choose a place for the lesion near the middle, with an outline this far from an ellipse."""
        rng = self.rng
        middle = (float(rng.normal(0, 0.06)), float(rng.normal(0, 0.05)))
        stretch, turn = rng.uniform(1.0, 1.35), rng.uniform(0, math.pi)
        dx, dy = self.x - middle[0], self.y - middle[1]
        along = (dx * math.cos(turn) + dy * math.sin(turn)) / stretch**0.5
        over = (dy * math.cos(turn) - dx * math.sin(turn)) * stretch**0.5
        angle = np.arctan2(dy, dx)
        outline = np.ones_like(angle)
        for wave in range(2, 8):
            outline += rng.normal(0, uneven / wave) * np.cos(wave * angle + rng.uniform(0, 7))
        radius = np.hypot(along, over) / (size * np.clip(outline, 0.4, 2))
        return Spot(middle=middle, size=size, radius=radius + 0.35 * uneven * self.noise(12), angle=angle)

    def discs(self, spot: Spot, count: int, sizes: tuple[float, float], *, reach: float) -> Plane:
        """So many soft discs with radii in this range, spread over the lesion as far as ``reach``."""
        angles, sizes_ = self.rng.uniform(0, 2 * math.pi, count), self.rng.uniform(*sizes, count)
        distances = np.sqrt(self.rng.uniform(0, 1, count)) * reach
        image = Image.new("L", self.size)
        pen = ImageDraw.Draw(image)
        for angle, distance, size in zip(angles, distances, sizes_, strict=True):
            x, y = self._pixel(spot.at(angle, distance))
            pen.ellipse(
                [x - size * self._unit, y - size * self._unit, x + size * self._unit, y + size * self._unit],
                255,
            )
        blurred = image.filter(ImageFilter.GaussianBlur(sizes[0] * 0.35 * self._unit))
        return np.asarray(blurred, np.float32) / 255

    def strokes(self, paths: Sequence[tuple[Plane, float]]) -> Plane:
        """Lines along these points, each with its own width; 1 on a line and 0 elsewhere."""
        # Drawn at twice the size and averaged, because Pillow's lines have whole widths and hard edges.
        width, height = self.size
        image = Image.new("L", (2 * width, 2 * height))
        pen = ImageDraw.Draw(image)
        for points, thickness in paths:
            corners = [(2 * x, 2 * y) for x, y in map(self._pixel, points)]
            pen.line(corners, 255, max(1, round(2 * thickness * self._unit)), joint="curve")
        return np.asarray(image.reduce(2), np.float32) / 255

    def _pixel(self, point: Plane) -> tuple[float, float]:
        x, y = point * self._unit + (np.array(self.size) - 1) / 2
        return float(x), float(y)
