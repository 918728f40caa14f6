"""PCR0, PCR1, PCR2, PCR8 and the CRC in one pass, in constant memory.

With H = SHA-384 and Z = 48 zero bytes (section data only, in file order, no lengths, no types)::

    PCR0 = H(Z || H(kernel || cmdline || every ramdisk))
    PCR1 = H(Z || H(kernel || cmdline || first ramdisk))
    PCR2 = H(Z || H(every later ramdisk))
    PCR8 = H(Z || H(DER of the signing certificate))        only where the image is signed

https://docs.aws.amazon.com/enclaves/latest/user/set-up-attestation.html says what each PCR stands for.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from enclavectl.eif.file_range import FileRange
from enclavectl.eif.format import CRC_OFFSET, SectionKind
from enclavectl.eif.layout import Layout

PCR_SIZE = 48
HASH_ALGORITHM = "SHA384"
OnBytes = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurements:
    """The registers as lower-case hex. ``pcr8`` is ``None`` for an image without a signature."""

    pcr0: str
    pcr1: str
    pcr2: str
    pcr8: str | None = None

    def registers(self) -> dict[str, str]:
        """Return the registers by name, in the order of nitro-cli; PCR8 only where there is one."""
        values = {"PCR0": self.pcr0, "PCR1": self.pcr1, "PCR2": self.pcr2}
        if self.pcr8 is not None:
            values["PCR8"] = self.pcr8
        return values

    def to_json(self) -> dict[str, str]:
        """Return the ``enclavectl.pcrs/1`` object."""
        return {"schema": "enclavectl.pcrs/1", "HashAlgorithm": HASH_ALGORITHM, **self.registers()}


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredFile:
    """The result of one pass over a file. ``crc32`` is computed, not read from the header."""

    measurements: Measurements
    crc32: int


def extend_once(digest: bytes) -> str:
    """Extend a register of zeros with one SHA-384 digest; return it in hex."""
    return hashlib.sha384(bytes(PCR_SIZE) + digest).hexdigest()


def certificate_pcr(der: bytes) -> str:
    """Return PCR8 of an image signed with this certificate."""
    return extend_once(hashlib.sha384(der).digest())


class Measurer:
    """The hashes behind PCR0, PCR1 and PCR2, fed with section data in file order.

    PCR0 and PCR1 hash the same bytes up to the end of the first ramdisk, so one context serves both until
    then. That context runs in its own thread, one chunk behind the caller, while the caller hashes PCR2.
    hashlib releases the interpreter lock, so two cores need about half the time of one.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pcr0")
        self._pending: Future[None] | None = None
        self._image = hashlib.sha384()
        self._boot = self._image  # replaced by a separate context at the second ramdisk
        self._application = hashlib.sha384()
        self._ramdisks = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()

    def start_section(self, kind: int) -> None:
        """Begin a section. Call this for each section, measured or not."""
        if kind == SectionKind.RAMDISK:
            self._ramdisks += 1
            if self._ramdisks == 2:
                self._join_boot_hash()
                self._boot = self._image.copy()

    def update(self, kind: int, data: bytes) -> None:
        """Hash one chunk of the current section."""
        if kind not in (SectionKind.KERNEL, SectionKind.CMDLINE, SectionKind.RAMDISK):
            return
        self._join_boot_hash()
        self._pending = self._pool.submit(self._image.update, data)
        if self._ramdisks < 2:
            return
        other = self._application if kind == SectionKind.RAMDISK else self._boot
        other.update(data)

    def finish(self, *, pcr8: str | None = None) -> Measurements:
        """Return the registers of all section data so far."""
        self._join_boot_hash()
        return Measurements(
            pcr0=extend_once(self._image.digest()),
            pcr1=extend_once(self._boot.digest()),
            pcr2=extend_once(self._application.digest()),
            pcr8=pcr8,
        )

    def _join_boot_hash(self) -> None:
        if self._pending is not None:
            self._pending.result()
            self._pending = None


def measure_layout(
    layout: Layout, *, pcr8: str | None = None, on_bytes: OnBytes | None = None
) -> MeasuredFile:
    """Compute the registers and the CRC of a contiguous layout, in one pass.

    ``on_bytes`` is called with the size of each chunk. Needs about 4 MiB, whatever the size of the file.

    Raises:
        EifError: ``short-read``; the file changed while it was read.
    """
    crc = zlib.crc32(FileRange(file=layout.file, offset=0, size=CRC_OFFSET).head(CRC_OFFSET))
    with Measurer() as measurer:
        for section in layout.sections:
            measurer.start_section(section.kind)
            crc = zlib.crc32(section.to_bytes(), crc)
            for chunk in layout.data(section).chunks():
                measurer.update(section.kind, chunk)
                crc = zlib.crc32(chunk, crc)
                if on_bytes is not None:
                    on_bytes(len(chunk))
        return MeasuredFile(measurements=measurer.finish(pcr8=pcr8), crc32=crc)


def file_crc(layout: Layout) -> int:
    """Compute the CRC of every byte of the file but the field itself, whatever the sections say.

    Raises:
        EifError: ``short-read``; the file changed while it was read.
    """
    crc = zlib.crc32(FileRange(file=layout.file, offset=0, size=CRC_OFFSET).head(CRC_OFFSET))
    rest = CRC_OFFSET + 4
    for chunk in FileRange(file=layout.file, offset=rest, size=layout.size - rest).chunks():
        crc = zlib.crc32(chunk, crc)
    return crc
