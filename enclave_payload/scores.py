"""The numbers of 8 bits, and a model's outputs to parts per billion.

Outputs of 8 bits go through a table of 256 entries that is computed in rationals, so that they give the same
parts on every machine. Nothing here needs numpy: the process that holds the keys checks sums with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from enclave_payload.card import PARTS_PER_BILLION, Scores

if TYPE_CHECKING:  # importing it takes 3 ms, and what has no model only checks sums
    from fractions import Fraction

# A hundredth, and half a step of an 8-bit softmax for each label: a float output may come out of one.
_SLACK_PPB = 10_000_000
_SLACK_PER_LABEL_PPB = 1_953_125

# From a tensor's values to parts per billion, in their order; raises ScoreError.
Reader = Callable[[Sequence[float]], list[int]]


class ScoreError(Exception):
    """The outputs are no probabilities, and no logits that give some."""


@dataclass(frozen=True, slots=True)
class Quantization:
    """How a tensor of 8 bits stands for numbers: ``(q - zero_point) * scale``, q from ``least`` on."""

    scale: Fraction
    zero_point: int
    least: int

    @property
    def most(self) -> int:
        """The greatest value that the type has."""
        return self.least + 255

    def number(self, value: int) -> Fraction:
        """Return the number that a value stands for."""
        return (value - self.zero_point) * self.scale


def quantized_values(mean: Fraction, std: Fraction, quantization: Quantization) -> list[int]:
    """Compute what each pixel value becomes in an input of 8 bits."""
    step = std * quantization.scale
    entries = (quantization.zero_point + _half_away((value - mean) / step) for value in range(256))
    return [min(max(entry, quantization.least), quantization.most) for entry in entries]


def _half_away(number: Fraction) -> int:
    """Round as TFLite quantizes: half away from zero."""
    size = (2 * abs(number) + 1) // 2
    return size if number >= 0 else -size


def reader(scores: Scores, quantization: Quantization | None) -> Reader:
    """Return what reads the outputs; ``quantization`` is that of an output of 8 bits."""
    if quantization is None:
        return lambda outputs: to_parts(outputs, scores)
    least = quantization.least
    numbers = [quantization.number(value) for value in range(least, least + 256)]
    if scores in {Scores.SOFTMAX, Scores.SIGMOID}:
        parts = [round(number * PARTS_PER_BILLION) for number in numbers]
        return lambda outputs: _checked([parts[int(output) - least] for output in outputs], scores)
    floats = [float(number) for number in numbers]
    return lambda outputs: to_parts([floats[int(output) - least] for output in outputs], scores)


def to_parts(outputs: Sequence[float], scores: Scores) -> list[int]:
    """Turn outputs into parts per billion, in their order.

    Raises:
        ScoreError: one is not finite or no probability, or they do not add up although they should.
    """
    if not all(map(math.isfinite, outputs)):
        raise ScoreError("the outputs are not finite")
    match scores:
        case Scores.LOGITS:
            shares = _softmax(outputs)
        case Scores.LOGITS_SIGMOID:
            shares = [_sigmoid(output) for output in outputs]
        case _:
            shares = list(outputs)
    return _checked([round(share * PARTS_PER_BILLION) for share in shares], scores)


def adds_up(parts: Sequence[int], scores: Scores) -> bool:
    """Tell whether probabilities that should add up to one do, as far as 8-bit outputs can.

    From some 510 labels on this says nothing: the 1,001 outputs of 8-bit models added up to 0.32 to 0.92.
    """
    slack = _SLACK_PPB + len(parts) * _SLACK_PER_LABEL_PPB
    return not scores.is_exclusive or abs(sum(parts) - PARTS_PER_BILLION) <= slack


def _checked(parts: list[int], scores: Scores) -> list[int]:
    if not all(-_SLACK_PPB <= part <= PARTS_PER_BILLION + _SLACK_PPB for part in parts):
        raise ScoreError("the outputs are not probabilities")
    clamped = [min(max(part, 0), PARTS_PER_BILLION) for part in parts]
    if not adds_up(clamped, scores):
        raise ScoreError("the outputs are not probabilities: they do not add up to one")
    return clamped


def _softmax(logits: Sequence[float]) -> list[float]:
    highest = max(logits)
    powers = [math.exp(logit - highest) for logit in logits]
    total = math.fsum(powers)
    return [power / total for power in powers]


def _sigmoid(logit: float) -> float:
    # Each half where exp() cannot overflow.
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))
