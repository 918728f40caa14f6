"""How a picture is brought to the size of a model's input: stretched, cropped or padded, and resampled."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

from PIL import Image

from enclave_payload.card import Filter, Fit, ModelInput

Size = tuple[int, int]
Box = tuple[float, float, float, float]

# Pillow's, which look at every pixel when they shrink a picture (nearest does not).
_PILLOW = {
    Filter.BILINEAR: Image.Resampling.BILINEAR,
    Filter.BICUBIC: Image.Resampling.BICUBIC,
    Filter.LANCZOS: Image.Resampling.LANCZOS,
    Filter.BOX: Image.Resampling.BOX,
    Filter.NEAREST: Image.Resampling.NEAREST,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """What becomes of one picture: ``box`` of it is scaled to ``size``, and stands centered in ``frame``.

    All sides are those of the upright picture. ``frame`` is None where nothing stands around it.
    """

    box: Box
    size: Size
    filter: Filter = Filter.BILINEAR
    frame: Size | None = None
    gray: int = 0

    @property
    def enlargement(self) -> float:
        """How many times the more enlarged side grows."""
        left, top, right, bottom = self.box
        return max(self.size[0] / (right - left), self.size[1] / (bottom - top))

    def turned(self) -> Placement:
        """Return the placement of the same picture lying on its side: boxes are centered."""
        left, top, right, bottom = self.box
        return replace(self, box=(top, left, bottom, right), size=(self.size[1], self.size[0]))

    def scale(self, image: Image.Image) -> Image.Image:
        """Resample the box of the picture; an alpha channel weighs the colors."""
        left, top, right, bottom = self.box
        if self.filter is not Filter.SAMPLED:
            return image.resize(self.size, _PILLOW[self.filter], box=self.box)
        across, down = (right - left) / self.size[0], (bottom - top) / self.size[1]
        matrix = (across, 0, left, 0, down, top)
        return image.transform(self.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)

    def pad(self, image: Image.Image) -> Image.Image:
        """Put the scaled, upright picture into the middle of its frame."""
        if self.frame is None:
            return image
        framed = Image.new("RGB", self.frame, (self.gray, self.gray, self.gray))
        framed.paste(image, ((self.frame[0] - image.width) // 2, (self.frame[1] - image.height) // 2))
        return framed


def place(form: ModelInput, source: Size) -> Placement:
    """Compute where an upright picture of size ``source`` goes."""
    target = form.width, form.height
    match form.fit:
        case Fit.CROP:
            return Placement(box=_crop(form, source), size=target, filter=form.filter)
        case Fit.PAD:
            size = _contained(source, target)
            return Placement(
                box=(0, 0, *source), size=size, filter=form.filter, frame=target, gray=form.pad or 0
            )
        case _:
            return Placement(box=(0, 0, *source), size=target, filter=form.filter)


def _crop(form: ModelInput, source: Size) -> Box:
    """Return the largest centered box of the input's proportions, times ``crop``."""
    width, height = source
    part = Fraction(form.crop or "1")
    if width * form.height >= height * form.width:
        box = Fraction(height * form.width, form.height) * part, height * part
    else:
        box = width * part, Fraction(width * form.height, form.width) * part
    left, top = (width - box[0]) / 2, (height - box[1]) / 2
    return float(left), float(top), float(left + box[0]), float(top + box[1])


def _contained(source: Size, target: Size) -> Size:
    """Return the largest size of the picture's proportions within ``target``, rounded half up."""
    (width, height), (most_wide, most_high) = source, target
    if most_wide * height <= most_high * width:
        return most_wide, max(1, (2 * height * most_wide + width) // (2 * width))
    return max(1, (2 * width * most_high + height) // (2 * height)), most_high
