"""How the usual tools prepare pictures: what their exports do not say of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from enclavectl.protocol.card import Filter, Fit

Channels = tuple[str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """``mean`` and ``std`` are None where the tool leaves scaling to its user."""

    fit: Fit
    filter: Filter
    crop: str | None = None
    mean: Channels | None = None
    std: Channels | None = None


_HALF: Channels = ("127.5", "127.5", "127.5")

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        # https://github.com/googlecreativelab/teachablemachine-community: crop to a square, ANTIALIAS.
        "teachable-machine": Preset(fit=Fit.CROP, crop="1", filter=Filter.LANCZOS, mean=_HALF, std=_HALF),
        # image_dataset_from_directory and load_img with interpolation="bilinear": tf.image.resize.
        "keras": Preset(fit=Fit.STRETCH, filter=Filter.SAMPLED),
        # ImageDataGenerator's flow_from_directory, whose default is nearest.
        "keras-generator": Preset(fit=Fit.STRETCH, filter=Filter.NEAREST),
        # Resize(256) and CenterCrop(224) of the ImageNet weights, but for rounding of one pixel.
        "torchvision": Preset(
            fit=Fit.CROP,
            crop="0.875",
            filter=Filter.BILINEAR,
            mean=("123.675", "116.28", "103.53"),
            std=("58.395", "57.12", "57.375"),
        ),
        "model-maker": Preset(
            fit=Fit.STRETCH, filter=Filter.SAMPLED, mean=("0", "0", "0"), std=("255", "255", "255")
        ),
        "efficientnet-lite": Preset(fit=Fit.CROP, crop="0.875", filter=Filter.BICUBIC),
        "timm": Preset(fit=Fit.CROP, crop="0.875", filter=Filter.BICUBIC),
    }
)
