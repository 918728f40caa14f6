"""What no hash covers: the boundaries between sections."""

from __future__ import annotations

import gzip
import io
import struct

import pytest

from enclavectl.eif.examine import examine, read_verified
from enclavectl.eif.format import FLAG_ARM64, SectionKind
from enclavectl.eif.ramdisk.cpio import TRAILER, CpioEntry, CpioWriter
from tests.eif.samples import CMDLINE, METADATA, NOW, bzimage, cpio, image


def codes(kernel: bytes, cmdline: bytes = CMDLINE, ramdisk: bytes = cpio(), *, flags: int = 0) -> list[str]:
    return [one.code for one in examine(io.BytesIO(made(kernel, cmdline, ramdisk, flags)), now=NOW).findings]


def made(kernel: bytes, cmdline: bytes, ramdisk: bytes, flags: int = 0) -> bytes:
    parts = [
        (SectionKind.KERNEL, kernel),
        (SectionKind.CMDLINE, cmdline),
        (SectionKind.METADATA, METADATA.to_bytes()),
        (SectionKind.RAMDISK, ramdisk),
    ]
    return image([(int(kind), data) for kind, data in parts], header={"flags": flags})


def arm64(size: int, image_size: int) -> bytes:
    data = bytearray(size)
    struct.pack_into("<Q", data, 16, image_size)
    data[56:60] = b"ARM\x64"
    return bytes(data)


def test_moving_the_command_line_keeps_the_pcrs_and_is_found() -> None:
    honest = made(bzimage(), CMDLINE, cpio())
    moved = made(bzimage() + CMDLINE[:-1], CMDLINE[-1:], cpio())
    assert read_verified(io.BytesIO(honest)).measurements == read_verified(io.BytesIO(moved)).measurements
    assert codes(bzimage()) == []
    assert codes(bzimage() + CMDLINE[:-1], CMDLINE[-1:]) == ["kernel-boundary"]


@pytest.mark.parametrize(("extra", "expected"), [(-16, 1), (-15, 0), (0, 0), (4, 0), (5, 1)])
def test_bzimage_length_may_differ_by_rounding_and_checksum(extra: int, expected: int) -> None:
    kernel = (bzimage() + bytes(16))[: 4096 + extra]
    assert codes(kernel).count("kernel-boundary") == expected


def test_a_kernel_signed_for_secure_boot_ends_behind_its_certificate_table() -> None:
    kernel = bytearray(bzimage())
    struct.pack_into("<I", kernel, 0x3C, 0x240)
    kernel[0x240:0x244] = b"PE\0\0"
    struct.pack_into("<H", kernel, 0x240 + 24, 0x20B)
    struct.pack_into("<II", kernel, 0x240 + 24 + 144, 4096, 1000)
    assert codes(bytes(kernel) + bytes(1000)) == []
    assert codes(bytes(kernel) + bytes(1001)) == ["kernel-boundary"]


def test_arm64_images() -> None:
    assert codes(arm64(5000, 6000), flags=FLAG_ARM64) == []
    assert codes(arm64(5000, 4999), flags=FLAG_ARM64) == ["kernel-boundary"]
    assert codes(arm64(5000, 6000)) == ["kernel-arch"]


@pytest.mark.parametrize("cmdline", [b"a\0b", b"a\n", b"\xc3\xa9", b"a" * 2049])
def test_command_lines_that_loaders_read_differently(cmdline: bytes) -> None:
    assert codes(bzimage(), cmdline) == ["cmdline-text"]


def test_ramdisks_and_kernels_that_are_something_else() -> None:
    assert codes(bzimage(), ramdisk=b"\x1f\x8b\x08gzip") == []
    assert codes(bzimage(), ramdisk=b"squashfs") == ["ramdisk-magic"]
    assert codes(b"K" * 40) == ["kernel-format"]


def records(*names: bytes) -> bytes:
    out = io.BytesIO()
    writer = CpioWriter(out)
    for ino, name in enumerate(names):
        writer.add(CpioEntry(name=name, ino=ino, mode=0o100644, size=100), [bytes(100)])
    writer.finish(CpioEntry(name=TRAILER, ino=0, mode=0))
    return out.getvalue()


@pytest.mark.parametrize(
    ("ramdisk", "code"),
    [
        (records(b"a", b"b"), None),
        (gzip.compress(records(b"a")), None),
        (records(b"a") + records(b"b"), None),
        (records(b"a", b"b")[:300], "cpio-truncated"),
        (gzip.compress(records(b"a"))[:-12], "ramdisk-packing"),
        (records(b"a") + b"070701", "cpio-truncated"),
        (records(b"a") + b"more junk", "cpio-trailing"),
        (records(b"a/../../b"), "ramdisk-name"),
        (records(b"/etc/passwd"), "ramdisk-name"),
    ],
)
def test_a_sound_image_has_whole_ramdisks(ramdisk: bytes, code: str | None) -> None:
    data = made(bzimage(), CMDLINE, ramdisk)
    found = examine(io.BytesIO(data), now=NOW, archives=True)
    assert [one.code for one in found.findings] == ([code] if code else [])
    assert found.sound is (code is None)
    assert examine(io.BytesIO(data), now=NOW).sound  # as show says it, which does not read them
