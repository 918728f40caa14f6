"""Counts with their noun."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """Return a count and its noun, whose plural has an s: 1 receipt, 1,200 receipts."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
