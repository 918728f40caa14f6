"""Where the sections are: the strict reader's rules, each with its own code, over two views of one file.

The official reader walks section headers from byte 548 on and ignores the table in the header; QEMU and the
real hypervisor follow the table. A file on which the two views differ measures as one image and boots as
another, so the strict rule is that there is only one view: ascending, contiguous, ending at the end of the
file. Sizes are compared with the file's size before anything is read, so a section that claims 8 EiB costs
nothing. Nothing here reads section data.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from enclavectl.eif.blob import Blob
from enclavectl.eif.errors import EifError
from enclavectl.eif.findings import Finding, Severity, raise_first_error
from enclavectl.eif.format import (
    FLAG_ARM64,
    HEADER_SIZE,
    MAGIC,
    MAX_METADATA,
    MAX_SECTIONS,
    MAX_SIGNATURE,
    SECTION_HEADER_SIZE,
    VERSION,
    Header,
    Section,
    SectionKind,
    decode_header,
    decode_section,
)

BUG_54 = "resigned-size-slot"
_ODD_MEMORY = 1 << 44  # 16 TiB; the field is ignored by every reader, so it may only be remarked on
_ODD_CPUS = 4096
_LIMITS = {SectionKind.SIGNATURE: MAX_SIGNATURE, SectionKind.METADATA: MAX_METADATA}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The sections of one file, in file order, with the file that they are in."""

    file: BinaryIO
    size: int
    header: Header
    sections: tuple[Section, ...]

    def blob(self, section: Section) -> Blob:
        """The data of ``section``."""
        return Blob(file=self.file, offset=section.data_offset, size=section.size)

    def all_of(self, kind: SectionKind) -> tuple[Section, ...]:
        """Every section of one kind."""
        return tuple(section for section in self.sections if section.kind == kind)

    def first(self, kind: SectionKind) -> Section | None:
        """The first section of one kind, if there is one."""
        return next(iter(self.all_of(kind)), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What lenient reading saw.

    ``linear`` is the official reader's view. ``table`` is that of QEMU and the hypervisor; it is ``None``
    where a slot points outside the file, and equals ``linear`` on a file without layout errors. Both are
    ``None`` where the file is too short for a header.
    """

    linear: Layout | None
    table: Layout | None
    findings: tuple[Finding, ...]

    @property
    def views_differ(self) -> bool:
        """Whether readers that follow the table see another image than those that do not."""
        if self.linear is None:
            return False
        return self.table is None or self.table.sections != self.linear.sections


def parse_layout(file: BinaryIO) -> Layout:
    """The layout of a file that breaks no rule of its header, its table or its section headers.

    The file must be seekable. Reads at most 548 + 64 x 12 bytes.

    Raises:
        EifError: with the code and the offset of the first rule that is broken.
    """
    found = scan_layout(file)
    raise_first_error(found.findings)
    if found.linear is None:  # pragma: no cover - a scan without a layout always has an error
        raise EifError("no header", code="truncated-header", offset=0)
    return found.linear


def scan_layout(file: BinaryIO) -> Scan:
    """Every defect of the layout, without stopping at the first."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    data = file.read(HEADER_SIZE)
    if len(data) < HEADER_SIZE:
        finding = _error(
            "truncated-header",
            f"expected an EIF header of {HEADER_SIZE} bytes, found a file of {len(data)}",
            len(data),
        )
        return Scan(linear=None, table=None, findings=(finding,))
    header = decode_header(data)
    walked, stop = _walk(file, size)
    linear = Layout(file=file, size=size, header=header, sections=tuple(walked))
    table, table_findings = _table(linear)
    findings = [
        *_check_header(header),
        *table_findings,
        *([stop] if stop else ()),
        *_check_tail(linear, complete=stop is None),
        *_check_slots(header),
        *_check_sections(linear),
        *_check_counts(linear),
    ]
    return Scan(linear=linear, table=table, findings=tuple(findings))


def _error(code: str, message: str, offset: int | None = None, hint: str | None = None) -> Finding:
    return Finding(severity=Severity.ERROR, code=code, message=message, offset=offset, hint=hint)


def _warning(code: str, message: str, offset: int) -> Finding:
    return Finding(severity=Severity.WARNING, code=code, message=message, offset=offset)


def _read_section(file: BinaryIO, offset: int) -> Section:
    file.seek(offset)
    return decode_section(file.read(SECTION_HEADER_SIZE), offset)


def _walk(file: BinaryIO, size: int) -> tuple[list[Section], Finding | None]:
    """The section headers one after the other, as the official reader finds them, and why it stopped."""
    sections: list[Section] = []
    offset = HEADER_SIZE
    while offset + SECTION_HEADER_SIZE <= size:
        if len(sections) > MAX_SECTIONS:
            return sections, _error("section-count", f"more than {MAX_SECTIONS} sections follow", offset)
        section = _read_section(file, offset)
        if section.end > size:
            left = size - section.data_offset
            return sections, _error(
                "section-past-end",
                f"the {section.name} section claims {section.size} bytes, but {left} are left in the file",
                offset,
            )
        sections.append(section)
        offset = section.end
    return sections, None


def _check_header(header: Header) -> Iterator[Finding]:
    if header.magic != MAGIC:
        yield _error("magic", f"expected the magic {MAGIC!r}, found {header.magic!r}", 0)
    if not 2 <= header.version <= VERSION:
        yield _error("version", f"expected EIF version 2, 3 or 4, found {header.version}", 4)
    if header.flags & ~FLAG_ARM64:
        yield _error(
            "flags-unknown",
            f"header flags {header.flags:#06x} have bits beside the architecture; "
            "how such an image is measured is not documented, so its PCR0 is unknown",
            6,
        )
    if not 0 < header.default_memory <= _ODD_MEMORY or not 0 < header.default_cpus <= _ODD_CPUS:
        yield _warning(
            "default-resources",
            f"odd default memory ({header.default_memory} bytes) or CPUs ({header.default_cpus})",
            8,
        )
    for value, offset in ((header.reserved, 24), (header.unused, 540)):
        if value:
            yield _error("reserved-nonzero", f"expected reserved bytes to be zero, found {value:#x}", offset)
    least = 4 if header.version == VERSION else 3
    if not least <= header.section_count <= MAX_SECTIONS:
        yield _error(
            "section-count", f"expected {least} to {MAX_SECTIONS} sections, found {header.section_count}", 26
        )


def _check_slots(header: Header) -> Iterator[Finding]:
    for index in range(min(header.section_count, MAX_SECTIONS), MAX_SECTIONS):
        if header.offsets[index] or header.sizes[index]:
            yield _error("unused-slot", f"slot {index} is not in use, but not zero", 28 + 8 * index)


def _table(linear: Layout) -> tuple[Layout | None, list[Finding]]:
    """The table's view, and every way in which it differs from the linear one."""
    header, findings, sections = linear.header, [], []
    complete = True
    starts = {section.offset for section in linear.sections}
    seen: set[int] = set()
    expected = HEADER_SIZE
    for index in range(min(header.section_count, MAX_SECTIONS)):
        offset, slot = header.offsets[index], header.sizes[index]
        place = 28 + 8 * index
        if offset + SECTION_HEADER_SIZE > linear.size:
            findings.append(_error("section-outside-file", f"slot {index} points to {offset}", place))
            complete = False
            continue
        if offset != expected:
            code = "section-gap" if offset > expected else "section-overlap"
            if offset in seen:
                code = "section-overlap"
            elif offset in starts:
                code = "section-order"
            findings.append(
                _error(code, f"expected section {index} at {expected}; its slot says {offset}", place)
            )
        seen.add(offset)
        section = _read_section(linear.file, offset)
        sections.append(section)
        if slot != section.size:
            findings.append(_size_finding(linear, section, index))
        if section.end > linear.size:  # the walk's finding says it better than whatever would follow here
            complete = False
            break
        expected = section.end
    table = Layout(file=linear.file, size=linear.size, header=header, sections=tuple(sections))
    return (table if complete else None), findings


def _size_finding(linear: Layout, section: Section, index: int) -> Finding:
    place = 284 + 8 * index
    slot = linear.header.sizes[index]
    text = f"the table says {slot} bytes for section {index}, its own header says {section.size}"
    if section.kind == SectionKind.SIGNATURE and section.end == linear.size:
        return _error(
            BUG_54,
            f"{text}; the official tools leave this damage when they sign a signed image again",
            place,
            hint="sign it again with `enclavectl eif sign`, which writes every field anew",
        )
    return _error("section-size-mismatch", text, place)


def _check_tail(linear: Layout, *, complete: bool) -> Iterator[Finding]:
    """Nothing may follow the last section that the header counts."""
    for section in linear.sections[linear.header.section_count :]:
        yield _error(
            "hidden-section",
            f"a {section.name} section follows the {linear.header.section_count} that the header counts",
            section.offset,
        )
    end = linear.sections[-1].end if linear.sections else HEADER_SIZE
    if complete and end != linear.size:
        yield _error("trailing-data", f"{linear.size - end} bytes follow the last section", end)


def _check_sections(linear: Layout) -> Iterator[Finding]:
    for section in linear.sections:
        if section.flags:
            yield _error(
                "section-flags", f"expected section flags 0, found {section.flags:#x}", section.offset + 2
            )
        try:
            kind = SectionKind(section.kind)
        except ValueError:
            yield _error("section-type", f"no section type {section.kind} exists", section.offset)
            continue
        if not section.size:
            if kind is SectionKind.RAMDISK:
                yield Finding(
                    severity=Severity.NOTE,
                    code="empty-ramdisk",
                    message="a ramdisk without data; QEMU refuses such an image",
                    offset=section.offset,
                )
            else:
                yield _error("empty-section", f"the {section.name} section has no data", section.offset)
        limit = _LIMITS.get(kind)
        if limit is not None and section.size > limit:
            yield _error(
                "section-too-large",
                f"the {section.name} section may hold {limit} bytes, found {section.size}",
                section.offset,
            )


def _check_counts(linear: Layout) -> Iterator[Finding]:
    kinds = [section.kind for section in linear.sections]
    counts = Counter(kinds)
    for kind in SectionKind:
        if kind is not SectionKind.RAMDISK and counts[kind] > 1:
            second = [section for section in linear.sections if section.kind == kind][1]
            yield _error("duplicate-section", f"a second {second.name} section", second.offset)
    required = [SectionKind.KERNEL, SectionKind.CMDLINE, SectionKind.RAMDISK]
    if linear.header.version == VERSION:
        required.append(SectionKind.METADATA)
    for kind in required:
        if not counts[kind]:
            yield _error("missing-section", f"an EIF needs a {kind.name.lower()} section; there is none")
    if counts[SectionKind.KERNEL] and counts[SectionKind.RAMDISK]:
        first = linear.sections[kinds.index(SectionKind.RAMDISK)]
        if first.offset < linear.sections[kinds.index(SectionKind.KERNEL)].offset:
            yield _error("section-order", "a ramdisk stands before the kernel", first.offset)
