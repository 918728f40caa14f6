"""The places of a file's sections: one view of the file, or the two that readers may have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from enclavectl.eif.file_range import FileRange
from enclavectl.eif.findings import Finding
from enclavectl.eif.format import Header, Section, SectionKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The sections of one file in file order, and the open file."""

    file: BinaryIO
    size: int
    header: Header
    sections: tuple[Section, ...]

    def data(self, section: Section) -> FileRange:
        """Return the data of ``section``."""
        return FileRange(file=self.file, offset=section.data_offset, size=section.size)

    def all_of(self, kind: SectionKind) -> tuple[Section, ...]:
        """Return every section of one kind."""
        return tuple(section for section in self.sections if section.kind == kind)

    def first(self, kind: SectionKind) -> Section | None:
        """Return the first section of one kind, or None."""
        return next(iter(self.all_of(kind)), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """The result of lenient reading of the layout.

    ``linear`` is the official reader's view. ``table`` is the view of QEMU and the hypervisor; it is ``None``
    if a slot points outside the file, and equals ``linear`` in a file without layout errors. Both are
    ``None`` if the file is too short for a header.
    """

    linear: Layout | None
    table: Layout | None
    findings: tuple[Finding, ...]

    @property
    def views_differ(self) -> bool:
        """True if readers that follow the table see another image than readers that do not."""
        if self.linear is None:
            return False
        return self.table is None or self.table.sections != self.linear.sections
