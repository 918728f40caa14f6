"""Releases and revocations: the parts of a policy that say which code counts, when, and which no more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Protocol

from enclavectl.attestation.codes import PolicyCode, unusable
from enclavectl.attestation.document import PCR_BYTES, PCR_COUNT
from enclavectl.attestation.times import is_whole_utc, render_time
from enclavectl.label import MODEL_PCR, REQUIRED_PCRS, is_label, label_of

# Long enough to review, build and hand out the next release before the last day of this one.
EXPIRY_NOTICE = timedelta(days=14)
NAME_CHARACTERS = 100  # of a release: it is shown on one line of messages and answers
NOTES_CHARACTERS = 400  # a paragraph; what is longer belongs into the release's own notes
REASON_CHARACTERS = 200  # it is shown with the refusal
MAX_REVOKED_PCRS = 8  # code, model, role, instance and signer are seven registers


class Registers(Protocol):
    """What a policy looks at: the claims of a document, or what is kept of one that was verified."""

    @property
    def is_debug(self) -> bool:
        """True for an enclave in debug mode, whose registers hold zeros."""

    @property
    def pcrs(self) -> Mapping[int, bytes]:
        """The registers by number."""


class LifeState(StrEnum):
    """What a release is worth at one time."""

    VALID = "valid"
    NOT_YET_VALID = "not-yet-valid"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpiryNote:
    """A release that passes today and expires within ``EXPIRY_NOTICE``."""

    release: str
    expires: datetime
    left: timedelta

    @classmethod
    def near(cls, release: str | None, expires: datetime | None, *, at: datetime) -> ExpiryNote | None:
        """Return the note on a release that is valid at this time, None if its end is far or unknown."""
        if release is None or expires is None or expires - at > EXPIRY_NOTICE:
            return None
        return cls(release=release, expires=expires, left=expires - at)

    @property
    def message(self) -> str:
        """The note for a person."""
        days = self.left // timedelta(days=1)
        left = f"in {days} days" if days > 1 else "tomorrow" if days == 1 else "within a day"
        return f"release {self.release} expires {left}, at {render_time(self.expires)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One version of an image: a set of registers. A document must match every one of them.

    The release is valid from ``not_before`` on and before ``expires``; None is no bound. Times are UTC, in
    whole seconds. ``notes`` are for people.

    Raises:
        UsageError: PCR0, PCR1 or PCR2 is missing, a register is not 48 bytes, or it is all zero; or the life
            ends before it begins. ``code`` is a PolicyCode.
    """

    name: str
    pcrs: Mapping[int, bytes]
    not_before: datetime | None = None
    expires: datetime | None = None
    notes: str = ""

    def __post_init__(self) -> None:
        """Check the rule above, and keep an immutable copy of ``pcrs``."""
        check_name(self.name)
        where = f"release {self.name}"
        missing = [index for index in REQUIRED_PCRS if index not in self.pcrs]
        if missing:
            raise unusable(
                PolicyCode.MODEL_ALONE if MODEL_PCR in self.pcrs else PolicyCode.PCRS,
                f"{where}: PCR{missing[0]} is missing; expected at least PCR0, PCR1 and PCR2",
            )
        check_registers(self.pcrs, where)
        if len(self.notes) > NOTES_CHARACTERS or not self.notes.replace("\n", "").isprintable():
            raise unusable(
                PolicyCode.FORMAT,
                f"{where}: notes: expected at most {NOTES_CHARACTERS} printable characters",
            )
        for name, when in (("not_before", self.not_before), ("expires", self.expires)):
            if when is not None:
                check_time(when, f"{where}: {name}")
        if self.not_before is not None and self.expires is not None and self.not_before > self.expires:
            raise unusable(
                PolicyCode.CONTRADICTION,
                f"{where}: not_before ({render_time(self.not_before)}) is after expires "
                f"({render_time(self.expires)}), so it would never be valid",
                hint="Exchange the two, or take the release out.",
            )
        object.__setattr__(self, "pcrs", MappingProxyType(dict(sorted(self.pcrs.items()))))

    @property
    def label(self) -> str:
        """16 hex digits that name the code and, where PCR16 is pinned, the model."""
        return label_of(self.pcrs, model=MODEL_PCR in self.pcrs)

    def state(self, at: datetime) -> LifeState:
        """Return what the release's own life says at this time; a policy also knows revocations."""
        if self.not_before is not None and at < self.not_before:
            return LifeState.NOT_YET_VALID
        return LifeState.EXPIRED if self.expires is not None and at >= self.expires else LifeState.VALID

    def expiry_note(self, at: datetime) -> ExpiryNote | None:
        """Return a note if the release is valid and expires within ``EXPIRY_NOTICE``."""
        if self.state(at) is not LifeState.VALID:
            return None
        return ExpiryNote.near(self.name, self.expires, at=at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """A refusal of code at any time, before its date as well: a tuple of registers, or a release's label.

    A tuple revokes what holds all of its registers. A label without a model revokes that code with any model.
    ``name`` and ``reason`` are for people.

    Raises:
        UsageError: both or neither of ``label`` and ``pcrs``, or a value that cannot be used.
    """

    date: datetime
    reason: str
    label: str | None = None
    pcrs: Mapping[int, bytes] | None = None
    name: str = ""

    def __post_init__(self) -> None:
        """Check the rule above, and keep an immutable copy of ``pcrs``."""
        if self.name:
            check_name(self.name)
        where = f"revoked {self.name or self.label or 'tuple'}"
        if (self.label is None) == (self.pcrs is None):
            raise unusable(PolicyCode.FORMAT, f"{where}: expected one of label and pcrs")
        if self.label is not None and not is_label(self.label):
            raise unusable(PolicyCode.FORMAT, f"{where}: label: expected 16 lower-case hex digits")
        if not 1 <= len(self.reason) <= REASON_CHARACTERS or not self.reason.isprintable():
            raise unusable(
                PolicyCode.FORMAT,
                f"{where}: reason: expected 1 to {REASON_CHARACTERS} printable characters",
            )
        check_time(self.date, f"{where}: date")
        if self.pcrs is not None:
            if not self.pcrs:
                raise unusable(PolicyCode.EMPTY, f"{where}: no register is named, so everything would match")
            if len(self.pcrs) > MAX_REVOKED_PCRS:
                raise unusable(
                    PolicyCode.FORMAT, f"{where}: expected at most {MAX_REVOKED_PCRS} registers in a tuple"
                )
            check_registers(self.pcrs, where)
            object.__setattr__(self, "pcrs", MappingProxyType(dict(sorted(self.pcrs.items()))))

    def matches(self, pcrs: Mapping[int, bytes]) -> bool:
        """Return whether these registers, of a document or a release, are revoked."""
        if self.pcrs is not None:
            return all(pcrs.get(index) == value for index, value in self.pcrs.items())
        if any(index not in pcrs for index in REQUIRED_PCRS):
            return False
        labels = {label_of(pcrs, model=False)}
        if MODEL_PCR in pcrs:
            labels.add(label_of(pcrs, model=True))
        return self.label in labels

    @property
    def subject(self) -> str:
        """What is revoked, for a person."""
        if self.label is not None:
            what = f"label {self.label}"
        else:
            what = ", ".join(f"PCR{index}" for index in self.pcrs or ())
        return f"{self.name} ({what})" if self.name else what


def check_name(name: str) -> None:
    """Check the name of a release.

    Raises:
        UsageError: it is empty, too long or does not print.
    """
    if not 1 <= len(name) <= NAME_CHARACTERS or not name.isprintable():
        raise unusable(
            PolicyCode.FORMAT, f"release: expected a name of 1 to {NAME_CHARACTERS} printable characters"
        )


def check_registers(pcrs: Mapping[int, bytes], where: str) -> None:
    """Check indexes and values of registers; ``where`` begins the message.

    Raises:
        UsageError: an index does not exist, a value is not 48 bytes, or it is all zero.
    """
    for index, value in pcrs.items():
        if type(index) is not int or not 0 <= index < PCR_COUNT:
            raise unusable(
                PolicyCode.FORMAT, f"{where}: PCR{index}: expected an index from 0 to {PCR_COUNT - 1}"
            )
        if not isinstance(value, bytes) or len(value) != PCR_BYTES:
            raise unusable(PolicyCode.FORMAT, f"{where}: PCR{index}: expected {PCR_BYTES} bytes")
        if value == bytes(PCR_BYTES):
            raise unusable(PolicyCode.ZEROS, f"{where}: PCR{index} is all zero, which measures nothing")


def check_time(when: datetime, where: str) -> None:
    """Check that a time can be written to a file.

    Raises:
        UsageError: it is not in UTC or has fractions of a second.
    """
    if not is_whole_utc(when):
        raise unusable(PolicyCode.FORMAT, f"{where}: expected a time in UTC in whole seconds, found {when}")
