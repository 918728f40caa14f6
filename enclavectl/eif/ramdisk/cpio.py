"""The newc cpio format: the records of a ramdisk, written and read as a stream.

https://docs.kernel.org/driver-api/early-userspace/buffer-format.html: ``070701`` (``070702`` is only read),
thirteen fields of eight hex digits, the name with a NUL, and the data; header plus name and data are each
padded to four.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from enclavectl.eif.errors import CpioError
from enclavectl.eif.file_range import CHUNK
from enclavectl.eif.packed import Packing, packing_of
from enclavectl.eif.ramdisk.budget import ReadBudget
from enclavectl.errors import visible

MAGIC = b"070701"
_MAGIC_CRC = b"070702"  # the same with a checksum of each file, which the kernel verifies
TRAILER = b"TRAILER!!!"
MAX_NAME = 4096  # PATH_MAX of Linux, the NUL included
MAX_U32 = 0xFFFF_FFFF
MAX_ENTRIES = 1 << 20  # our limit; Debian's whole archive in one image would not reach it
_FIELDS = 13
_HEADER = len(MAGIC) + 8 * _FIELDS
_HEX = frozenset(b"0123456789abcdefABCDEF")
_KINDS = {
    stat.S_IFIFO: "fifo",
    stat.S_IFCHR: "character device",
    stat.S_IFDIR: "directory",
    stat.S_IFBLK: "block device",
    stat.S_IFREG: "file",
    stat.S_IFLNK: "link",
    stat.S_IFSOCK: "socket",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CpioEntry:
    """One record. ``size`` is the size of its data; the data of a symbolic link is its target."""

    name: bytes
    ino: int
    mode: int
    uid: int = 0
    gid: int = 0
    nlink: int = 1
    mtime: int = 0
    size: int = 0
    dev: tuple[int, int] = (0, 0)
    rdev: tuple[int, int] = (0, 0)

    @property
    def kind(self) -> str:
        """The file type as a word."""
        return _KINDS.get(stat.S_IFMT(self.mode), "unknown")

    def to_bytes(self, at: int = 0) -> bytes:
        """Encode header, name and padding of a record at offset ``at`` of its archive.

        Raises:
            CpioError: ``cpio-range``; a number needs more than 32 bits, or the name is too long or has a NUL.
        """
        fields = (
            self.ino,
            self.mode,
            self.uid,
            self.gid,
            self.nlink,
            self.mtime,
            self.size,
            *self.dev,
            *self.rdev,
            len(self.name) + 1,
            0,
        )
        if not all(0 <= value <= MAX_U32 for value in fields):
            raise CpioError(
                f"{show(self.name)}: a number does not fit a cpio record of 32-bit fields "
                f"(size {self.size}, mtime {self.mtime}, owner {self.uid}:{self.gid})",
                code="cpio-range",
            )
        if not self.name or len(self.name) >= MAX_NAME or b"\0" in self.name:
            raise CpioError(
                f"{show(self.name[:64])}: expected a name of 1 to {MAX_NAME - 1} bytes", code="cpio-range"
            )
        data = MAGIC + b"".join(b"%08x" % value for value in fields) + self.name + b"\0"
        return data + padding(at + len(data))


def show(name: bytes) -> str:
    """Return a name for messages and JSON: UTF-8, with other bytes and unprintable characters escaped."""
    return visible(name.decode("utf-8", "backslashreplace"))


def padding(at: int, unit: int = 4) -> bytes:
    """Return the zero bytes from ``at`` to the next multiple of ``unit``."""
    return bytes(-at % unit)


class ByteSource(Protocol):
    """The one method of a file that the reader needs."""

    def read(self, size: int, /) -> bytes:
        """Read at most ``size`` of the next bytes; none at the end."""
        ...


Unpack = Callable[[Packing, bytes, ByteSource], ByteSource]


class CpioReader:
    """A reader of one archive, or of several in sequence as the kernel allows, that never seeks.

    Iteration yields each entry except trailers. ``data`` yields the current entry's content; it need not be
    called. Memory is bounded by one chunk. A broken rule raises ``CpioError``.
    """

    def __init__(
        self, source: ByteSource, *, unpack: Unpack | None = None, budget: ReadBudget | None = None
    ) -> None:
        """Read from ``source``. ``unpack`` opens packed data by its first bytes; without it, such data is
        refused.

        ``budget`` bounds the entries in addition to ``MAX_ENTRIES``.
        """
        self._source = source
        self._unpack, self._budget = unpack, budget
        self._at = 0
        self._left = 0  # unread data of the current entry
        self._back = b""  # bytes read ahead after a trailer
        self._sum: int | None = None  # the rest of the current entry's checksum, if it has one

    def __iter__(self) -> Iterator[CpioEntry]:
        """Yield each entry in turn.

        Raises:
            CpioError: ``cpio-magic``, ``cpio-header``, ``cpio-name``, ``cpio-sum``, ``cpio-truncated``,
                ``cpio-trailing`` or ``cpio-entries``, with the offset; and ``unpack``'s and ``budget``'s own.
        """
        count = 0
        head = self._enter(self._exactly(len(MAGIC)))
        while head:
            if count >= MAX_ENTRIES:
                raise self._error("cpio-entries", f"more than {MAX_ENTRIES} entries")
            entry = self._entry(head)
            if entry.name == TRAILER:
                head = self._next_archive()
                continue
            count += 1
            if self._budget is not None:
                self._budget.spend_entry(entry.name)
            yield entry
            for _ in self.data():
                pass
            head = self._exactly(len(MAGIC))

    def data(self) -> Iterator[bytes]:
        """Yield the unread content of the current entry, in pieces of at most 1 MiB.

        Raises:
            CpioError: ``cpio-truncated``.
        """
        while self._left:
            piece = self._read(min(self._left, CHUNK))
            if not piece:
                raise self._error("cpio-truncated", f"the archive ends {self._left} bytes early")
            self._left -= len(piece)
            self._at += len(piece)
            if self._sum is not None:
                self._sum = (self._sum - sum(piece)) & MAX_U32
            if not self._left:
                self._pad()
                if self._sum:
                    raise self._error("cpio-sum", "the bytes of a file are not those of its sum")
            yield piece

    def _entry(self, head: bytes) -> CpioEntry:
        start = self._at - len(MAGIC)
        if head not in (MAGIC, _MAGIC_CRC):
            raise self._error("cpio-magic", f"expected {MAGIC!r}, found {head!r}", start)
        raw = self._exactly(_HEADER - len(MAGIC))
        if not _HEX.issuperset(raw):
            raise self._error("cpio-header", "a field is not hexadecimal", start)
        values = [int(raw[index : index + 8], 16) for index in range(0, len(raw), 8)]
        ino, mode, uid, gid, nlink, mtime, size, *dev = values
        name_size = dev[4]
        if not 1 < name_size <= MAX_NAME:
            raise self._error(
                "cpio-name", f"expected a name of 2 to {MAX_NAME} bytes, found {name_size}", start
            )
        name = self._exactly(name_size)
        if name.find(b"\0") != name_size - 1:
            raise self._error("cpio-name", "expected exactly one NUL, at the end of the name", start)
        self._pad()
        self._left = size
        # Only files have it; some writers leave it zero, and Linux before 5.18 ignored it.
        self._sum = (dev[5] or None) if head == _MAGIC_CRC and stat.S_ISREG(mode) else None
        return CpioEntry(
            name=name[:-1],
            ino=ino,
            mode=mode,
            uid=uid,
            gid=gid,
            nlink=nlink,
            mtime=mtime,
            size=size,
            dev=(dev[0], dev[1]),
            rdev=(dev[2], dev[3]),
        )

    def _next_archive(self) -> bytes:
        """Skip the trailer's zeros, and return the magic of another archive or nothing at the end."""
        for _ in self.data():
            pass
        while block := self._read(CHUNK):
            rest = block.lstrip(b"\0")
            self._at += len(block) - len(rest)
            if rest:
                self._back = rest
                start = self._at
                magic = self._enter(self._exactly(len(MAGIC)))
                is_packed = self._at < start  # offsets in packed data start at zero
                if not is_packed and (start % 4 or magic not in (MAGIC, _MAGIC_CRC)):
                    raise self._error(
                        "cpio-trailing", f"expected zeros or an archive, found {magic!r}", start
                    )
                return magic
        return b""

    def _enter(self, magic: bytes) -> bytes:
        """Return ``magic``, or, if it is that of packed data, the magic of the archive inside."""
        packing = packing_of(magic)
        if self._unpack is None or packing is None:
            return magic
        self._source = self._unpack(packing, magic + self._back, self._source)
        # Inside packed data, padding counts from its start, and nothing is packed again.
        self._unpack, self._back, self._at = None, b"", 0
        return self._exactly(len(MAGIC))

    def _read(self, size: int) -> bytes:
        if self._back:
            piece, self._back = self._back[:size], self._back[size:]
            return piece
        return self._source.read(size)

    def _pad(self) -> None:
        if any(self._exactly(-self._at % 4)):
            raise self._error("cpio-header", "expected padding to be zero")

    def _exactly(self, size: int) -> bytes:
        parts = []
        while size:
            piece = self._read(size)
            if not piece:
                raise self._error("cpio-truncated", f"the archive ends {size} bytes early")
            parts.append(piece)
            size -= len(piece)
            self._at += len(piece)
        return b"".join(parts)

    def _error(self, code: str, text: str, offset: int | None = None) -> CpioError:
        return CpioError(f"cpio: {text}", code=code, offset=self._at if offset is None else offset)


class ByteSink(Protocol):
    """The one method of a file that the writer needs."""

    def write(self, data: bytes, /) -> object:
        """Append ``data``."""
        ...


class CpioWriter:
    """A writer of records, their data and the trailer; it tracks the offset for the padding."""

    def __init__(self, sink: ByteSink) -> None:
        self._sink = sink
        self.size = 0

    def add(self, entry: CpioEntry, data: Iterable[bytes] = ()) -> None:
        """Append one record.

        Raises:
            CpioError: ``cpio-range``, or ``cpio-size`` where ``data`` is not ``entry.size`` bytes.
        """
        self._write(entry.to_bytes(self.size))
        left = entry.size
        for piece in data:
            left -= len(piece)
            self._write(piece)
        if left:
            raise CpioError(
                f"{show(entry.name)}: expected {entry.size} bytes, found {entry.size - left}",
                code="cpio-size",
            )
        self._write(padding(self.size))

    def finish(self, trailer: CpioEntry, *, unit: int = 512) -> None:
        """Append the trailer and zeros up to a multiple of ``unit``."""
        self.add(trailer)
        self._write(padding(self.size, unit))

    def _write(self, data: bytes) -> None:
        self._sink.write(data)
        self.size += len(data)
