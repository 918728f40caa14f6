"""The process in which TFLite is asked about weights: it crashes on damaged ones."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from enclave_payload.card import ModelCard
from enclavectl.errors import HostError, UsageError
from enclavectl.models.observation import Observation, observation_in
from enclavectl.run import Command, capture

# MobileNet v1 takes a third of a second on a small machine; the rest is for a busy machine.
_TIMEOUT_S = 60.0


def observe(weights: Path, card: ModelCard) -> Observation:
    """Load the weights in a separate process and classify two pictures.

    Raises:
        UsageError: the runtime crashed on them.
        HostError: this Python has no runtime, no process can be started, or it did not end within a minute.
    """
    with tempfile.TemporaryDirectory(prefix="enclavectl-") as folder:
        (Path(folder) / "model.json").write_bytes(card.to_json())
        argv = [sys.executable, "-EPB", "-m", "enclavectl.models.observation", folder]
        argv += [str(weights.absolute()), "1"]
        done = capture(Command(argv=argv, cwd=weights.absolute().parent), timeout_s=_TIMEOUT_S)
    found = observation_in(done.out.decode(errors="replace"))
    if done.status < 0:
        raise UsageError(
            f"{weights}: expected a TFLite model, found weights on which the runtime ends with "
            f"signal {-done.status}",
            hint="export the model again: its hash is the card's, so the damage is older than the card",
            code="model-broken",
        )
    if done.status != 0 or found is None:
        last = done.err.decode(errors="replace").strip().splitlines()[-1:] or [f"exit status {done.status}"]
        raise HostError(f"{sys.executable}: cannot ask TFLite about a model ({last[0]:.200})")
    return found
