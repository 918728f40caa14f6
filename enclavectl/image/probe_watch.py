"""The probe of the model inside the image: what the build's lines say of it, in the probe's words."""

from __future__ import annotations

from collections.abc import Callable

from enclavectl.errors import UsageError
from enclavectl.image.model_probe import BEGINS
from enclavectl.models.observation import Observation, observation_in
from enclavectl.models.probe import judge
from enclavectl.models.weights import Model


class ProbeWatch:
    """A build's lines on their way to whoever reads them."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._observation: Observation | None = None
        self._has_begun = False

    def line(self, text: str) -> None:
        """Take one line; what the probe wrote for us alone is not passed on."""
        if (found := observation_in(text)) is not None:
            self._observation = found
        elif BEGINS in text and "RUN" not in text:
            self._has_begun = True
        else:
            self._on_line(text)

    def misfit(self, model: Model) -> UsageError | None:
        """Return why the model made the build fail, if it did."""
        where = f"{model.weights_path}: in the image"
        if self._observation is not None:
            found = judge(self._observation, model.card)
            return (
                None
                if found is None
                else UsageError(f"{where}, {found.message}", hint=found.hint, code=found.code)
            )
        if not self._has_begun:
            return None
        return UsageError(
            f"{where}, its runtime ended without a word, as it does on damaged weights",
            hint="export the model again: its hash is the card's, so the damage is older than the card",
            code="model-broken",
        )
