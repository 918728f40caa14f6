"""The note on a release that passes today and not much longer."""

from __future__ import annotations

from enclavectl.attestation import ExpiryNote, VerifiedDocument
from enclavectl.cli.screen import Screen


def note_expiry(screen: Screen, document: VerifiedDocument) -> None:
    """Say so if the release that the document matched soon expires."""
    note = ExpiryNote.near(document.release, document.release_expires, at=document.timestamp)
    if note is not None:
        screen.note(f"{note.message}; ask whoever wrote the policy for the next release")
