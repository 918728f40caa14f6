"""The word for what is known of an enclave's life."""

from __future__ import annotations

from enum import StrEnum


class EnclaveState(StrEnum):
    """What is known of an enclave's life. UNKNOWN: its process did not answer, so it may run or not."""

    BOOTING = "BOOTING"
    RUNNING = "RUNNING"
    TERMINATING = "TERMINATING"
    UNKNOWN = "UNKNOWN"
    DEAD = "DEAD"
