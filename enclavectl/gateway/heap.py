"""What the C library does with memory that a relay has freed."""

from __future__ import annotations

import ctypes

# mallopt(3), https://sourceware.org/glibc/manual: the names of M_TRIM_THRESHOLD and M_MMAP_THRESHOLD.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
# What passes at once: some reads of 256 KiB with the messages in them. By default all of it goes back to the
# kernel after each read, which clears and maps as many pages for the next one: a third of a request's CPU.
_KEPT_BYTES = 4 * 1024 * 1024


def keep_freed_memory() -> None:
    """Let this process keep a little freed memory for its next buffers, where the C library is glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_MMAP_THRESHOLD, _KEPT_BYTES)
