"""Streaming readers of zip, tar, gzip, bzip2 and xz files: they neither seek nor keep content.

They serve the secret scan only. They ignore damaged, encrypted and unknown content, and content beyond the
bounds below; the scan has read the packed bytes themselves by then.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Protocol

from enclavectl.eif.packed import Decompressor, PackedError, Packing, Unpacker, packing_of, unpack_pieces

MAX_DEPTH = 3  # containers in containers: a zip in a tar in a gzip
MAX_UNPACKED = 1 << 30  # bytes of one container: more than real packages unpack to; ends a bomb
_MAX_XZ_MEMORY = 32 << 20  # what `xz -8` needs; -9 would double what a build needs
_LOOKED_INTO = (
    Packing.GZIP,
    Packing.BZIP2,
    Packing.XZ,
    Packing.ZSTD,
)  # lzma has no magic that data would not have by chance
_BLOCK = 512
_ENDLESS = 1 << 64
_LOCAL = b"PK\x03\x04"
# https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, 4.3.7: version, flags, method, time, date, CRC,
# sizes packed and unpacked, lengths of the name and of the extra field
_LOCAL_HEADER = struct.Struct("<4sHHHHHIIIHH")
_STORED, _DEFLATED = 0, 8


class Inner(Protocol):
    """A consumer of a file's bytes in order."""

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes."""
        ...

    def finish(self) -> None:
        """Take note that there are no more bytes."""
        ...


Opener = Callable[[bytes], Inner]


def open_container(head: bytes, name: bytes, depth: int, opener: Opener) -> Inner | None:
    """Return a reader for a container that begins with ``head``, or None; ``opener`` gets its files."""
    if depth >= MAX_DEPTH:
        return None
    if head.startswith(_LOCAL):
        return _Zip(opener)
    if is_tar(head):
        return _Tar(opener)
    packing = packing_of(head)
    if packing is None or packing not in _LOOKED_INTO:
        return None
    return _Packed(packing, opener(_without_suffix(name)))


def is_tar(head: bytes) -> bool:
    """Return whether a file that begins with ``head`` is a tar archive."""
    return head[257:262] == b"ustar"


def _without_suffix(name: bytes) -> bytes:
    base = name.rpartition(b"/")[2]
    return base.rpartition(b".")[0] or base


class _Packed:
    """A gzip, bzip2 or xz file: one file in one or more consecutive streams."""

    def __init__(self, packing: Packing, inner: Inner) -> None:
        self._unpacker: Unpacker | None = Unpacker(packing, memory=_MAX_XZ_MEMORY)
        self._inner = inner
        self._left = MAX_UNPACKED

    def feed(self, chunk: bytes) -> None:
        if self._unpacker is None:
            return
        try:
            for piece in self._unpacker.feed(chunk):
                self._inner.feed(piece)
                self._left -= len(piece)
                if self._left <= 0:
                    break
        except PackedError:
            self._left = 0
        if self._left <= 0:
            self._unpacker = None

    def finish(self) -> None:
        self._inner.finish()


class _Tar:
    """A tar archive: its files, and any data after them as one more file."""

    def __init__(self, opener: Opener) -> None:
        self._opener = opener
        self._header = b""
        self._left = self._padding = 0
        self._inner: Inner | None = None

    def feed(self, chunk: bytes) -> None:
        at = 0
        while at < len(chunk):
            if self._left:
                piece = chunk[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                if self._inner is not None:
                    self._inner.feed(piece)
                    if not self._left:
                        self.finish()
            elif self._padding:
                skipped = min(self._padding, len(chunk) - at)
                at += skipped
                self._padding -= skipped
            else:
                piece = chunk[at : at + _BLOCK - len(self._header)]
                at += len(piece)
                self._header += piece
                if len(self._header) == _BLOCK:
                    self._start(self._header)
                    self._header = b""

    def finish(self) -> None:
        if self._inner is not None:
            self._inner.finish()
            self._inner = None

    def _start(self, header: bytes) -> None:
        digits = header[124:136].strip(b" \0")
        if not header.strip(b"\0"):
            return
        if not is_tar(header) or not digits.isdigit() or digits.strip(b"01234567"):
            self._left = _ENDLESS
            self._inner = self._opener(b"")
            self._inner.feed(header)
            return
        self._left = int(digits, 8)
        self._padding = -self._left % _BLOCK
        if header[156:157] in b"0\x00" and self._left:
            name, prefix = header[:100].partition(b"\0")[0], header[345:500].partition(b"\0")[0]
            self._inner = self._opener(prefix + b"/" + name if prefix else name)


class _Zip:
    """A zip archive: its files, found by their local headers, since a stream's directory comes last."""

    def __init__(self, opener: Opener) -> None:
        self._opener = opener
        self._waiting = b""  # of a header
        self._stored = 0
        self._stream: Decompressor | None = None
        self._inner: Inner | None = None
        self._left = MAX_UNPACKED

    def feed(self, chunk: bytes) -> None:
        while chunk and self._left > 0:
            if self._stored and self._inner is not None:
                piece, chunk = chunk[: self._stored], chunk[self._stored :]
                self._stored -= len(piece)
                self._inner.feed(piece)
                if not self._stored:
                    self.finish()
            elif self._stream is not None and self._inner is not None:
                chunk = self._inflate(self._stream, self._inner, chunk)
            else:
                chunk = self._search(self._waiting + chunk)

    def finish(self) -> None:
        if self._inner is not None:
            self._inner.finish()
        self._inner = self._stream = None

    def _inflate(self, stream: Decompressor, inner: Inner, chunk: bytes) -> bytes:
        try:
            for piece in unpack_pieces(stream, chunk):
                inner.feed(piece)
                self._left -= len(piece)
        except PackedError:
            self.finish()
            return chunk
        if not stream.eof:
            return b""
        self.finish()
        return stream.unused_data

    def _search(self, data: bytes) -> bytes:
        """Return the data after the next header; empty if the header is not complete yet."""
        at = data.find(_LOCAL)
        if at < 0:
            self._waiting = data[-3:]
            return b""
        if len(data) < at + _LOCAL_HEADER.size:
            self._waiting = data[at:]
            return b""
        _, _, flags, method, _, _, _, size, _, name_size, extra_size = _LOCAL_HEADER.unpack_from(data, at)
        start = at + _LOCAL_HEADER.size
        end = start + name_size + extra_size
        if len(data) < end:
            self._waiting = data[at:]
            return b""
        self._waiting = b""
        is_plain = not flags & 1  # without a password
        if is_plain and method == _STORED and 0 < size < 0xFFFF_FFFF:
            self._stored = size
        elif is_plain and method == _DEFLATED:
            self._stream = zlib.decompressobj(wbits=-15)
        if self._stored or self._stream is not None:
            self._inner = self._opener(data[start : start + name_size])
        return data[end:]
