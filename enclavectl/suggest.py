"""Suggestions for an unknown name: the nearest known one."""

from __future__ import annotations

from collections.abc import Iterable

# Characters. Comparing is quadratic in the length, and no known name is longer.
_MAX_COMPARED = 64


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Find the known name nearest to ``word``, or None if none is near."""
    import difflib

    by_lower = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word[:_MAX_COMPARED].lower(), sorted(by_lower), n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


def suggestion(word: str, known: Iterable[str]) -> str:
    """Make the end of a message: the nearest known name, or all of them if none is near."""
    names = sorted(known)
    near = nearest(word, names)
    if near is not None:
        return f"the nearest known one is {near!r}"
    return f"known: {', '.join(names)}" if names else "none is known"
