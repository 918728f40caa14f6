"""One defect, or one remark, about a file; lists of these are what lenient reading returns."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from enclavectl.eif.errors import EifError


class Severity(StrEnum):
    """The weight of a finding. A strict reader stops at an error; a sound file has only notes."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """``code`` is stable; ``offset`` is in bytes from the start of the file, where there is one place."""

    severity: Severity
    code: str
    message: str
    offset: int | None = None
    hint: str | None = None

    def to_json(self) -> dict[str, object]:
        """Return the finding as JSON values; ``offset`` and ``hint`` only where they exist."""
        value: dict[str, object] = {
            "severity": self.severity.value,
            "code": self.code,
            "message": self.message,
        }
        if self.offset is not None:
            value["offset"] = self.offset
        if self.hint is not None:
            value["hint"] = self.hint
        return value

    def to_error(self) -> EifError:
        """Return the exception that strict reading raises for this finding."""
        return EifError(self.message, code=self.code, offset=self.offset, hint=self.hint)


def finding_of(error: EifError) -> Finding:
    """Make a finding of a caught error, so that lenient reading can go on."""
    return Finding(
        severity=Severity.ERROR,
        code=error.code,
        message=error.reason,
        offset=error.offset,
        hint=error.hint,
    )


def raise_first_error(findings: tuple[Finding, ...]) -> None:
    """Return if no finding is an error.

    Raises:
        EifError: the first one that is.
    """
    for finding in findings:
        if finding.severity is Severity.ERROR:
            raise finding.to_error()
