"""An attack as the demonstrations try it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from enclavectl.selftest.arena import Arena


class Defender(StrEnum):
    """Who refuses an attack."""

    CLIENT = "client"
    ENCLAVE = "enclave"
    COMMAND = "command"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One attack. ``attempt`` makes it: an error's code is the refusal, or the code that it returns.

    ``codes`` are those by which it is known to be refused. Returning None means that it went through.
    """

    name: str
    tried: str
    defender: Defender
    codes: frozenset[str]
    attempt: Callable[[Arena], str | None]


def attack(
    name: str, tried: str, defender: Defender, *codes: str
) -> Callable[[Callable[[Arena], str | None]], Attack]:
    """Make an attack of the function that tries it."""

    def make(attempt: Callable[[Arena], str | None]) -> Attack:
        return Attack(name=name, tried=tried, defender=defender, codes=frozenset(codes), attempt=attempt)

    return make
