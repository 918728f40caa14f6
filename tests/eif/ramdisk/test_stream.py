"""Ramdisks as Linux unpacks them: packed in any way, behind microcode, with sums; and bombs."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shutil
import subprocess
import tracemalloc
import zlib
from collections.abc import Callable
from functools import partial

import pytest

from enclavectl.eif.compare.diff import compare_images
from enclavectl.eif.errors import CpioError
from enclavectl.eif.examine import examine, read_image
from enclavectl.eif.file_range import bytes_range
from enclavectl.eif.findings import Severity
from enclavectl.eif.ramdisk.cpio import TRAILER, CpioEntry, CpioWriter
from enclavectl.eif.ramdisk.stream import read_ramdisk
from tests.eif.samples import NOW, cpio, image, pack_zstd, sections

Pack = Callable[[bytes], bytes]
PACK: dict[str, Pack] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lambda data: lzma.compress(data, check=lzma.CHECK_CRC32),
    "lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
    "zstd": pack_zstd,
}
# The first bytes of formats that are not read; nothing looks at the rest.
NOT_READ = {
    "lz4": b"\x02\x21\x4c\x18rest",
    "lzo": b"\x89LZO\0\r\n\x1a\n",
}


def names(data: bytes) -> list[bytes]:
    return [entry.name for entry in read_ramdisk(bytes_range(data))]


def refused(data: bytes) -> str:
    with pytest.raises(CpioError) as caught:
        names(data)
    return caught.value.code


def verdict(ramdisk: bytes) -> tuple[bool, list[tuple[str, Severity]]]:
    """Whether an image with this ramdisk is sound, and its findings."""
    found = examine(io.BytesIO(image([*sections(ramdisks=1), (3, ramdisk)])), now=NOW, archives=True)
    return found.sound, [(one.code, one.severity) for one in found.findings]


@pytest.mark.parametrize("packing", PACK)
def test_what_can_be_unpacked_is_looked_into(packing: str) -> None:
    packed = PACK[packing](cpio(b"x" * 5000))
    reader = read_ramdisk(bytes_range(packed + bytes(700)))
    assert [(entry.name, b"".join(reader.data())) for entry in reader] == [(b"tag", b"x" * 5000)]
    assert verdict(packed) == (True, [])
    assert verdict(packed[:-8]) == (False, [("ramdisk-packing", Severity.WARNING)])
    assert verdict(packed + b"junk") == (False, [("ramdisk-packing", Severity.WARNING)])
    assert verdict(PACK[packing](cpio()[:60])) == (False, [("cpio-truncated", Severity.WARNING)])


@pytest.mark.parametrize("packing", NOT_READ)
def test_what_it_does_not_read_is_sound_with_a_note(packing: str) -> None:
    assert verdict(NOT_READ[packing]) == (True, [("ramdisk-not-read", Severity.NOTE)])
    assert verdict(cpio() + NOT_READ[packing]) == (True, [("ramdisk-not-read", Severity.NOTE)])
    found = examine(io.BytesIO(image([*sections(ramdisks=1), (3, NOT_READ[packing])])), now=NOW)
    assert packing in found.findings[0].message


def test_a_dictionary_that_takes_too_much_memory_is_sound_with_a_note() -> None:
    head = lzma.compress(cpio(), check=lzma.CHECK_CRC32, filters=[{"id": lzma.FILTER_LZMA2, "preset": 0}])
    # The size of the dictionary is one byte of the block's header, which a CRC covers.
    block = bytearray(head[12:24])
    block[4] = 34  # 512 MiB
    block[8:12] = zlib.crc32(block[:8]).to_bytes(4, "little")
    assert verdict(head[:12] + bytes(block) + head[24:]) == (True, [("ramdisk-not-read", Severity.NOTE)])


@pytest.mark.parametrize("packing", PACK)
@pytest.mark.parametrize("zeros", [0, 1, 512])
def test_microcode_may_stand_before_a_packed_archive(packing: str, zeros: int) -> None:
    data = cpio(b"microcode") + bytes(zeros) + PACK[packing](cpio(b"x"))
    assert names(data) == [b"tag", b"tag"]
    assert verdict(data) == (True, [])
    assert verdict(data[:-8]) == (False, [("ramdisk-packing", Severity.WARNING)])


def test_inside_of_packed_data_nothing_is_packed_again() -> None:
    assert refused(gzip.compress(gzip.compress(cpio()))) == "cpio-magic"
    assert refused(gzip.compress(cpio() + gzip.compress(cpio()))) == "cpio-trailing"


@pytest.mark.parametrize("magic", [b"070707", b"hsqs\0\0", b"070703", b"\x1f\x8b\x00", b"\x04\x22\x4d\x18"])
def test_what_linux_does_not_unpack_is_not_sound(magic: bytes) -> None:
    assert verdict(magic.ljust(512, b"0")) == (False, [("ramdisk-magic", Severity.WARNING)])
    assert not verdict(cpio() + magic.ljust(512, b"0"))[0]


def summed(value: int, data: bytes = b"\xff" * 1000) -> bytes:
    """An archive of the form 070702, whose one file has this sum."""
    plain = cpio(data).replace(b"070701", b"070702")
    return plain[:102] + b"%08x" % value + plain[110:]


def test_an_archive_with_sums_is_read_and_its_sums_are_checked() -> None:
    assert names(summed(255 * 1000)) == [b"tag"]
    assert names(summed(0)) == [b"tag"]  # left out
    assert verdict(summed(255 * 1000)) == verdict(summed(0)) == (True, [])
    assert verdict(summed(255 * 1000 + 1)) == (False, [("cpio-sum", Severity.WARNING)])
    assert refused(gzip.compress(summed(1))) == "cpio-sum"


@pytest.mark.skipif(shutil.which("cpio") is None, reason="no cpio on the PATH")
def test_the_sums_are_those_that_gnu_cpio_writes(tmp_path: object) -> None:
    done = subprocess.run(
        ["cpio", "--create", "--format=crc", "--quiet"],
        input=b"passwd\n",
        cwd="/etc",
        capture_output=True,
        check=True,
    )
    assert names(done.stdout) == [b"passwd"]


def zeros(size: int) -> bytes:
    """A packed archive of one file of zeros."""
    out = zlib.compressobj(9, wbits=31)
    sink = io.BytesIO()
    CpioWriter(sink).add(CpioEntry(name=b"z", ino=1, mode=0o100644, size=size), (bytes(size),))
    sink.write(cpio())
    return out.compress(sink.getvalue()) + out.flush()


def many(count: int, name_size: int = 8) -> bytes:
    """A packed archive of so many empty files."""
    out, sink = zlib.compressobj(9, wbits=31), io.BytesIO()
    writer = CpioWriter(sink)
    for number in range(count):
        name = (b"%08d" % number).ljust(name_size, b"n")
        writer.add(CpioEntry(name=name, ino=1, mode=0o100644))
    writer.finish(CpioEntry(name=TRAILER, ino=0, mode=0))
    return out.compress(sink.getvalue()) + out.flush()


@pytest.mark.parametrize(
    "make",
    [partial(zeros, 160 << 20), partial(many, 40_000), partial(many, 9_000, 4000)],
    ids=["zeros", "many", "long names"],
)
def test_a_bomb_is_not_sound_and_the_work_on_it_is_bounded(make: Callable[[], bytes]) -> None:
    bomb = make()
    assert len(bomb) < 1 << 19
    assert refused(bomb) == "ramdisk-budget"
    assert verdict(bomb) == (False, [("ramdisk-budget", Severity.WARNING)])


def test_all_ramdisks_of_an_image_share_one_budget() -> None:
    part = zeros(24 << 20)
    assert verdict(part) == (True, [])
    data = image([*sections(ramdisks=1), *[(3, part)] * 4])
    found = examine(io.BytesIO(data), now=NOW, archives=True).findings
    assert {one.code for one in found} == {"ramdisk-budget"}
    assert "not looked at" in found[0].message


def test_a_plain_archive_is_never_over_its_budget() -> None:
    packed = many(60_000, 1)
    assert refused(packed) == "ramdisk-budget"
    assert len(names(zlib.decompress(packed, wbits=31))) == 60_000


def test_a_bomb_costs_no_memory() -> None:
    bomb = zeros(100 << 20)
    tracemalloc.start()
    verdict(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20


def test_two_images_with_bombs_are_compared_by_their_bytes() -> None:
    before, after = (
        read_image(io.BytesIO(image([*sections(ramdisks=1), (3, many(9_000, size))])))
        for size in (4000, 4001)
    )
    (change,) = compare_images(before, after).changes
    assert change.where == "ramdisk1"
    assert "not compared entry by entry" in str(change.note)
    assert "not looked at" in str(change.note)
