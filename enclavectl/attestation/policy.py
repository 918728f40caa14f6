"""A client's trust policy, fixed before it sees any evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Protocol

from enclavectl.attestation.codes import AttestationCode, refused
from enclavectl.attestation.document import PCR_BYTES, PCR_COUNT
from enclavectl.errors import AttestationError, UsageError
from enclavectl.trust import Trust

# PCR0 is a hash over parts without their lengths, so PCR1 and PCR2 are needed to tell images apart.
# https://blog.trailofbits.com/2024/02/16/a-few-notes-on-aws-nitro-enclaves-images-and-attestation/
REQUIRED_PCRS = (0, 1, 2)
MAX_RELEASES = 64  # more than a fleet runs at once; a document is compared with each of them
# A leaf certificate, and so every document, lives three hours.
MAX_AGE_LIMIT = timedelta(hours=3)
CLOCK_SKEW_LIMIT = timedelta(minutes=10)  # clocks set by NTP differ by less than a second

_NAME_CHARACTERS = 100  # of a release: it is shown on one line of messages and answers


class Registers(Protocol):
    """What a policy looks at: the claims of a document, or what is kept of one that was verified."""

    @property
    def is_debug(self) -> bool:
        """True for an enclave in debug mode, whose registers hold zeros."""

    @property
    def pcrs(self) -> Mapping[int, bytes]:
        """The registers by number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One version of an image: a set of registers. A document must match every one of them.

    Raises:
        UsageError: PCR0, PCR1 or PCR2 is missing, a register is not 48 bytes, or it is all zero.
    """

    name: str
    pcrs: Mapping[int, bytes]

    def __post_init__(self) -> None:
        """Check the rule above, and keep an immutable copy of ``pcrs``."""
        if not 1 <= len(self.name) <= _NAME_CHARACTERS or not self.name.isprintable():
            raise UsageError(f"release: expected a name of 1 to {_NAME_CHARACTERS} printable characters")
        for index in REQUIRED_PCRS:
            if index not in self.pcrs:
                raise UsageError(
                    f"release {self.name}: PCR{index} is missing; expected at least PCR0, PCR1 and PCR2",
                    hint="enclavectl build prints all three; PCR0 alone does not tell all images apart.",
                )
        for index, value in self.pcrs.items():
            if type(index) is not int or not 0 <= index < PCR_COUNT:
                raise UsageError(
                    f"release {self.name}: PCR{index}: expected an index from 0 to {PCR_COUNT - 1}"
                )
            if not isinstance(value, bytes) or len(value) != PCR_BYTES:
                raise UsageError(f"release {self.name}: PCR{index}: expected {PCR_BYTES} bytes")
            if value == bytes(PCR_BYTES):
                raise UsageError(
                    f"release {self.name}: PCR{index} is all zero, which measures nothing",
                    hint="Zeros are no wildcard, a debug enclave has them: leave out what you do not pin.",
                )
        object.__setattr__(self, "pcrs", MappingProxyType(dict(sorted(self.pcrs.items()))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The evidence that a client accepts.

    ``accept`` names the acceptable signers. A document must match one of ``releases`` completely. It may be
    ``max_age`` old, and clocks may differ by ``clock_skew``. ``unsafe_allow_debug`` accepts debug-mode
    enclaves without a release, since nothing measures their code; the result is then ``debug``.

    Raises:
        UsageError: the policy is empty (it would accept any image) or a value is out of bounds.
    """

    accept: frozenset[Trust]
    releases: tuple[Release, ...]
    max_age: timedelta = timedelta(minutes=5)
    clock_skew: timedelta = timedelta(minutes=2)
    unsafe_allow_debug: bool = False

    def __post_init__(self) -> None:
        """Check the rule above."""
        if not self.accept:
            raise UsageError(
                "policy: accept is empty", hint="Name whose signature counts, such as: accept: [nitro]"
            )
        if Trust.DEBUG in self.accept:
            raise UsageError(
                "policy: accept says who may sign, and debug is nobody",
                hint="Debug enclaves pass with unsafe_allow_debug: true.",
            )
        if not self.releases and not self.unsafe_allow_debug:
            raise UsageError(
                "policy: no release is named, so any image would pass",
                hint="Add a release with PCR0, PCR1 and PCR2; enclavectl build prints them.",
            )
        names = [release.name for release in self.releases]
        if len(names) > MAX_RELEASES or len(set(names)) != len(names):
            raise UsageError(f"policy: expected at most {MAX_RELEASES} releases with different names")
        if not timedelta(seconds=1) <= self.max_age <= MAX_AGE_LIMIT:
            raise UsageError(f"policy: max_age: expected 1 s to {MAX_AGE_LIMIT}, found {self.max_age}")
        if not timedelta(0) <= self.clock_skew <= CLOCK_SKEW_LIMIT:
            raise UsageError(
                f"policy: clock_skew: expected 0 s to {CLOCK_SKEW_LIMIT}, found {self.clock_skew}"
            )

    def check_signer(self, trust: Trust) -> None:
        """Check that the policy accepts signers of this ``trust``.

        Raises:
            AttestationError: ``trust-not-accepted``.
        """
        if trust not in self.accept:
            raise refused(
                AttestationCode.TRUST_NOT_ACCEPTED,
                f"policy: accepts {', '.join(sorted(self.accept))}, found evidence of trust {trust}",
            )

    def check_debug(self, claims: Registers) -> None:
        """Check that the enclave is not in debug mode, or that the policy allows debug mode.

        Raises:
            AttestationError: ``debug-mode``.
        """
        if claims.is_debug and not self.unsafe_allow_debug:
            raise refused(
                AttestationCode.DEBUG_MODE, "PCR0, PCR1 and PCR2 are all zero: the enclave runs in debug mode"
            )

    def match_release(self, claims: Registers) -> Release:
        """Find the release that matches the document in every register.

        Raises:
            AttestationError: ``no-release``, or the difference from the nearest release:
                ``pcr-missing`` or ``pcr-mismatch``.
        """
        if not self.releases:
            raise refused(
                AttestationCode.NO_RELEASE,
                "policy: expected a debug enclave (the policy names no release), found one that is not",
            )
        for release in self.releases:
            if all(claims.pcrs.get(index) == value for index, value in release.pcrs.items()):
                return release
        raise self._mismatch(claims)

    def _mismatch(self, claims: Registers) -> AttestationError:
        """Make the error for the release with the fewest differences; it names the first of them."""

        def differences(release: Release) -> list[int]:
            return [index for index, value in release.pcrs.items() if claims.pcrs.get(index) != value]

        nearest = min(self.releases, key=lambda release: len(differences(release)))
        wrong = differences(nearest)
        also = f" (also differs: {', '.join(f'PCR{index}' for index in wrong[1:])})" if wrong[1:] else ""
        among = f", the nearest of {len(self.releases)} releases" if len(self.releases) > 1 else ""
        expected, found = nearest.pcrs[wrong[0]], claims.pcrs.get(wrong[0])
        where = f"PCR{wrong[0]}: expected {_shortened(expected)} of release {nearest.name}{among}, found "
        if found is None:
            return refused(AttestationCode.PCR_MISSING, f"{where}no such register in the document{also}")
        return refused(AttestationCode.PCR_MISMATCH, f"{where}{_shortened(found)}{also}")


def _shortened(value: bytes) -> str:
    """Shorten a register to what a person compares with the output of a build."""
    return f"{value.hex()[:16]}...{value.hex()[-8:]}"
