"""Pixels to a model's input: two vector operations for floats, a table of 256 entries for 8 bits.

The tables are computed in rationals, so that they are the same on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enclave_payload.card import Layout, ModelInput
from enclave_payload.scores import Quantization, quantized_values

# Writes pixels (height, width, channel) into a model's input without its batch.
Fill = Callable[[NDArray[Any], NDArray[np.uint8]], None]
_VALUES = range(256)


def make_fill(form: ModelInput, dtype: type, quantization: Quantization | None) -> Fill:
    """Return what fills an input of ``dtype`` as the card says: float32, uint8 or int8.

    ``quantization`` is that of an input of 8 bits, which the card scales by mean and std or takes as it is.
    """
    fill = _floats(form) if quantization is None else _look_up(form, dtype, quantization)
    if form.layout is Layout.NCHW:
        return lambda tensor, pixels: fill(np.moveaxis(tensor, 0, -1), pixels)
    return fill


def _floats(form: ModelInput) -> Fill:
    if form.mean is None or form.std is None:
        return _copy
    # A whole row, because numpy is slow where an operand repeats every three numbers.
    mean, std = (np.tile(np.array(numbers, np.float32), (form.width, 1)) for numbers in (form.mean, form.std))

    def fill(tensor: NDArray[Any], pixels: NDArray[np.uint8]) -> None:
        np.subtract(pixels, mean, out=tensor)
        np.divide(tensor, std, out=tensor)

    return fill


def _copy(tensor: NDArray[Any], pixels: NDArray[np.uint8]) -> None:
    tensor[...] = pixels


def _look_up(form: ModelInput, dtype: type, quantization: Quantization) -> Fill:
    if form.mean is None or form.std is None:
        tables: list[NDArray[Any]] = [np.array([value + quantization.least for value in _VALUES], dtype)] * 3
    else:
        tables = [
            np.array(quantized_values(Fraction(mean), Fraction(std), quantization), dtype)
            for mean, std in zip(form.mean, form.std, strict=True)
        ]

    def fill(tensor: NDArray[Any], pixels: NDArray[np.uint8]) -> None:
        for channel, table in enumerate(tables):
            # Not table[...]: that takes half as long again.
            tensor[..., channel] = table.take(pixels[..., channel], mode="clip")

    return fill
