"""Fuzz targets, one a parser. A target's first line is its invariant; ``one`` raises where it breaks."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A parser's invariant, checked on ``one`` input at a time, and inputs to begin with.

    ``report`` says what a run has measured, if the target measures something.
    """

    name: str
    invariant: str
    one: Callable[[bytes], None]
    seeds: list[bytes]
    report: Callable[[], str] | None = None


def find_target(name: str) -> Target:
    """Return the target ``fuzz/<name>.py``."""
    module = importlib.import_module(f"{__name__}.{name}")
    return Target(
        name=name,
        invariant=(module.__doc__ or "").partition("\n")[0],
        one=module.one,
        seeds=module.SEEDS,
        report=getattr(module, "report", None),
    )


def target_names() -> list[str]:
    """List the names of all targets: every module here except the driver."""
    return sorted(info.name for info in pkgutil.iter_modules(__path__) if not info.name.startswith("_"))
