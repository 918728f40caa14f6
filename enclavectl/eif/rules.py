"""The strict reader's rules for header, slots and section headers, each with its own code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from enclavectl.eif.findings import Finding, Severity
from enclavectl.eif.format import (
    FLAG_ARM64,
    HEADER_SIZE,
    MAGIC,
    MAX_METADATA,
    MAX_SECTIONS,
    MAX_SIGNATURE,
    VERSION,
    Header,
    SectionKind,
)
from enclavectl.eif.layout import Layout

_ODD_MEMORY = 1 << 44  # 16 TiB; every reader ignores the field, so it only deserves a remark
_ODD_CPUS = 4096  # more than any instance has
_LIMITS = {SectionKind.SIGNATURE: MAX_SIGNATURE, SectionKind.METADATA: MAX_METADATA}


def error(code: str, message: str, offset: int | None = None, hint: str | None = None) -> Finding:
    """Make a finding at which the strict reader stops."""
    return Finding(severity=Severity.ERROR, code=code, message=message, offset=offset, hint=hint)


def warning(code: str, message: str, offset: int) -> Finding:
    """Make a finding that does not stop the strict reader."""
    return Finding(severity=Severity.WARNING, code=code, message=message, offset=offset)


def check_header(header: Header) -> Iterator[Finding]:
    """Check the fields before the table and the reserved bytes after it."""
    if header.magic != MAGIC:
        found = "".join(chr(byte) if 0x20 < byte < 0x7F else f"\\x{byte:02x}" for byte in header.magic)
        yield error("magic", f"expected an enclave image (EIF), which begins with .eif; found {found}", 0)
    if not 2 <= header.version <= VERSION:
        yield error("version", f"expected EIF version 2, 3 or 4, found {header.version}", 4)
    if header.flags & ~FLAG_ARM64:
        yield error(
            "flags-unknown",
            f"header flags {header.flags:#06x} have bits beside the architecture; "
            "how such an image is measured is not documented, so its PCR0 is unknown",
            6,
            hint="enclavectl eif show --lenient --force-flags measures it like any other, which is a guess",
        )
    if not 0 < header.default_memory <= _ODD_MEMORY or not 0 < header.default_cpus <= _ODD_CPUS:
        yield warning(
            "default-resources",
            f"odd default memory ({header.default_memory} bytes) or CPUs ({header.default_cpus})",
            8,
        )
    for value, offset in ((header.reserved, 24), (header.unused, 540)):
        if value:
            yield error("reserved-nonzero", f"expected reserved bytes to be zero, found {value:#x}", offset)
    least = 4 if header.version == VERSION else 3
    if not least <= header.section_count <= MAX_SECTIONS:
        yield error(
            "section-count", f"expected {least} to {MAX_SECTIONS} sections, found {header.section_count}", 26
        )


def check_slots(header: Header) -> Iterator[Finding]:
    """Check that the unused slots are zero."""
    for index in range(min(header.section_count, MAX_SECTIONS), MAX_SECTIONS):
        if header.offsets[index] or header.sizes[index]:
            yield error("unused-slot", f"slot {index} is not in use, but not zero", 28 + 8 * index)


def check_tail(linear: Layout, *, complete: bool) -> Iterator[Finding]:
    """Check that nothing follows the last section that the header counts."""
    for section in linear.sections[linear.header.section_count :]:
        yield error(
            "hidden-section",
            f"a {section.name} section follows the {linear.header.section_count} that the header counts",
            section.offset,
        )
    end = linear.sections[-1].end if linear.sections else HEADER_SIZE
    if complete and end != linear.size:
        yield error("trailing-data", f"{linear.size - end} bytes follow the last section", end)


def check_sections(linear: Layout) -> Iterator[Finding]:
    """Check flags, type and size of each section."""
    for section in linear.sections:
        if section.flags:
            yield error(
                "section-flags", f"expected section flags 0, found {section.flags:#x}", section.offset + 2
            )
        try:
            kind = SectionKind(section.kind)
        except ValueError:
            yield error("section-type", f"no section type {section.kind} exists", section.offset)
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
                yield error("empty-section", f"the {section.name} section has no data", section.offset)
        limit = _LIMITS.get(kind)
        if limit is not None and section.size > limit:
            yield error(
                "section-too-large",
                f"the {section.name} section may hold {limit} bytes, found {section.size}",
                section.offset,
            )


def check_counts(linear: Layout) -> Iterator[Finding]:
    """Check that required sections exist, none repeats that may not, and the kernel precedes the ramdisks."""
    kinds = [section.kind for section in linear.sections]
    counts = Counter(kinds)
    for kind in SectionKind:
        if kind is not SectionKind.RAMDISK and counts[kind] > 1:
            second = [section for section in linear.sections if section.kind == kind][1]
            yield error("duplicate-section", f"a second {second.name} section", second.offset)
    required = [SectionKind.KERNEL, SectionKind.CMDLINE, SectionKind.RAMDISK]
    if linear.header.version == VERSION:
        required.append(SectionKind.METADATA)
    for kind in required:
        if not counts[kind]:
            yield error("missing-section", f"an EIF needs a {kind.name.lower()} section; there is none")
    if counts[SectionKind.KERNEL] and counts[SectionKind.RAMDISK]:
        first = linear.sections[kinds.index(SectionKind.RAMDISK)]
        if first.offset < linear.sections[kinds.index(SectionKind.KERNEL)].offset:
            yield error("section-order", "a ramdisk stands before the kernel", first.offset)
