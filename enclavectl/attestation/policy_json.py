"""Policies as JSON values, for the outputs of commands."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from enclavectl.attestation.policy import Policy
from enclavectl.attestation.release import ExpiryNote, Release, Revocation
from enclavectl.label import MODEL_PCR


def policy_json(policy: Policy, *, at: datetime) -> dict[str, object]:
    """Return a policy, with what each release is worth at a time."""
    return {
        "accept": sorted(str(one) for one in policy.accept),
        "max_age_s": policy.max_age // timedelta(seconds=1),
        "clock_skew_s": policy.clock_skew // timedelta(seconds=1),
        "unsafe_allow_debug": policy.unsafe_allow_debug,
        "releases": [
            {**release_json(one), "state": str(policy.state_of(one, at))} for one in policy.releases
        ],
        "revoked": [revocation_json(one) for one in policy.revoked],
    }


def release_json(release: Release) -> dict[str, object]:
    """Return a release."""
    return {
        "name": release.name,
        "label": release.label,
        "not_before": time_json(release.not_before),
        "expires": time_json(release.expires),
        "notes": release.notes,
        "model_pinned": MODEL_PCR in release.pcrs,
        "pcrs": _pcrs_json(release.pcrs),
    }


def revocation_json(revocation: Revocation) -> dict[str, object]:
    """Return an entry of the list of revocations."""
    return {
        "name": revocation.name or None,
        "label": revocation.label,
        "pcrs": None if revocation.pcrs is None else _pcrs_json(revocation.pcrs),
        "date": revocation.date.isoformat(),
        "reason": revocation.reason,
    }


def note_json(note: ExpiryNote) -> dict[str, object]:
    """Return the note on a release that soon expires."""
    return {
        "code": "expires-soon",
        "release": note.release,
        "expires": note.expires.isoformat(),
        "message": note.message,
    }


def time_json(when: datetime | None) -> str | None:
    """Return a time with its offset; null for none."""
    return None if when is None else when.isoformat(timespec="seconds")


def _pcrs_json(pcrs: Mapping[int, bytes]) -> dict[str, str]:
    return {str(index): value.hex() for index, value in pcrs.items()}
