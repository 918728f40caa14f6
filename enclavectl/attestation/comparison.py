"""The comparison of a document with a release, register by register."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from enclavectl.attestation.release import Release


class RegisterState(StrEnum):
    """What a document has where a release pins a register."""

    EQUAL = "equal"
    DIFFERS = "differs"
    MISSING = "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterComparison:
    """One register that a release pins. ``found`` is None if the document has no such register."""

    index: int
    expected: bytes
    found: bytes | None

    @property
    def state(self) -> RegisterState:
        """What the document has here. A missing register is not zero: it was not locked."""
        if self.found is None:
            return RegisterState.MISSING
        return RegisterState.EQUAL if self.found == self.expected else RegisterState.DIFFERS


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseComparison:
    """A release beside a document: each register that the release pins, in the order of their numbers."""

    release: Release
    registers: tuple[RegisterComparison, ...]

    @property
    def differences(self) -> tuple[RegisterComparison, ...]:
        """The registers that keep the document from being of this release."""
        return tuple(one for one in self.registers if one.state is not RegisterState.EQUAL)

    @property
    def is_match(self) -> bool:
        """True if every register that the release pins is in the document and equal."""
        return not self.differences


def compare_release(release: Release, pcrs: Mapping[int, bytes]) -> ReleaseComparison:
    """Compare the registers of a document with those that a release pins."""
    registers = tuple(
        RegisterComparison(index=index, expected=value, found=pcrs.get(index))
        for index, value in release.pcrs.items()
    )
    return ReleaseComparison(release=release, registers=registers)


def rank_releases(releases: Sequence[Release], pcrs: Mapping[int, bytes]) -> tuple[ReleaseComparison, ...]:
    """Compare with each release; the nearest one is first.

    Of two that match, the one that pins more registers says more, so it is first. Of two that do not, the one
    with fewer differences is. Otherwise the order of ``releases`` stays.
    """
    compared = [compare_release(release, pcrs) for release in releases]
    return tuple(sorted(compared, key=_distance))


def _distance(one: ReleaseComparison) -> tuple[int, int]:
    return len(one.differences), -len(one.registers) if one.is_match else 0
