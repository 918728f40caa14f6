"""The states of an enclave."""

from __future__ import annotations

from enum import StrEnum


class EnclaveState(StrEnum):
    """The state of an enclave. UNKNOWN: its daemon did not answer, so it may run or not."""

    BOOTING = "BOOTING"
    RUNNING = "RUNNING"
    TERMINATING = "TERMINATING"
    UNKNOWN = "UNKNOWN"
    DEAD = "DEAD"
