"""The output that `eif show`, `eif pcrs` and `eif verify` share."""

from __future__ import annotations

from collections.abc import Sequence

from enclavectl.cli.screen import Screen
from enclavectl.eif.findings import Finding


def draw_findings(screen: Screen, findings: Sequence[Finding]) -> None:
    """Write each finding as a note, with its place in the file."""
    for finding in findings:
        place = "" if finding.offset is None else f" (at byte {finding.offset})"
        hint = "" if finding.hint is None else f"; try: {finding.hint}"
        screen.note(f"{finding.severity}: {finding.code}: {finding.message}{place}{hint}")
