"""All demonstrations, one after the other, with what refused each."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from enclavectl.errors import EnclavectlError
from enclavectl.selftest import evidence_attacks, session_attacks, weights_attacks
from enclavectl.selftest.arena import Arena, open_arena
from enclavectl.selftest.attack import Attack

ATTACKS: tuple[Attack, ...] = (*evidence_attacks.ATTACKS, *session_attacks.ATTACKS, *weights_attacks.ATTACKS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration:
    """What became of an attack. ``code`` is what ended it; None: nothing did.

    ``sealed_bytes`` had left the client by then, all of them sealed to a proven enclave.
    """

    attack: Attack
    code: str | None
    sealed_bytes: int
    seconds: float

    @property
    def is_refused(self) -> bool:
        """True if it ended with a code by which this attack is known to be refused."""
        return self.code in self.attack.codes


def demonstrate() -> Iterator[Demonstration]:
    """Try each attack on fresh enclaves of the local backend.

    Raises:
        EnclavectlError: this machine cannot run the local backend.
    """
    with open_arena() as arena:
        for attack in ATTACKS:
            yield _try(attack, arena)


def _try(attack: Attack, arena: Arena) -> Demonstration:
    arena.begin()
    begun = time.monotonic()
    try:
        code = attack.attempt(arena)
    except EnclavectlError as error:
        code = str(error.code)
    return Demonstration(
        attack=attack,
        code=code,
        sealed_bytes=arena.sealed_bytes,
        seconds=time.monotonic() - begun,
    )
