"""Times: in policies RFC 3339 in UTC, to the second, or a date, which is the midnight that begins it.

A time of judgement may also be in another zone, with parts of a second, or with a space before the hour.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_FORM = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[Tt]([0-9]{2}:[0-9]{2}:[0-9]{2})[Zz])?")
# Python's own reader also takes days of weeks, any sign before the hour, and zones with seconds.
_MOMENT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?)"
    r"([Zz]|[+-][0-9]{2}(?::?[0-9]{2})?)"
)
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


def parse_moment(text: str) -> datetime:
    """Read a time of judgement: one that ``parse_time`` reads, or one in any zone, which it names.

    Raises:
        ValueError: it is in another form, there is no such day or hour, or in UTC it is in no year.
    """
    found = _MOMENT.fullmatch(text)
    if found is None:
        return parse_time(text)
    day, hour, zone = found.groups()
    try:
        return datetime.fromisoformat(f"{day}T{hour}{zone.upper()}").astimezone(UTC)
    except OverflowError as exc:
        raise ValueError("expected a time of the years 1 to 9999 in UTC") from exc


def render_time(when: datetime) -> str:
    """Write a time of whole seconds in UTC as ``parse_time`` reads it."""
    return when.replace(tzinfo=None).isoformat() + "Z"


def is_whole_utc(when: datetime) -> bool:
    """Return whether ``render_time`` can write this time."""
    return when.utcoffset() == timedelta(0) and when.microsecond == 0
