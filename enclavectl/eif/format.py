"""Header and section headers: bytes <-> frozen dataclasses. No rule is checked here; ``layout`` does that.

All integers are big-endian and unsigned; nothing is aligned or padded. The format is described in
https://github.com/aws/aws-nitro-enclaves-image-format#enclave-image-file-eif-specification
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum, IntEnum

MAGIC = b".eif"
VERSION = 4  # 2 was the first public one, 3 added the signature, 4 the metadata
MAX_SECTIONS = 32
HEADER_SIZE = 548
CRC_OFFSET = 544  # the CRC covers every byte of the file but its own four
FLAG_ARM64 = 0x0001
MAX_SIGNATURE = 32_768  # documented maximum
MAX_METADATA = 1 << 20  # ours; nitro-cli writes the output of `docker inspect`, some 10 kB
MAX_CMDLINE = 2_048  # COMMAND_LINE_SIZE of x86 and arm64
DEFAULT_MEMORY = 1 << 30
DEFAULT_CPUS = 2

_HEADER = struct.Struct(">4sHHQQHH32Q32QII")
_SECTION = struct.Struct(">HHQ")
SECTION_HEADER_SIZE = _SECTION.size


class SectionKind(IntEnum):
    """The section types that exist. 0 and everything above 5 is refused."""

    KERNEL = 1
    CMDLINE = 2
    RAMDISK = 3
    SIGNATURE = 4
    METADATA = 5


class Arch(Enum):
    """The architecture of an image; the value is Docker's name for it."""

    X86_64 = "amd64"
    ARM64 = "arm64"

    @property
    def machine(self) -> str:
        """The kernel's name for it (``uname -m``)."""
        return "aarch64" if self is Arch.ARM64 else "x86_64"

    @property
    def kernel_name(self) -> str:
        """nitro-cli's name of the kernel file for this architecture."""
        return "Image" if self is Arch.ARM64 else "bzImage"

    @property
    def flags(self) -> int:
        """The header flags of an image for this architecture."""
        return FLAG_ARM64 if self is Arch.ARM64 else 0


def arch_named(name: str) -> Arch | None:
    """Return the architecture of this name (Docker's or ``uname -m``'s), or None if enclaves lack it."""
    return next((arch for arch in Arch if name in (arch.value, arch.machine)), None)


def kernel_arch(head: bytes) -> Arch | None:
    """Return the architecture of a kernel by its head (a bzImage or a plain arm64 Image), else None.

    https://docs.kernel.org/arch/x86/boot.html and https://docs.kernel.org/arch/arm64/booting.html
    """
    if head[0x202:0x206] == b"HdrS" and head[0x1FE:0x200] == b"\x55\xaa":
        return Arch.X86_64
    return Arch.ARM64 if head[56:60] == b"ARM\x64" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The 548 bytes at the start. ``offsets`` are of section headers, ``sizes`` are of section data only."""

    magic: bytes = MAGIC
    version: int = VERSION
    flags: int = 0
    default_memory: int = DEFAULT_MEMORY
    default_cpus: int = DEFAULT_CPUS
    reserved: int = 0
    section_count: int
    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    unused: int = 0
    crc32: int = 0

    @property
    def arch(self) -> Arch:
        """The architecture that bit 0 of the flags names."""
        return Arch.ARM64 if self.flags & FLAG_ARM64 else Arch.X86_64

    def to_bytes(self) -> bytes:
        """Encode the header as its 548 bytes."""
        return _HEADER.pack(
            self.magic,
            self.version,
            self.flags,
            self.default_memory,
            self.default_cpus,
            self.reserved,
            self.section_count,
            *self.offsets,
            *self.sizes,
            self.unused,
            self.crc32,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One section header as found at ``offset``. ``kind`` is a plain number, since files may hold any."""

    kind: int
    flags: int = 0
    offset: int
    size: int

    @property
    def data_offset(self) -> int:
        """The offset of the data."""
        return self.offset + SECTION_HEADER_SIZE

    @property
    def end(self) -> int:
        """The offset at which the next section header must start."""
        return self.data_offset + self.size

    @property
    def name(self) -> str:
        """The name of the type, for messages."""
        return kind_name(self.kind)

    def to_bytes(self) -> bytes:
        """Return the 12 bytes of the section header."""
        return _SECTION.pack(self.kind, self.flags, self.size)


def kind_name(kind: int) -> str:
    """Return the lower-case name of a section type, or ``type N`` for one that does not exist."""
    try:
        return SectionKind(kind).name.lower()
    except ValueError:
        return f"type {kind}"


def decode_header(data: bytes) -> Header:
    """Decode any ``HEADER_SIZE`` bytes as a header."""
    magic, version, flags, memory, cpus, reserved, count, *rest = _HEADER.unpack(data)
    return Header(
        magic=magic,
        version=version,
        flags=flags,
        default_memory=memory,
        default_cpus=cpus,
        reserved=reserved,
        section_count=count,
        offsets=tuple(rest[:MAX_SECTIONS]),
        sizes=tuple(rest[MAX_SECTIONS : 2 * MAX_SECTIONS]),
        unused=rest[-2],
        crc32=rest[-1],
    )


def decode_section(data: bytes, offset: int) -> Section:
    """Decode any ``SECTION_HEADER_SIZE`` bytes, found at ``offset``, as a section header."""
    kind, flags, size = _SECTION.unpack(data)
    return Section(kind=kind, flags=flags, offset=offset, size=size)
