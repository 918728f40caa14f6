"""Any bytes read as a cpio archive the same way in one piece and in small ones, or both raise one CpioError.

What was read writes and reads back the same.
"""

from __future__ import annotations

import io

from enclavectl.eif.errors import CpioError
from enclavectl.eif.file_range import bytes_range
from enclavectl.eif.ramdisk.cpio import TRAILER, ByteSource, CpioEntry, CpioReader, CpioWriter
from enclavectl.eif.ramdisk.stream import read_ramdisk

_Files = list[tuple[CpioEntry, bytes]]


class _Slow:
    """A source that gives at most three bytes at a time."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read(self, size: int, /) -> bytes:
        return self._file.read(min(size, 3))


def one(data: bytes) -> None:
    whole, slow = _read(io.BytesIO(data)), _read(_Slow(data))
    assert whole == slow, "the archive reads differently in small pieces"
    _entries(read_ramdisk(bytes_range(data)))
    if isinstance(whole, str):
        return
    out = io.BytesIO()
    writer = CpioWriter(out)
    for entry, content in whole:
        writer.add(entry, [content])
    writer.finish(CpioEntry(name=TRAILER, ino=0, mode=0))
    assert _read(io.BytesIO(out.getvalue())) == whole, "what was read does not write back"


def _read(source: ByteSource) -> _Files | str:
    return _entries(CpioReader(source))


def _entries(reader: CpioReader) -> _Files | str:
    try:
        return [(entry, b"".join(reader.data())) for entry in reader]
    except CpioError as exc:
        return f"{exc.code} {exc.offset}"
    except Exception as exc:
        raise AssertionError(f"reading raised {exc!r}") from exc


def _seed(*files: tuple[bytes, bytes]) -> bytes:
    out = io.BytesIO()
    writer = CpioWriter(out)
    for index, (name, content) in enumerate(files):
        writer.add(CpioEntry(name=name, ino=index, mode=0o100644, size=len(content)), [content])
    writer.finish(CpioEntry(name=TRAILER, ino=0, mode=0), unit=4)
    return out.getvalue()


SEEDS: list[bytes] = [
    _seed(),
    _seed((b"a", b"xyz"), (b"dir/b", b"")),
    _seed((b"a", b"1")) + bytes(4) + _seed(),
]
