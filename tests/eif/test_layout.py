"""The strict reader's rules on images made in code."""

from __future__ import annotations

import gzip
import io
import struct
import tracemalloc
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclavectl.eif.errors import EifError
from enclavectl.eif.examine import examine, read_image
from enclavectl.eif.findings import Severity
from enclavectl.eif.format import (
    CRC_OFFSET,
    HEADER_SIZE,
    Arch,
    SectionKind,
    arch_named,
    decode_header,
    decode_section,
)
from enclavectl.eif.scan import parse_layout, scan_layout
from enclavectl.errors import UsageError
from tests.eif.samples import METADATA, NOW, Sections, fix_crc, image, sections


def refusal(data: bytes) -> EifError:
    with pytest.raises(EifError) as caught:
        read_image(io.BytesIO(data))
    return caught.value


def test_a_sound_image_has_no_findings() -> None:
    found = examine(io.BytesIO(image()), now=NOW)
    assert found.findings == ()
    assert found.sound
    assert found.crc_ok
    assert found.scan.table == found.scan.linear


def test_errors_are_usage_errors_with_code_and_offset() -> None:
    error = refusal(image(header={"version": 5}))
    assert isinstance(error, UsageError)
    assert (error.exit_code, error.code, error.offset) == (2, "version", 4)
    assert "(at byte 4)" in error.message


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ({"version": 1}, "version"),
        ({"version": 65535}, "version"),
        ({"flags": 0x240}, "flags-unknown"),
        ({"reserved": 1}, "reserved-nonzero"),
        ({"unused": 1}, "reserved-nonzero"),
        ({"section_count": 33}, "section-count"),
        ({"section_count": 4}, "hidden-section"),
        ({"section_count": 6}, "section-overlap"),
    ],
)
def test_header_rules(header: dict[str, int], code: str) -> None:
    assert refusal(image(header=header)).code == code


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        (lambda parts: [parts[3], *parts[:3], parts[4]], "section-order"),
        (lambda parts: [*parts, parts[0]], "duplicate-section"),
        (lambda parts: [*parts, (SectionKind.METADATA, METADATA.to_bytes())], "duplicate-section"),
        (lambda parts: [*parts[:3], (7, b"x"), *parts[3:]], "section-type"),
        (lambda parts: [*parts[:3], parts[2]], "duplicate-section"),
        (lambda parts: parts[1:], "missing-section"),
        (lambda parts: [*parts, (SectionKind.SIGNATURE, bytes(32769))], "section-too-large"),
    ],
)
def test_section_rules(changed: object, code: str) -> None:
    assert callable(changed)
    assert refusal(image(changed(sections()))).code == code


def test_section_flags_must_be_zero() -> None:
    data = bytearray(image())
    data[HEADER_SIZE + 3] = 1
    error = refusal(fix_crc(bytes(data)))
    assert (error.code, error.offset) == ("section-flags", HEADER_SIZE + 2)


def test_one_changed_byte_breaks_the_crc() -> None:
    data = bytearray(image())
    data[HEADER_SIZE + 12 + 5] ^= 1
    error = refusal(bytes(data))
    assert (error.code, error.offset) == ("crc", CRC_OFFSET)


def test_unknown_flags_withhold_the_pcrs_unless_forced() -> None:
    data = io.BytesIO(image(header={"flags": 0x200}))
    assert examine(data, now=NOW).measurements is None
    assert examine(data, now=NOW, force_flags=True).measurements is not None


def test_odd_resources_are_a_warning() -> None:
    found = examine(io.BytesIO(image(header={"default_cpus": 0})), now=NOW)
    assert [(one.severity, one.code) for one in found.findings] == [(Severity.WARNING, "default-resources")]
    assert not found.sound


def test_lenient_reading_reports_every_defect() -> None:
    data = image(header={"magic": b".EIF", "version": 9, "reserved": 3}, tail=b"junk")  # type: ignore[dict-item]  # the helper's values are integers or bytes
    codes = [one.code for one in scan_layout(io.BytesIO(data)).findings]
    assert codes == ["magic", "version", "reserved-nonzero", "trailing-data"]


@pytest.mark.parametrize(
    ("data", "name", "hint"),
    [
        (b"", "an empty file", "again"),
        (bytes(9999), "zero bytes only", "again"),
        (gzip.compress(image()), "gzip-compressed data", "gunzip"),
        (b"\xfd7zXZ\0" + bytes(600), "xz-compressed data", "unxz"),
        (bytes(257) + b"ustar\x0000" + bytes(900), "a tar archive", "docker load"),
        (bytes(0x1FE) + b"\x55\xaa\0\0HdrS" + bytes(900), "a Linux kernel", "--kernel"),
        (b"070701" + b"0" * 900, "a ramdisk", "enclavectl build"),
        (b"\x7fELF" + bytes(900), "a program", "enclavectl build"),
        (b"PK\x03\x04", "a ZIP archive", "unpack"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer", "git lfs pull"),
        (b"-----BEGIN CERTIFICATE-----\n", "a PEM file", "image"),
        (b'\n{"message": "forbidden"}', "JSON text", "read it"),
        (b"\xef\xbb\xbf<!DOCTYPE html>", "a web page", "read it"),
        (b"\x89PNG\r\n\x1a\n" + bytes(900), "a picture", "diagnose"),
        (b"\xff\xd8\xff\xe0" + bytes(900), "a picture", "diagnose"),
        (b"schema: enclavectl.policy/2\n", "text", "policy show"),
    ],
)
def test_a_file_of_another_kind_is_named_and_nothing_else_is_said_of_it(
    data: bytes, name: str, hint: str
) -> None:
    (finding,) = scan_layout(io.BytesIO(data)).findings
    assert f"expected an enclave image (EIF), found {name}" in finding.message
    assert hint in str(finding.hint)
    assert str(refusal(data)).startswith(finding.message)
    assert not examine(io.BytesIO(data), now=NOW).sound


def test_a_gap_is_refused() -> None:
    whole = image()
    header = decode_header(whole[:HEADER_SIZE])
    last = header.offsets[4]
    moved = replace(header, offsets=(*header.offsets[:4], last + 8, *header.offsets[5:]))
    assert refusal(fix_crc(moved.to_bytes() + whole[HEADER_SIZE:last] + bytes(8) + whole[last:])).code in {
        "section-type",
        "section-gap",
    }


@pytest.mark.slow
def test_truncation_at_every_byte_is_an_eif_error() -> None:
    whole = image()
    for size in range(len(whole)):
        with pytest.raises(EifError) as caught:
            read_image(io.BytesIO(whole[:size]))
        assert caught.value.offset is not None or caught.value.code == "missing-section"
        examine(io.BytesIO(whole[:size]), now=NOW)


def test_an_8_eib_section_costs_nothing() -> None:
    for claimed in (1 << 33, 1 << 62, 1 << 63, (1 << 64) - 1):
        data = bytearray(image())
        struct.pack_into(">Q", data, 284, claimed)
        struct.pack_into(">Q", data, HEADER_SIZE + 4, claimed)
        tracemalloc.start()
        assert refusal(fix_crc(bytes(data))).code == "section-past-end"
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 200_000


def test_a_file_of_empty_sections_ends_early() -> None:
    data = image()[:HEADER_SIZE] + bytes(12) * 100_000
    found = scan_layout(io.BytesIO(data))
    assert found.linear is not None
    assert len(found.linear.sections) == 33
    assert "section-count" in {one.code for one in found.findings}


@given(st.binary(min_size=HEADER_SIZE, max_size=HEADER_SIZE))
def test_headers_round_trip(data: bytes) -> None:
    assert decode_header(data).to_bytes() == data


@given(st.binary(min_size=12, max_size=12))
def test_section_headers_round_trip(data: bytes) -> None:
    assert decode_section(data, 7).to_bytes() == data


@given(
    kernel=st.binary(min_size=1, max_size=300),
    cmdline=st.binary(min_size=1, max_size=100),
    ramdisks=st.lists(st.binary(max_size=200), min_size=1, max_size=28),
    data=st.data(),
)
def test_parse_of_build_gives_the_same_sections(
    kernel: bytes, cmdline: bytes, ramdisks: list[bytes], data: st.DataObject
) -> None:
    parts: Sections = [
        (SectionKind.KERNEL, kernel),
        (SectionKind.CMDLINE, cmdline),
        *[(SectionKind.RAMDISK, ramdisk) for ramdisk in ramdisks],
    ]
    parts.insert(data.draw(st.integers(0, len(parts))), (SectionKind.METADATA, METADATA.to_bytes()))
    file = io.BytesIO(image(parts))
    layout = parse_layout(file)
    assert [(one.kind, layout.data(one).read(1 << 20)) for one in layout.sections] == parts
    assert read_image(file).metadata == METADATA


@settings(max_examples=300)
@given(at=st.integers(0, 3000), value=st.binary(min_size=1, max_size=12), fix=st.booleans())
def test_any_patched_image_is_read_or_refused(at: int, value: bytes, fix: bool) -> None:
    whole = image()
    data = whole[:at] + value + whole[at + len(value) :]
    file = io.BytesIO(fix_crc(data) if fix else data)
    found = examine(file, now=NOW)
    try:
        read_image(file)
    except EifError as exc:
        assert exc.code in {one.code for one in found.findings}  # noqa: PT017
    else:
        assert all(one.severity is not Severity.ERROR for one in found.findings)


def test_overlapping_slots_do_not_multiply_the_work() -> None:
    data = bytearray(image([*sections(), *[(SectionKind.RAMDISK, b"")] * 27]))
    for index in range(5, 32):
        data[28 + 8 * index : 36 + 8 * index] = HEADER_SIZE.to_bytes(8)
    seen: list[int] = []
    found = examine(io.BytesIO(fix_crc(bytes(data))), now=NOW, on_bytes=seen.append)
    assert found.scan.views_differ
    assert found.scan.table is not None
    assert found.table_measurements is None
    assert sum(seen) < len(data)


def test_an_architecture_has_one_name_for_docker_and_one_for_the_kernel() -> None:
    names = {"amd64": Arch.X86_64, "x86_64": Arch.X86_64, "arm64": Arch.ARM64, "aarch64": Arch.ARM64}
    assert {name: arch_named(name) for name in names} == names
    assert [arch_named(name) for name in ("", "riscv64", "AMD64")] == [None] * 3
    assert [(arch.machine, arch.kernel_name) for arch in Arch] == [
        ("x86_64", "bzImage"),
        ("aarch64", "Image"),
    ]
