"""Linux's lists of CPUs, such as ``0,2-5``."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Far more than NR_CPUS of any kernel; it bounds the cost of a wrong "0-999999999".
_MAX_CPU = 65_535
_PART = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", re.ASCII)


def parse_cpu_list(text: str) -> frozenset[int]:
    """Parse a list of CPUs; blanks around commas and an empty list are allowed.

    https://docs.kernel.org/admin-guide/kernel-parameters.html ("cpu lists")

    Raises:
        ValueError: the text is no such list.
    """
    found: set[int] = set()
    if not text.strip():
        return frozenset()
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last <= _MAX_CPU:
            raise ValueError(f"expected a list of CPUs such as 2,3,6-9, found {text[:60]!r}")
        found.update(range(first, last + 1))
    return frozenset(found)


def format_cpu_list(cpus: Iterable[int]) -> str:
    """Return the shortest list that names these CPUs."""
    runs: list[list[int]] = []
    for cpu in sorted(set(cpus)):
        if runs and cpu == runs[-1][1] + 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
