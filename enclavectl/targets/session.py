"""Opening a verified session with a target, which may still be booting."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from enclavectl.client.reconnection import Reconnections
from enclavectl.client.session import Client
from enclavectl.errors import EnclaveError, EnclaveLost, StateError
from enclavectl.progress import Progress
from enclavectl.targets.target import Target

if TYPE_CHECKING:
    from enclavectl.backends.base import Backend, Enclave, RunningEnclave

# From the first connection until the payload can answer: it reads at most 64 MiB of weights
# (models/weights.py), which takes seconds on one vCPU.
BOOT_S = 60.0
# The keeper records the enclave's end; this process may notice it earlier: on a busy machine by seconds.
_END_NOTICED_S = 10.0
_RETRY_S = 0.2  # not noticeable, and long compared with a refused connect
_LAST_LINES = 4  # of the console in an error: the cause is in the last ones


@contextmanager
def explain_boot_failure(backend: Backend, running: RunningEnclave) -> Iterator[None]:
    """Add the last console lines to the error of an enclave that is lost while it boots.

    Raises:
        EnclaveError: the enclave ended within the block.
    """
    try:
        yield
    except (EnclaveLost, StateError) as exc:
        enclave = running.enclave
        deadline = time.monotonic() + _END_NOTICED_S
        while running.is_alive():
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        if (failure := running.failure()) is not None:
            raise failure from exc
        if not enclave.has_console:
            raise EnclaveError(
                f"{enclave.name}: it ended before it proved itself; only debug mode would show why",
                hint=f"enclavectl run --debug, then enclavectl logs; is {enclave.memory_setting} enough?",
                code="payload-ended",
            ) from exc
        lines = [line for line in _console(backend, enclave).splitlines() if line.strip()][-_LAST_LINES:]
        if not lines:  # every payload writes some at its start; `terminate` removes them
            raise EnclaveError(
                f"{enclave.name}: it was ended before it proved itself; another command terminated it",
                hint="run this command again; enclavectl terminate --all ends other commands' enclaves too",
                code="payload-ended",
            ) from exc
        raise EnclaveError(
            f"{enclave.name}: the payload ended; its last words: {' | '.join(lines)}",
            hint=f"is {enclave.memory_setting} (enclavectl config show) too small for the model?",
            code="payload-ended",
        ) from exc


def open_session(
    target: Target, progress: Progress, *, timeout_s: float, reconnections: Reconnections | None = None
) -> Client:
    """Open a verified session with the target; wait for the boot of one that this command has started.

    ``reconnections`` are those that are left where a gateway is between.

    Raises:
        AttestationError: the evidence was refused; only the challenge was sent.
        EnclaveError: the enclave was lost, busy, or broke the protocol.
        StateError: nothing listens at its address.
    """
    start = time.monotonic()
    running = target.running
    ready_s = timeout_s if running is None else BOOT_S
    while True:
        try:
            return Client.connect(
                target.address,
                target.expectation,
                timeout_s=timeout_s,
                ready_s=ready_s,
                access=target.access,
                reconnections=reconnections,
            )
        except (StateError, EnclaveLost):
            elapsed_s = time.monotonic() - start
            if running is None or elapsed_s > running.boot_grace_s or not running.is_alive():
                raise
        progress.update(running.activity(), elapsed_s, running.boot_grace_s)
        time.sleep(_RETRY_S)


def _console(backend: Backend, enclave: Enclave) -> str:
    return b"".join(backend.console(enclave, follow=False)).decode("utf-8", errors="replace")
