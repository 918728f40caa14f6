"""Pixels to a model's input: a table of 256 entries for each channel, and no arithmetic for a picture.

For an input of 8 bits the tables are computed in rationals, so that they are the same on every machine.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enclave_payload.card import ModelInput
from enclave_payload.scores import Quantization, quantized_values

# Of float32, uint8 or int8, as the tensor is.
Table = NDArray[Any]
_VALUES = range(256)


def input_tables(form: ModelInput, dtype: type, quantization: Quantization | None) -> tuple[Table, ...]:
    """Return the tables for red, green and blue in the input's type.

    ``quantization`` is that of an input of 8 bits, which the card scales by mean and std or takes as it is.
    """
    if form.mean is None or form.std is None:
        shift = 0 if quantization is None else quantization.least
        return (np.array([value + shift for value in _VALUES], dtype),) * 3
    scaling = list(zip(form.mean, form.std, strict=True))
    if quantization is None:
        return tuple(_scaled(mean, std) for mean, std in scaling)
    return tuple(
        np.array(quantized_values(Fraction(mean), Fraction(std), quantization), dtype)
        for mean, std in scaling
    )


def _scaled(mean: str, std: str) -> Table:
    values = np.arange(256, dtype=np.float32)
    return np.asarray((values - np.float32(mean)) / np.float32(std))
