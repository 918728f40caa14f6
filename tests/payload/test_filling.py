"""A model's input against the arithmetic that its card names, pixel by pixel."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from enclave_payload.card import Layout, ModelInput
from enclave_payload.filling import make_fill
from enclave_payload.scores import Quantization
from tests.payload.cards import stretched

WIDTH, HEIGHT = 5, 4
MEAN, STD = ("0.485", "127.5", "100"), ("0.229", "127.5", "57.375")
AS_IT_IS = replace(stretched(WIDTH, HEIGHT), mean=None, std=None)
SCALED = replace(AS_IT_IS, mean=MEAN, std=STD)
PIXELS = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)

both_layouts = pytest.mark.parametrize("layout", list(Layout))


def filled(
    form: ModelInput, layout: Layout, dtype: type, quantization: Quantization | None = None
) -> NDArray[Any]:
    """The input by height, width and channel, from a tensor that held something else."""
    shape = (3, HEIGHT, WIDTH) if layout is Layout.NCHW else (HEIGHT, WIDTH, 3)
    tensor: NDArray[Any] = np.full(shape, 77, dtype)
    make_fill(replace(form, layout=layout), dtype, quantization)(tensor, PIXELS)
    return tensor.transpose(1, 2, 0) if layout is Layout.NCHW else tensor


@both_layouts
def test_a_float_input_is_scaled_by_the_mean_and_std_of_each_channel(layout: Layout) -> None:
    found = filled(SCALED, layout, np.float32)
    for (row, column, channel), value in np.ndenumerate(PIXELS):
        expected = (np.float32(value) - np.float32(MEAN[channel])) / np.float32(STD[channel])
        assert found[row, column, channel] == expected


@both_layouts
def test_a_float_input_without_a_mean_gets_the_pixels_as_they_are(layout: Layout) -> None:
    assert np.array_equal(filled(AS_IT_IS, layout, np.float32), PIXELS)


@both_layouts
@pytest.mark.parametrize(("dtype", "least"), [(np.uint8, 0), (np.int8, -128)])
def test_an_input_of_eight_bits_without_a_mean_is_shifted_to_its_least_value(
    layout: Layout, dtype: type, least: int
) -> None:
    found = filled(AS_IT_IS, layout, dtype, Quantization(Fraction(1, 9), 3, least))
    assert np.array_equal(found, PIXELS.astype(np.int16) + least)


@both_layouts
@pytest.mark.parametrize(("dtype", "least"), [(np.uint8, 0), (np.int8, -128)])
def test_an_input_of_eight_bits_is_quantized_half_away_from_zero(
    layout: Layout, dtype: type, least: int
) -> None:
    scale, zero = Fraction(1, 50), least + 128
    found = filled(SCALED, layout, dtype, Quantization(scale, zero, least))
    for (row, column, channel), value in np.ndenumerate(PIXELS):
        exact = (int(value) - Fraction(MEAN[channel])) / (Fraction(STD[channel]) * scale)
        size = int(abs(exact) + Fraction(1, 2))
        expected = zero + (size if exact >= 0 else -size)
        assert found[row, column, channel] == min(max(expected, least), least + 255)
