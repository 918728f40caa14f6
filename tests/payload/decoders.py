"""Real decoders of the packaged model, and what tests do to them."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import enclave_payload
from enclave_payload.decoder import Decoder, Decoders
from enclave_payload.limits import Limits

MODEL_DIR = Path(enclave_payload.__file__).parent / "model"
SAMPLES = Path(__file__).parents[2] / "samples"
# Python 3.12 warns of forks beside threads; the zygote takes no lock that another thread may hold.
FORKS_BESIDE_THREADS = "ignore:This process .* is multi-threaded:DeprecationWarning"


@contextlib.contextmanager
def decoders(
    count: int = 1, limits: Limits | None = None, log: list[str] | None = None
) -> Iterator[list[Decoder]]:
    """``count`` real decoders; they have ended afterwards."""
    running = Decoders(MODEL_DIR, limits or Limits())
    try:
        yield running.start(count, (log if log is not None else []).append)
    finally:
        running.close()


def kill(decoder: Decoder) -> None:
    """As the kernel does where memory runs out."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(decoder.pid, signal.SIGKILL)
