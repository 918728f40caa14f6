"""Bars of text, for probabilities and for progress."""

from __future__ import annotations

_EIGHTHS = " ▏▎▍▌▋▊▉"


def bar(share: float, cells: int, *, encoding: str = "utf-8") -> str:
    """Return a bar of ``share`` times ``cells`` blocks, to an eighth of one; of ``#`` outside Unicode."""
    if not encoding.startswith("utf"):
        return ("#" * round(share * cells)).ljust(cells)
    eighths = round(share * cells * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(cells)
