"""A client's trust policy, fixed before it sees any evidence."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from enclavectl.attestation.codes import AttestationCode, PolicyCode, refused, unusable
from enclavectl.attestation.comparison import ReleaseComparison, rank_releases
from enclavectl.attestation.release import ExpiryNote, LifeState, Registers, Release, Revocation
from enclavectl.attestation.times import render_time
from enclavectl.errors import AttestationError, UsageError
from enclavectl.trust import Trust

MAX_RELEASES = 64  # more than a fleet runs at once; a document is compared with each of them
# As many as releases: what no release names is refused anyway, so a revocation is needed only beside one.
MAX_REVOKED = 64
# A leaf certificate, and so every document, lives three hours.
MAX_AGE_LIMIT = timedelta(hours=3)
CLOCK_SKEW_LIMIT = timedelta(minutes=10)  # clocks set by NTP differ by less than a second


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The evidence that a client accepts.

    ``accept`` names the acceptable signers. A document must match one of ``releases`` completely, at a time
    at which that release is valid; several may be, while one follows another. What ``revoked`` names is
    refused at any time. A document may be ``max_age`` old, and clocks may differ by ``clock_skew``.
    ``unsafe_allow_debug`` accepts debug-mode enclaves without a release, since nothing measures their code;
    the result is then ``debug``.

    Raises:
        UsageError: the policy is empty (it would accept any image), contradicts itself, or a value is out of
            bounds. ``code`` is a PolicyCode.
    """

    accept: frozenset[Trust]
    releases: tuple[Release, ...]
    revoked: tuple[Revocation, ...] = ()
    max_age: timedelta = timedelta(minutes=5)
    clock_skew: timedelta = timedelta(minutes=2)
    unsafe_allow_debug: bool = False

    def __post_init__(self) -> None:
        """Check the rule above."""
        if not self.accept:
            raise unusable(
                PolicyCode.EMPTY,
                "policy: accept is empty",
                hint="Name whose signature counts, such as: accept: [nitro]",
            )
        if Trust.DEBUG in self.accept:
            raise unusable(
                PolicyCode.CONTRADICTION,
                "policy: accept says who may sign, and debug is nobody",
                hint="Debug enclaves pass with unsafe_allow_debug: true.",
            )
        if Trust.EMULATED in self.accept and len(self.accept) > 1:
            raise unusable(
                PolicyCode.CONTRADICTION,
                "policy: accept has emulated beside others, but nobody signs what is emulated",
                hint="Write a policy of its own for emulated enclaves: accept: [emulated].",
            )
        if not self.releases and not self.unsafe_allow_debug:
            raise unusable(PolicyCode.EMPTY, "policy: no release is named, so any image would pass")
        self._check_bounds()
        self._check_duplicates()
        self._check_revoked()

    def _check_bounds(self) -> None:
        names = [release.name for release in self.releases]
        if len(names) > MAX_RELEASES or len(set(names)) != len(names):
            raise unusable(
                PolicyCode.FORMAT, f"policy: expected at most {MAX_RELEASES} releases with different names"
            )
        if len(self.revoked) > MAX_REVOKED:
            raise unusable(
                PolicyCode.FORMAT,
                f"policy: revoked: expected at most {MAX_REVOKED} entries, found {len(self.revoked)}",
                hint="Take out entries whose release is gone from the policy: it is refused anyway.",
            )
        if not timedelta(seconds=1) <= self.max_age <= MAX_AGE_LIMIT:
            raise unusable(
                PolicyCode.FORMAT,
                f"policy: max_age: expected 1 s to {_seconds(MAX_AGE_LIMIT)}, found {_seconds(self.max_age)}",
            )
        if not timedelta(0) <= self.clock_skew <= CLOCK_SKEW_LIMIT:
            raise unusable(
                PolicyCode.FORMAT,
                f"policy: clock_skew: expected 0 s to {_seconds(CLOCK_SKEW_LIMIT)}, "
                f"found {_seconds(self.clock_skew)}",
            )

    def _check_duplicates(self) -> None:
        first: dict[tuple[tuple[int, bytes], ...], Release] = {}
        for release in self.releases:
            other = first.setdefault(tuple(release.pcrs.items()), release)
            if (other.not_before, other.expires) != (release.not_before, release.expires):
                raise unusable(
                    PolicyCode.CONTRADICTION,
                    f"policy: releases {other.name} and {release.name} pin the same registers for "
                    "different times",
                    hint="Keep one of them, with the life that is meant.",
                )

    def _check_revoked(self) -> None:
        seen = set()
        for entry in self.revoked:
            subject = (entry.label, tuple((entry.pcrs or {}).items()))
            if subject in seen:
                raise unusable(
                    PolicyCode.FORMAT,
                    f"policy: {entry.subject} is revoked twice",
                    hint="Keep one entry, with the date and the reason that are meant.",
                )
            seen.add(subject)
        for release in self.releases:
            for entry in self.revoked:
                if entry.matches(release.pcrs) and _lives_on(release, entry.date):
                    raise unusable(
                        PolicyCode.CONTRADICTION,
                        f"policy: release {release.name} is revoked since {render_time(entry.date)}, "
                        "and still valid after that",
                        hint="Take the release out, or end it: "
                        f"expires: {render_time(entry.date)} (enclavectl policy revoke does both).",
                    )

    def check_signer(self, trust: Trust) -> None:
        """Check that the policy accepts signers of this ``trust``.

        Raises:
            AttestationError: ``trust-not-accepted``.
        """
        if trust not in self.accept:
            raise refused(
                AttestationCode.TRUST_NOT_ACCEPTED,
                f"policy: accepts {', '.join(sorted(self.accept))}, "
                f"but the root to judge by is of trust {trust}",
            )

    def check_debug(self, claims: Registers) -> None:
        """Check that the enclave is not in debug mode, or that the policy allows debug mode.

        Raises:
            AttestationError: ``debug-mode``, or ``release-revoked`` for one that is allowed: a tuple may name
                its role or instance.
        """
        if not claims.is_debug:
            return
        if not self.unsafe_allow_debug:
            raise refused(
                AttestationCode.DEBUG_MODE, "PCR0, PCR1 and PCR2 are all zero: the enclave runs in debug mode"
            )
        self._check_not_revoked(claims)

    def revocation_of(self, claims: Registers) -> Revocation | None:
        """Find the entry that revokes these registers; None if none does."""
        return next((entry for entry in self.revoked if entry.matches(claims.pcrs)), None)

    def state_of(self, release: Release, at: datetime) -> LifeState:
        """Return what one of the releases is worth at this time, revocations included."""
        if any(entry.matches(release.pcrs) for entry in self.revoked):
            return LifeState.REVOKED
        return release.state(at)

    def expiry_notes(self, at: datetime) -> tuple[ExpiryNote, ...]:
        """Return a note for each release that is valid and soon expires."""
        valid = (one for one in self.releases if self.state_of(one, at) is LifeState.VALID)
        return tuple(note for release in valid if (note := release.expiry_note(at)) is not None)

    def match_release(self, claims: Registers, *, at: datetime) -> Release:
        """Find the release that matches the document in every register and is valid ``at`` this time.

        ``at`` is the present for a session, and the time that is asked about for an archived document. Clock
        skew does not lengthen a release's life. Of several releases, the one that pins most registers counts.

        Raises:
            AttestationError: ``release-revoked`` before anything else; ``no-release``; the difference from
                the nearest release, ``pcr-missing`` or ``pcr-mismatch``; ``release-not-yet-valid`` or
                ``release-expired``.
            UsageError: ``at`` has no time zone.
        """
        if at.utcoffset() is None:
            raise UsageError("at: expected a time with a time zone")
        self._check_not_revoked(claims)
        ranked = rank_releases(self.releases, claims.pcrs)
        if not ranked:
            raise refused(
                AttestationCode.NO_RELEASE,
                "policy: expected a debug enclave (the policy names no release), found one that is not",
            )
        matching = [one.release for one in ranked if one.is_match]
        if not matching:
            raise _mismatch(ranked)
        for release in matching:
            if release.state(at) is LifeState.VALID:
                return release
        raise _not_valid(matching[0], at)

    def _check_not_revoked(self, claims: Registers) -> None:
        entry = self.revocation_of(claims)
        if entry is not None:
            raise refused(
                AttestationCode.RELEASE_REVOKED,
                f"policy: {entry.subject} is revoked, dated {render_time(entry.date)}: {entry.reason}",
            )


def _lives_on(release: Release, date: datetime) -> bool:
    """Return whether the release is valid at any time from ``date`` on."""
    if release.expires is None:
        return True
    return release.expires > date and (release.not_before is None or release.not_before < release.expires)


def _not_valid(release: Release, at: datetime) -> AttestationError:
    if release.state(at) is LifeState.NOT_YET_VALID:
        code, verb, bound = AttestationCode.RELEASE_NOT_YET_VALID, "is valid only from", release.not_before
    else:
        code, verb, bound = AttestationCode.RELEASE_EXPIRED, "expired at", release.expires
    when = "" if bound is None else render_time(bound)
    judged = render_time(at.astimezone(UTC).replace(microsecond=0))
    return refused(code, f"policy: release {release.name} {verb} {when}, judged at {judged}")


def _mismatch(ranked: tuple[ReleaseComparison, ...]) -> AttestationError:
    """Make the error for the nearest release; it names the first register that differs."""
    nearest = ranked[0]
    first, *more = nearest.differences
    also = f" (also differs: {', '.join(f'PCR{one.index}' for one in more)})" if more else ""
    among = f", the nearest of {len(ranked)} releases" if len(ranked) > 1 else ""
    where = (
        f"PCR{first.index}: expected {_shortened(first.expected)} of release {nearest.release.name}{among}, "
        "found "
    )
    if first.found is None:
        return refused(AttestationCode.PCR_MISSING, f"{where}no such register in the document{also}")
    return refused(AttestationCode.PCR_MISMATCH, f"{where}{_shortened(first.found)}{also}")


def _shortened(value: bytes) -> str:
    """Shorten a register to what a person compares with the output of a build."""
    return f"{value.hex()[:16]}...{value.hex()[-8:]}"


def _seconds(span: timedelta) -> str:
    """Return the count of seconds, as a file has it: ``str`` would make 99999 of them 1 day, 3:46:39."""
    return f"{span.total_seconds():.15g} s"
