"""Checks of section contents that no hash covers.

PCRs hash bytes without lengths. An attacker who moves bytes from the command line to the end of the kernel
keeps PCR0, PCR1 and the signature, and boots the measured image with another command line. So the kernel's
own header must account for the section's whole length, and each ramdisk must begin with a ramdisk's magic.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from enclavectl.eif.errors import CpioError
from enclavectl.eif.file_range import FileRange
from enclavectl.eif.findings import Finding, Severity
from enclavectl.eif.format import MAX_CMDLINE, Arch, SectionKind, kernel_arch
from enclavectl.eif.layout import Layout
from enclavectl.eif.packed import MAGIC_SIZE, packing_of
from enclavectl.eif.ramdisk.budget import ReadBudget
from enclavectl.eif.ramdisk.cpio import show
from enclavectl.eif.ramdisk.stream import NOT_READ, not_read_error, read_ramdisk
from enclavectl.eif.rules import warning

_HEAD = 4096  # the setup header ends at 0x268; a PE header for Secure Boot stands within a page
_CHECKSUM = 4  # older kernels end in a CRC-32 that syssize does not always cover
CPIO_MAGIC = b"070701"
CPIO_MAGICS = (CPIO_MAGIC, b"070702")


def lint_contents(layout: Layout) -> Iterator[Finding]:
    """Check kernel, command line and ramdisks by their first bytes; yield the oddities."""
    for section in layout.sections:
        data, offset = layout.data(section), section.data_offset
        if section.kind == SectionKind.KERNEL:
            yield from _kernel(data, layout.header.arch)
        elif section.kind == SectionKind.CMDLINE:
            yield from _cmdline(data)
        elif section.kind == SectionKind.RAMDISK and section.size:
            yield from _ramdisk_head(data.head(MAGIC_SIZE), offset)


def _ramdisk_head(head: bytes, offset: int) -> Iterator[Finding]:
    packing = packing_of(head)
    if packing is not None and packing.is_bootable and not packing.is_readable:
        yield _not_read(f"a ramdisk is {not_read_error(packing).reason}", offset)
    elif not (packing.is_readable if packing else head.startswith(CPIO_MAGICS)):
        yield warning(
            "ramdisk-magic", f"expected a cpio archive, plain or packed, found {head[:6]!r}", offset
        )


def _not_read(message: str, offset: int) -> Finding:
    """Make a remark about a ramdisk that Linux may boot but this program cannot read."""
    return Finding(severity=Severity.NOTE, code=NOT_READ, message=message, offset=offset)


def lint_ramdisks(layout: Layout) -> Iterator[Finding]:
    """Read each ramdisk whole, and yield a finding if it is not a valid archive.

    Their unpacked size is bounded by their size (``ReadBudget``).
    """
    ramdisks = [section for section in layout.all_of(SectionKind.RAMDISK) if section.size]
    budget = ReadBudget.for_size(sum(section.size for section in ramdisks))
    for index, section in enumerate(ramdisks):
        data, offset = layout.data(section), section.data_offset
        packing = packing_of(head := data.head(MAGIC_SIZE))
        if not (packing.is_readable if packing else head.startswith(CPIO_MAGICS)):
            continue  # lint_contents reports it
        try:
            for entry in read_ramdisk(data, budget):
                if entry.name.startswith(b"/") or b".." in entry.name.split(b"/"):
                    shown = show(entry.name[:64])
                    yield warning(
                        "ramdisk-name", f"ramdisk {index}: {shown}: a path out of the archive", offset
                    )
                    break
        except CpioError as exc:
            place = "" if exc.offset is None else f" at byte {exc.offset} of the archive"
            text = f"ramdisk {index}: {exc.reason}{place}"
            yield _not_read(text, offset) if exc.code == NOT_READ else warning(exc.code, text, offset)


def cmdline_defect(data: bytes) -> str | None:
    """Return why loaders could read the command line ``data`` differently, or None."""
    if len(data) > MAX_CMDLINE:
        return f"expected at most {MAX_CMDLINE} bytes, found {len(data)}"
    bad = next((index for index, byte in enumerate(data) if not 0x20 <= byte < 0x7F), None)
    if bad is not None:
        return f"expected printable ASCII, found byte {data[bad]:#04x} at {bad}"
    return None


def _cmdline(data: FileRange) -> Iterator[Finding]:
    defect = cmdline_defect(data.head(MAX_CMDLINE + 1))
    if defect is not None:
        yield warning("cmdline-text", f"command line: {defect}", data.offset)


def _kernel(data: FileRange, arch: Arch) -> Iterator[Finding]:
    head = data.head(_HEAD)
    found = kernel_arch(head)
    if found is None:
        yield warning(
            "kernel-format",
            "the kernel is neither a bzImage nor an arm64 Image, so its end cannot be checked",
            data.offset,
        )
    elif found is not arch:
        yield warning(
            "kernel-arch", f"the header says {arch.value}, the kernel is for {found.value}", data.offset
        )
    if found is Arch.X86_64:
        yield from _bzimage(data, head)
    elif found is Arch.ARM64:
        # image_size counts memory that the file does not fill (bss), so it is only an upper bound:
        # https://docs.kernel.org/arch/arm64/booting.html
        (image_size,) = struct.unpack_from("<Q", head, 16)
        if data.size > image_size:
            yield _boundary(data, image_size)


def _bzimage(data: FileRange, head: bytes) -> Iterator[Finding]:
    """Compare the section's size with setup_sects (0x1f1) and syssize (0x1f4, units of 16 bytes).

    https://docs.kernel.org/arch/x86/boot.html
    """
    sectors = head[0x1F1] or 4
    (syssize,) = struct.unpack_from("<I", head, 0x1F4)
    expected = (sectors + 1) * 512 + syssize * 16
    # syssize is rounded up to 16 bytes.
    if expected - 16 < data.size <= expected + _CHECKSUM:
        return
    if data.size == _signed_end(head, expected):
        return
    yield _boundary(data, expected)


def _signed_end(head: bytes, expected: int) -> int | None:
    """Return the end of a kernel signed for Secure Boot: the end of its PE header's certificate table."""
    (pe,) = struct.unpack_from("<I", head, 0x3C)
    if head[pe : pe + 4] != b"PE\0\0" or len(head) < pe + 24 + 152:
        return None
    # Data directory 4 of a PE32+ optional header (magic 0x20b) or of a PE32 one.
    (magic,) = struct.unpack_from("<H", head, pe + 24)
    table, size = struct.unpack_from("<II", head, pe + 24 + (144 if magic == 0x20B else 128))
    return table + size if abs(table - expected) < 16 + _CHECKSUM and size else None


def _boundary(data: FileRange, expected: int) -> Finding:
    return warning(
        "kernel-boundary",
        f"the kernel says that it has {expected} bytes, its section has {data.size}; "
        "bytes may have been moved between kernel and command line, which no PCR shows",
        data.offset,
    )
