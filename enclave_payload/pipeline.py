"""What a decoder does with a picture: Pillow first, then TFLite. Only the zygote loads it."""

from __future__ import annotations

import time

from enclave_payload.card import CardError
from enclave_payload.classifier import ModelError, make_classifier
from enclave_payload.media import MediaType
from enclave_payload.picture import PictureError, decode_picture
from enclave_payload.verdict import Problem, Verdict


class UnfitError(Exception):
    """The measured model cannot serve; the message says why."""


class Pipeline:
    """A model that is loaded, and what it sees in encoded pictures."""

    def __init__(self, card: bytes, weights: bytes) -> None:
        """Load the weights, which are a stranger's: lock this process down before.

        Raises:
            UnfitError: they do not fit the card.
        """
        try:
            self._classifier = make_classifier(card, weights)
        except (CardError, ModelError) as exc:
            raise UnfitError(str(exc)) from exc

    @property
    def labels(self) -> int:
        """How many labels the model has."""
        return len(self._classifier.card.labels)

    def run(self, picture: bytes, media_type: MediaType) -> Verdict:
        """Return the verdict on a picture."""
        try:
            decoded = decode_picture(picture, media_type, self._classifier.card.input)
            started = time.perf_counter_ns()
            parts = self._classifier.classify(decoded.image)
            inference_us = (time.perf_counter_ns() - started) // 1000
            return Verdict(tuple(parts), decoded.remarks, inference_us)
        except PictureError as error:
            return Verdict(problem=error.problem)
        except ModelError:
            return Verdict(problem=Problem.MODEL_FAILED)
        except MemoryError:
            return Verdict(problem=Problem.TOO_COSTLY)
