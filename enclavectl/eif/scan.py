"""The scan for sections: the strict reader's rules, each with its own code, over two views of one file.

The official reader walks section headers from byte 548 on and ignores the table in the header. QEMU and the
real hypervisor follow the table. If the two views differ, a file measures as one image and boots as another.
So the strict rule is that both are equal: ascending, contiguous, ending at the end of the file. Sizes are
compared with the file's size before anything is read, so a section that claims 8 EiB costs nothing. This
module does not read section data.
"""

from __future__ import annotations

import io
from dataclasses import replace
from typing import BinaryIO

from enclavectl.eif.errors import EifError
from enclavectl.eif.findings import Finding, raise_first_error
from enclavectl.eif.foreign import foreign_file
from enclavectl.eif.format import (
    HEADER_SIZE,
    MAX_SECTIONS,
    SECTION_HEADER_SIZE,
    Section,
    SectionKind,
    decode_header,
    decode_section,
)
from enclavectl.eif.layout import Layout, Scan
from enclavectl.eif.rules import check_counts, check_header, check_sections, check_slots, check_tail, error

BUG_54 = "resigned-size-slot"


def parse_layout(file: BinaryIO) -> Layout:
    """Read the layout of a file that breaks no rule of its header, its table or its section headers.

    The file must be seekable. Reads at most 548 + 64 x 12 bytes.

    Raises:
        EifError: with the code and the offset of the first rule that is broken.
    """
    found = scan_layout(file)
    raise_first_error(found.findings)
    if found.linear is None:  # unreachable, since a scan without a layout has an error; for the type checker
        raise EifError("no header", code="truncated-header", offset=0)
    return found.linear


def scan_layout(file: BinaryIO) -> Scan:
    """Find every defect of the layout, without stopping at the first."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    data = file.read(HEADER_SIZE)
    foreign = foreign_file(data)
    if foreign is not None:  # every other rule would find it broken as well
        code = "magic" if data else "truncated-header"
        finding = error(code, f"expected an enclave image (EIF), found {foreign.name}", 0)
        return Scan(linear=None, table=None, findings=(replace(finding, hint=foreign.hint),))
    if len(data) < HEADER_SIZE:
        finding = error(
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
        *check_header(header),
        *table_findings,
        *([stop] if stop else ()),
        *check_tail(linear, complete=stop is None),
        *check_slots(header),
        *check_sections(linear),
        *check_counts(linear),
    ]
    return Scan(linear=linear, table=table, findings=tuple(findings))


def _read_section(file: BinaryIO, offset: int) -> Section:
    file.seek(offset)
    return decode_section(file.read(SECTION_HEADER_SIZE), offset)


def _walk(file: BinaryIO, size: int) -> tuple[list[Section], Finding | None]:
    """Walk the section headers as the official reader does; return them and the defect that stopped it."""
    sections: list[Section] = []
    offset = HEADER_SIZE
    while offset + SECTION_HEADER_SIZE <= size:
        if len(sections) > MAX_SECTIONS:
            return sections, error("section-count", f"more than {MAX_SECTIONS} sections follow", offset)
        section = _read_section(file, offset)
        if section.end > size:
            left = size - section.data_offset
            return sections, error(
                "section-past-end",
                f"the {section.name} section claims {section.size} bytes, but {left} are left in the file",
                offset,
            )
        sections.append(section)
        offset = section.end
    return sections, None


def _table(linear: Layout) -> tuple[Layout | None, list[Finding]]:
    """Read the table's view; find every difference from the linear view."""
    header, findings, sections = linear.header, [], []
    complete = True
    starts = {section.offset for section in linear.sections}
    seen: set[int] = set()
    expected = HEADER_SIZE
    for index in range(min(header.section_count, MAX_SECTIONS)):
        offset, slot = header.offsets[index], header.sizes[index]
        place = 28 + 8 * index
        if offset + SECTION_HEADER_SIZE > linear.size:
            findings.append(error("section-outside-file", f"slot {index} points to {offset}", place))
            complete = False
            continue
        if offset != expected:
            code = "section-gap" if offset > expected else "section-overlap"
            if offset in seen:
                code = "section-overlap"
            elif offset in starts:
                code = "section-order"
            findings.append(
                error(code, f"expected section {index} at {expected}; its slot says {offset}", place)
            )
        seen.add(offset)
        section = _read_section(linear.file, offset)
        sections.append(section)
        if slot != section.size:
            findings.append(_size_finding(linear, section, index))
        if section.end > linear.size:  # the walk has reported it; what follows here would only repeat it
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
        return error(
            BUG_54,
            f"{text}; the official tools leave this damage when they sign a signed image again",
            place,
            hint="sign it again with `enclavectl eif sign`, which writes every field anew",
        )
    return error("section-size-mismatch", text, place)
