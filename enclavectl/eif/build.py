"""Write an image: stream the sections to a temporary file, read it back strictly, then put it in place."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Protocol

from cryptography.hazmat.primitives.serialization import Encoding

from enclavectl.eif.crc import crc32_combine
from enclavectl.eif.errors import EifError
from enclavectl.eif.examine import Image, read_image
from enclavectl.eif.file_range import FileRange, bytes_range
from enclavectl.eif.format import (
    CRC_OFFSET,
    DEFAULT_CPUS,
    DEFAULT_MEMORY,
    HEADER_SIZE,
    MAX_SECTIONS,
    Arch,
    Header,
    Section,
    SectionKind,
)
from enclavectl.eif.lint import CPIO_MAGIC, cmdline_defect
from enclavectl.eif.measure import Measurements, Measurer, OnBytes, certificate_pcr
from enclavectl.eif.metadata import Metadata
from enclavectl.eif.signature import SignatureBlock, parse_certificate, verify_signature
from enclavectl.files import stage_file


class Signer(Protocol):
    """A signer of images, such as ``sign.KeySigner``."""

    def sign(self, pcr0: str) -> SignatureBlock:
        """Return the signature section for an image with this PCR0."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSpec:
    """The parts of an image. ``ramdisks`` are in boot order: the boot ramdisk, then the application's."""

    kernel: FileRange
    cmdline: str
    ramdisks: tuple[FileRange, ...]
    metadata: Metadata
    arch: Arch
    signer: Signer | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The sections in the order in which they are written, and the header fields of the builder's choice."""

    sections: tuple[tuple[SectionKind, FileRange], ...]
    flags: int
    default_memory: int = DEFAULT_MEMORY
    default_cpus: int = DEFAULT_CPUS
    signer: Signer | None = None


def build_image(spec: ImageSpec, output: Path) -> Measurements:
    """Write a whole, strictly valid image to ``output``, or leave ``output`` as it was.

    The sections stand in the official builder's order.

    Raises:
        EifError: ``cmdline-text``, ``empty-section``, ``section-count``, ``ramdisk-alignment``, a metadata
            code, or what the signer raises.
        HostError: the file could not be written.
    """
    _check_spec(spec)
    sections = (
        (SectionKind.KERNEL, spec.kernel),
        (SectionKind.CMDLINE, bytes_range(spec.cmdline.encode())),
        (SectionKind.METADATA, bytes_range(spec.metadata.to_bytes())),
        *((SectionKind.RAMDISK, ramdisk) for ramdisk in spec.ramdisks),
    )
    parts = Parts(sections=sections, flags=spec.arch.flags, signer=spec.signer)
    return write_image(parts, output)


def write_image(parts: Parts, output: Path, *, on_bytes: OnBytes | None = None) -> Measurements:
    """Write the parts to ``output``, signed if there is a signer, and read back and measure what was written.

    ``on_bytes`` counts the bytes written.

    Raises:
        EifError: what was read back is not what was written, or breaks a rule.
        HostError: the file could not be written.
    """
    with stage_file(output.parent, mode=0o644) as staged:
        written = _write(parts, staged.file, on_bytes)
        staged.file.flush()
        image = read_image(staged.file)
        if image.measurements != written:
            raise EifError(
                f"read back other measurements than were written: {image.measurements.pcr0}",
                code="read-back",
                hint="the disk or the memory of this machine is not reliable",
            )
        if parts.signer is not None:
            _verify_back(image)
        staged.commit(output)
    return written


def _verify_back(image: Image) -> None:
    if image.signature is None:
        raise EifError("the signature is missing from what was written", code="read-back")
    verify_signature(image.signature, pcr0=image.measurements.pcr0)


def _check_spec(spec: ImageSpec) -> None:
    try:
        cmdline = spec.cmdline.encode("ascii")
    except UnicodeEncodeError:
        raise EifError("command line: expected ASCII", code="cmdline-text") from None
    defect = cmdline_defect(cmdline)
    if defect is not None:
        raise EifError(f"command line: {defect}", code="cmdline-text")
    if not spec.cmdline.strip() or not spec.kernel.size or not spec.ramdisks:
        raise EifError(
            "an image needs a kernel, a command line and at least one ramdisk", code="empty-section"
        )
    count = 3 + len(spec.ramdisks) + (spec.signer is not None)
    if count > MAX_SECTIONS:
        raise EifError(f"expected at most {MAX_SECTIONS} sections, found {count}", code="section-count")
    end = 0
    for index, ramdisk in enumerate(spec.ramdisks):
        # The kernel sees all ramdisks as one buffer and finds a cpio magic at multiples of four only.
        if end % 4 and ramdisk.head(len(CPIO_MAGIC)) == CPIO_MAGIC:
            raise EifError(
                f"ramdisk {index} would start at byte {end} of the initramfs; expected a multiple of 4",
                code="ramdisk-alignment",
            )
        end += ramdisk.size


def _write(parts: Parts, file: BinaryIO, on_bytes: OnBytes | None) -> Measurements:
    """Write the sections, then the header, which needs their sizes; combine the CRCs of both."""
    file.write(bytes(HEADER_SIZE))
    body = _Body(file, on_bytes)
    with Measurer() as measurer:
        for kind, data in parts.sections:
            body.add(kind, data, measurer)
        measurements = measurer.finish()
    if parts.signer is not None:
        block = parts.signer.sign(measurements.pcr0)
        body.add(SectionKind.SIGNATURE, bytes_range(block.to_bytes()), None)
        der = parse_certificate(block.certificate_pem).public_bytes(Encoding.DER)
        measurements = replace(measurements, pcr8=certificate_pcr(der))
    unused = (0,) * (MAX_SECTIONS - len(body.sections))
    header = Header(
        flags=parts.flags,
        default_memory=parts.default_memory,
        default_cpus=parts.default_cpus,
        section_count=len(body.sections),
        offsets=tuple(section.offset for section in body.sections) + unused,
        sizes=tuple(section.size for section in body.sections) + unused,
    )
    crc = crc32_combine(zlib.crc32(header.to_bytes()[:CRC_OFFSET]), body.crc32, body.size)
    file.seek(0)
    file.write(replace(header, crc32=crc).to_bytes())
    return measurements


class _Body:
    """The writer of all bytes after the header."""

    def __init__(self, file: BinaryIO, on_bytes: OnBytes | None) -> None:
        self._file, self._on_bytes = file, on_bytes
        self.sections: list[Section] = []
        self.crc32 = self.size = 0

    def add(self, kind: SectionKind, data: FileRange, measurer: Measurer | None) -> None:
        section = Section(kind=kind, offset=HEADER_SIZE + self.size, size=data.size)
        self.sections.append(section)
        self._append(section.to_bytes())
        if measurer is not None:
            measurer.start_section(kind)
        for chunk in data.chunks():
            self._append(chunk)
            if measurer is not None:
                measurer.update(kind, chunk)

    def _append(self, data: bytes) -> None:
        self._file.write(data)
        self.crc32 = zlib.crc32(data, self.crc32)
        self.size += len(data)
        if self._on_bytes is not None:
            self._on_bytes(len(data))
