"""The time that a released key counts, as people write it."""

from __future__ import annotations

import re

from enclave_payload.sealed import MAX_LEASE_S
from enclavectl.errors import UsageError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600}


def parse_lease(text: str) -> int:
    """Read a number with a unit, such as 90m or 24h, as seconds.

    Raises:
        UsageError: it is none, or longer than a year.
    """
    match = re.fullmatch(r"([1-9][0-9]{0,8})([smhd])", text)
    seconds = 0 if match is None else int(match[1]) * _UNITS[match[2]]
    if not 1 <= seconds <= MAX_LEASE_S:
        raise UsageError(
            f"--lease: expected a time such as 90m, 24h or 7d, of a year at most, found {text!r:.40}"
        )
    return seconds
