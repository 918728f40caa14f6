"""A defect or a remark about a file; lenient reading returns a list of these."""

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
    """One defect or remark. ``code`` is stable; ``offset``, in bytes from the file's start, may be None."""

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
    """Raise the first finding that is an error, if there is one.

    Raises:
        EifError: the first error among the findings.
    """
    for finding in findings:
        if finding.severity is Severity.ERROR:
            raise finding.to_error()
