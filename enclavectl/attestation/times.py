"""Times in policies: RFC 3339 in UTC, to the second, or a date, which is the midnight that begins it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_FORM = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[Tt]([0-9]{2}:[0-9]{2}:[0-9]{2})[Zz])?")
EXPECTED = "a date (2027-01-31) or a time in UTC (2027-01-31T12:00:00Z)"


def parse_time(text: str) -> datetime:
    """Read a time.

    Raises:
        ValueError: it is in another form, or there is no such day or hour.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError(f"expected {EXPECTED}")
    try:
        return datetime.fromisoformat(f"{found[1]}T{found[2] or '00:00:00'}").replace(tzinfo=UTC)
    except ValueError as exc:
        raise ValueError(f"expected {EXPECTED}; there is no such time") from exc


def render_time(when: datetime) -> str:
    """Write a time of whole seconds in UTC as ``parse_time`` reads it."""
    return when.replace(tzinfo=None).isoformat() + "Z"


def is_whole_utc(when: datetime) -> bool:
    """Return whether ``render_time`` can write this time."""
    return when.utcoffset() == timedelta(0) and when.microsecond == 0
