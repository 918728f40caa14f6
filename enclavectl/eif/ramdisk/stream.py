"""A section's data as a stream: what the cpio reader wants, unpacked on the way where it is gzip."""

from __future__ import annotations

import io
import zlib

from enclavectl.eif.errors import CpioError
from enclavectl.eif.file_range import CHUNK, Blob
from enclavectl.eif.ramdisk.cpio import ByteSource

MAX_UNPACKED = 64 << 30
_GZIP_MAGIC = b"\x1f\x8b\x08"
_BUFFER = 1 << 16


class _BlobStream(io.RawIOBase):
    """Reads a blob from its start to its end; other users of the same file may move its position."""

    def __init__(self, blob: Blob) -> None:
        self._blob, self._at = blob, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        left = self._blob.size - self._at
        if not left:
            return 0
        self._blob.file.seek(self._blob.offset + self._at)
        data = self._blob.file.read(min(len(buffer), left))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


class _GzipStream(io.RawIOBase):
    """Unpacks gzip files that stand behind each other, as far as ``MAX_UNPACKED``."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._inflate = zlib.decompressobj(wbits=31)
        self._input = b""
        self._total = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        while True:
            if self._inflate.eof:
                self._input = self._inflate.unused_data.lstrip(b"\0") or self._skip_zeros()
                if not self._input:
                    return 0
                self._inflate = zlib.decompressobj(wbits=31)
            if not self._input:
                self._input = self._source.read(_BUFFER)
            data = self._step(len(buffer))
            if data:
                buffer[: len(data)] = data
                return len(data)

    def _step(self, limit: int) -> bytes:
        ended = not self._input
        try:
            data = self._inflate.decompress(self._input, limit)
        except zlib.error as exc:
            raise CpioError(f"the ramdisk is not gzip ({exc})", code="ramdisk-gzip") from exc
        self._input = self._inflate.unconsumed_tail
        self._total += len(data)
        if self._total > MAX_UNPACKED:
            raise CpioError(f"the ramdisk unpacks to more than {MAX_UNPACKED} bytes", code="ramdisk-gzip")
        if ended and not data and not self._inflate.eof:
            raise CpioError("the compressed ramdisk ends early", code="ramdisk-gzip")
        return data

    def _skip_zeros(self) -> bytes:
        while data := self._source.read(_BUFFER):
            if rest := data.lstrip(b"\0"):
                return rest
        return b""


def open_ramdisk(blob: Blob) -> ByteSource:
    """The archive in a ramdisk section, plain or gzip; reading may raise ``CpioError`` (``ramdisk-gzip``)."""
    plain = io.BufferedReader(_BlobStream(blob), _BUFFER)
    if blob.head(len(_GZIP_MAGIC)) != _GZIP_MAGIC:
        return plain
    return io.BufferedReader(_GzipStream(plain), CHUNK)
