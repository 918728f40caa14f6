"""One whole file: the strict reader, and the lenient examination behind ``eif show`` and ``eif verify``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, TypeVar

from cryptography import x509

from enclavectl.eif.errors import EifError, naming
from enclavectl.eif.findings import Finding, Severity, finding_of
from enclavectl.eif.format import CRC_OFFSET, FLAG_ARM64, MAX_METADATA, MAX_SIGNATURE, SectionKind
from enclavectl.eif.layout import Layout, Scan
from enclavectl.eif.lint import lint_contents, lint_ramdisks
from enclavectl.eif.measure import MeasuredFile, Measurements, OnBytes, file_crc, measure_layout
from enclavectl.eif.metadata import Metadata, parse_metadata
from enclavectl.eif.opening import open_readable
from enclavectl.eif.scan import parse_layout, scan_layout
from enclavectl.eif.signature import (
    SignatureBlock,
    certificate_facts,
    check_validity,
    form_finding,
    issuer_names,
    key_finding,
    parse_signature,
    verify_signature,
)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A file that breaks no rule of the strict reader. The signature, if any, is not verified yet.

    ``warnings`` are about the signature section.
    """

    layout: Layout
    measurements: Measurements
    metadata: Metadata | None
    signature: SignatureBlock | None
    warnings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """The result of lenient reading.

    ``measurements`` are those of the linear view, which nitro-cli prints. If the header's table has other
    sections, ``table_measurements`` are the values that the hypervisor would measure. Both are ``None`` if
    the sections cannot be walked, or if the header's flags make PCR0 unknown. ``signature_ok`` is ``None``
    only if there is no signature, or no measurement to verify it against.
    """

    scan: Scan
    measurements: Measurements | None = None
    table_measurements: Measurements | None = None
    crc_ok: bool = False
    metadata: Metadata | None = None
    signature: SignatureBlock | None = None
    certificate: x509.Certificate | None = None
    signature_ok: bool | None = None
    findings: tuple[Finding, ...]

    @property
    def is_signed(self) -> bool:
        """True if there is a signature section, even an unreadable one."""
        linear = self.scan.linear
        return linear is not None and linear.first(SectionKind.SIGNATURE) is not None

    @property
    def sound(self) -> bool:
        """True if there is no error and no warning; ``eif verify`` requires that."""
        return all(finding.severity is Severity.NOTE for finding in self.findings)


def read_image(file: BinaryIO, *, on_bytes: OnBytes | None = None) -> Image:
    """Read the image in an open, seekable file, and measure it, in one pass and constant memory.

    Raises:
        EifError: the first rule that is broken: layout, CRC, metadata, form of signature and certificate.
    """
    layout = parse_layout(file)
    block = _read_signature(layout)
    pcr8 = certificate_facts(block)[1] if block else None
    metadata = _read_metadata(layout)
    measured = measure_layout(layout, pcr8=pcr8, on_bytes=on_bytes)
    crc = _crc_finding(layout, measured.crc32)
    if crc is not None:
        raise crc.to_error()
    return Image(
        layout=layout,
        measurements=measured.measurements,
        metadata=metadata,
        signature=block,
        warnings=tuple(_signature_warnings(layout, block)),
    )


def read_verified(file: BinaryIO, *, on_bytes: OnBytes | None = None) -> Image:
    """Read an image whose signature, if it has one, is valid; so its PCR8 is the signer's.

    The certificate's validity in time is not checked, since no register depends on it.

    Raises:
        EifError: see ``read_image`` and ``verify_signature``.
    """
    image = read_image(file, on_bytes=on_bytes)
    if image.signature is not None:
        verify_signature(image.signature, pcr0=image.measurements.pcr0)
    return image


def examine(
    file: BinaryIO,
    *,
    now: datetime,
    force_flags: bool = False,
    archives: bool = False,
    on_bytes: OnBytes | None = None,
) -> Examination:
    """Find every defect and every fact of a file, however broken it is. ``now`` needs a time zone.

    ``force_flags`` computes PCRs even if unknown header flags make them a guess. ``archives`` also reads the
    ramdisks' archives, which doubles the time.
    """
    scan = scan_layout(file)
    findings = list(scan.findings)
    layout = scan.linear
    if layout is None:
        return Examination(scan=scan, findings=scan.findings)
    metadata = _attempt(findings, lambda: _read_metadata(layout))
    block = _attempt(findings, lambda: _read_signature(layout))
    facts = _attempt(findings, lambda: certificate_facts(block) if block else None)
    pcr8 = facts[1] if facts else None
    measured = _attempt(findings, lambda: _measure(layout, pcr8, on_bytes))
    crc = _crc_finding(layout, measured.crc32) if measured else None
    findings += [crc] if crc else []
    signature_ok = False if measured and layout.first(SectionKind.SIGNATURE) else None
    if block is not None and measured is not None:
        pcr0 = measured.measurements.pcr0
        evidence = _attempt(findings, lambda: verify_signature(block, pcr0=pcr0)) if facts else None
        signature_ok = evidence is not None
    if facts:
        certificate = facts[0]
        _attempt(findings, lambda: check_validity(certificate, now))
        _attempt(findings, lambda: issuer_names(certificate))
    findings += _signature_warnings(layout, block if facts else None)
    findings += lint_contents(layout)
    findings += lint_ramdisks(layout) if archives else ()
    findings += _metadata_form(layout, metadata)
    table = _attempt(findings, lambda: _measure_table(scan))
    trusted = force_flags or not layout.header.flags & ~FLAG_ARM64
    return Examination(
        scan=scan,
        measurements=measured.measurements if measured and trusted and layout.sections else None,
        table_measurements=table.measurements if table and trusted else None,
        crc_ok=measured is not None and crc is None,
        metadata=metadata,
        signature=block,
        certificate=facts[0] if facts else None,
        signature_ok=signature_ok,
        findings=tuple(dict.fromkeys(findings)),
    )


def _attempt(findings: list[Finding], step: Callable[[], _T]) -> _T | None:
    """Run a step and return its result; turn its error into a finding, so that the examination continues."""
    try:
        return step()
    except EifError as exc:
        findings.append(finding_of(exc))
        return None


def _read_metadata(layout: Layout) -> Metadata | None:
    section = layout.first(SectionKind.METADATA)
    if section is None or not section.size:  # findings of the layout report these
        return None
    try:
        return parse_metadata(layout.data(section).read(MAX_METADATA))
    except EifError as exc:
        raise EifError(exc.reason, code=exc.code, offset=section.data_offset, hint=exc.hint) from exc


def _read_signature(layout: Layout) -> SignatureBlock | None:
    section = layout.first(SectionKind.SIGNATURE)
    if section is None or not section.size:
        return None
    return parse_signature(layout.data(section).read(MAX_SIGNATURE), offset=section.data_offset)


def _signature_warnings(layout: Layout, block: SignatureBlock | None) -> Iterator[Finding]:
    """Yield the oddities of a readable signature section, and a private key in any signature section."""
    section = layout.first(SectionKind.SIGNATURE)
    if section is None:
        return
    found = [key_finding(layout.data(section).head(MAX_SIGNATURE), section.data_offset)]
    if block is not None:
        found.append(form_finding(block, section.data_offset))
    yield from filter(None, found)


def _measure(layout: Layout, pcr8: str | None, on_bytes: OnBytes | None) -> MeasuredFile:
    measured = measure_layout(layout, pcr8=pcr8, on_bytes=on_bytes)
    end = layout.sections[-1].end if layout.sections else 0
    if end == layout.size:
        return measured
    # Bytes outside every section: the CRC that the hypervisor checks covers them, so it needs its own pass.
    return MeasuredFile(measurements=measured.measurements, crc32=file_crc(layout))


def _measure_table(scan: Scan) -> MeasuredFile | None:
    """Measure the table's sections if they differ from those of the walk."""
    view = scan.table
    if view is None or not scan.views_differ:
        return None
    if sum(section.size for section in view.sections) > 2 * view.size:
        return None  # overlapping slots could make one file cost as much as 32 files
    return measure_layout(view)


def _crc_finding(layout: Layout, crc32: int) -> Finding | None:
    claimed = layout.header.crc32
    if crc32 == claimed:
        return None
    return Finding(
        severity=Severity.ERROR,
        code="crc",
        message=f"expected the CRC {claimed:08x} of the header, computed {crc32:08x}: the file is damaged",
        offset=CRC_OFFSET,
    )


def _metadata_form(layout: Layout, metadata: Metadata | None) -> Iterator[Finding]:
    section = layout.first(SectionKind.METADATA)
    if metadata is None or section is None:
        return
    try:
        canonical = metadata.to_bytes() == layout.data(section).read(MAX_METADATA)
    except EifError:  # numbers that the official writer cannot write
        canonical = False
    if not canonical:
        yield Finding(
            severity=Severity.NOTE,
            code="metadata-form",
            message="the metadata is not in the form that the official builder writes",
            offset=section.data_offset,
        )


@contextmanager
def read_sound(path: Path) -> Iterator[Image]:
    """Read an image that the strict reader accepts; its file stays open for the block.

    Raises:
        UsageError: there is none, or it breaks a rule.
        HostError: reading it fails, also in the block.
    """
    with open_readable(path) as file:
        with naming(path):
            image = read_image(file)
        yield image  # outside of the block above: the caller may read another file
