"""The newc reader and writer."""

from __future__ import annotations

import gzip
import io
import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclavectl.eif.errors import CpioError
from enclavectl.eif.file_range import bytes_range
from enclavectl.eif.ramdisk.cpio import TRAILER, CpioEntry, CpioReader, CpioWriter, show
from enclavectl.eif.ramdisk.stream import read_ramdisk

Files = list[tuple[CpioEntry, bytes]]
u32 = st.integers(0, 2**32 - 1)
names = st.binary(min_size=1, max_size=60).filter(lambda name: b"\0" not in name and name != TRAILER)


@st.composite
def files(draw: st.DrawFn) -> tuple[CpioEntry, bytes]:
    data = draw(st.binary(max_size=40))
    entry = CpioEntry(
        name=draw(names),
        ino=draw(u32),
        mode=draw(u32),
        uid=draw(u32),
        gid=draw(u32),
        nlink=draw(u32),
        mtime=draw(u32),
        size=len(data),
        dev=(draw(u32), draw(u32)),
        rdev=(draw(u32), draw(u32)),
    )
    return entry, data


def write(found: Files, unit: int = 512) -> bytes:
    out = io.BytesIO()
    writer = CpioWriter(out)
    for entry, data in found:
        writer.add(entry, [data])
    writer.finish(CpioEntry(name=TRAILER, ino=0, mode=0), unit=unit)
    assert writer.size == out.tell()
    return out.getvalue()


class OneByOne:
    """A source that gives one byte at a time."""

    def __init__(self, data: bytes) -> None:
        self._bytes = iter(data)

    def read(self, size: int, /) -> bytes:
        return bytes(itertools.islice(self._bytes, 1)) if size else b""


def read(source: OneByOne | io.BytesIO) -> Files:
    reader = CpioReader(source)
    return [(entry, b"".join(reader.data())) for entry in reader]


@given(st.lists(files(), max_size=5), st.sampled_from([1, 4, 512]))
def test_reading_gives_what_was_written_in_pieces_of_any_size(found: Files, unit: int) -> None:
    data = write(found, unit)
    assert read(io.BytesIO(data)) == found
    assert read(OneByOne(data)) == found
    assert list(CpioReader(io.BytesIO(data))) == [entry for entry, _ in found]


ENTRY = CpioEntry(name=b"a", ino=1, mode=0o100644, size=3)
ARCHIVE = write([(ENTRY, b"xyz")], unit=4)


def test_every_truncation_is_one_error() -> None:
    for size in range(len(ARCHIVE)):
        with pytest.raises(CpioError) as caught:
            read(io.BytesIO(ARCHIVE[:size]))
        assert caught.value.code == "cpio-truncated"
        assert caught.value.offset == size


def test_archives_may_stand_behind_each_other_at_multiples_of_four() -> None:
    assert read(io.BytesIO(ARCHIVE + bytes(8) + ARCHIVE)) == [(ENTRY, b"xyz")] * 2
    for tail in (bytes(2) + ARCHIVE, b"junk", ARCHIVE[:5], b"\0\0\0\0\x01"):
        with pytest.raises(CpioError):
            read(io.BytesIO(ARCHIVE + tail))


@pytest.mark.parametrize(
    ("at", "value", "code"),
    [
        (0, b"070703", "cpio-magic"),
        (6, b"0000000g", "cpio-header"),
        (6, b" 0000001", "cpio-header"),
        (94, b"00000000", "cpio-name"),
        (94, b"00000001", "cpio-name"),
        (94, b"00001001", "cpio-name"),
        (94, b"ffffffff", "cpio-name"),
        (110, b"\0", "cpio-name"),
        (111, b"b", "cpio-name"),
        (115, b"\1", "cpio-header"),
        (54, b"ffffffff", "cpio-truncated"),
    ],
)
def test_what_is_refused(at: int, value: bytes, code: str) -> None:
    with pytest.raises(CpioError) as caught:
        read(io.BytesIO(ARCHIVE[:at] + value + ARCHIVE[at + len(value) :]))
    assert caught.value.code == code


@pytest.mark.parametrize(
    "entry",
    [
        CpioEntry(name=b"a", ino=1, mode=0, size=2**32),
        CpioEntry(name=b"a", ino=1, mode=0, mtime=-1),
        CpioEntry(name=b"a", ino=1, mode=0, uid=2**32),
        CpioEntry(name=b"a\0b", ino=1, mode=0),
        CpioEntry(name=b"", ino=1, mode=0),
        CpioEntry(name=b"a" * 4096, ino=1, mode=0),
    ],
)
def test_what_does_not_fit_is_not_written(entry: CpioEntry) -> None:
    with pytest.raises(CpioError) as caught:
        entry.to_bytes()
    assert caught.value.code == "cpio-range"


def test_data_must_be_as_long_as_the_record_says() -> None:
    with pytest.raises(CpioError) as caught:
        CpioWriter(io.BytesIO()).add(ENTRY, [b"xy"])
    assert caught.value.code == "cpio-size"


def test_names_are_shown_without_control_characters() -> None:
    assert show("é\x1b[31m".encode() + b"\xff\n") == "é\\x1b[31m\\xff\\n"


def test_gzip_ramdisks_are_unpacked_on_the_way() -> None:
    packed = gzip.compress(ARCHIVE[:100]) + gzip.compress(ARCHIVE[100:]) + bytes(6)
    reader = read_ramdisk(bytes_range(packed))
    assert [(entry.name, b"".join(reader.data())) for entry in reader] == [(b"a", b"xyz")]


def bad_gzip() -> Iterator[bytes]:
    packed = gzip.compress(ARCHIVE)
    yield packed[:-1]
    yield packed[:20]
    yield packed[:-6] + b"\0" + packed[-5:]
    yield packed + b"junk"


@pytest.mark.parametrize("data", list(bad_gzip()))
def test_damaged_gzip_is_a_cpio_error(data: bytes) -> None:
    with pytest.raises(CpioError) as caught:
        list(read_ramdisk(bytes_range(data)))
    assert caught.value.code == "ramdisk-packing"
