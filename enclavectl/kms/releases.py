"""A release as a key policy sees it: registers, and the time in which they count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from enclavectl.label import MODEL_PCR, REQUIRED_PCRS, label_of


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRelease:
    """The registers of one release, and when it counts. Times are UTC in whole seconds; None is no bound."""

    name: str
    pcrs: Mapping[int, bytes]
    not_before: datetime | None = None
    expires: datetime | None = None

    @property
    def sid(self) -> str:
        """The statement's Sid: a release's name may have characters that no Sid can have.

        It has the digits of the release's label, and differs for releases that differ in any register.
        """
        label = label_of(self.pcrs, model=MODEL_PCR in self.pcrs)
        others = [index for index in self.pcrs if index not in (*REQUIRED_PCRS, MODEL_PCR)]
        if not others:
            return f"Release{label}"
        rest = b"".join(bytes((index,)) + self.pcrs[index] for index in sorted(others))
        return f"Release{label}{sha256(rest).hexdigest()[:8]}"
