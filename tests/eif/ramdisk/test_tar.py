"""The bounded tar reader, against tarfile's writer and against damaged headers."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclavectl.eif.errors import LayerError
from enclavectl.eif.file_range import bytes_range
from enclavectl.eif.ramdisk.tar import TarEntry, read_tar
from tests.eif.samples import directory, hardlink, member, read_export, symlink, tar, text

path = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=200)


def refused(data: bytes) -> str:
    with pytest.raises(LayerError) as caught:
        list(read_tar(bytes_range(data)))
    return caught.value.code


def one(data: bytes) -> TarEntry:
    (entry,) = read_tar(bytes_range(data))
    return entry


def resum(header: bytes) -> bytes:
    """The header block with a right checksum."""
    blank = header[:148] + b" " * 8 + header[156:512]
    return header[:148] + b"%06o\0 " % sum(blank) + header[156:]


@settings(max_examples=60)
@given(
    name=path,
    data=st.binary(max_size=1500),
    uid=st.integers(0, 2**33),
    mtime=st.integers(-(2**33), 2**40),
    form=st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
)
def test_both_dialects_are_read(name: str, data: bytes, uid: int, mtime: int, form: int) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        info = member(name, uid=uid, mtime=mtime, size=len(data))
        archive.addfile(info, io.BytesIO(data))
        archive.addfile(symlink("s", name))
    first, second = read_tar(bytes_range(out.getvalue()))
    assert first.name.decode() == name
    assert (first.uid, first.mtime, first.data.read(2000)) == (uid, mtime, data)
    assert second.target.decode() == name


def test_fractions_of_seconds_are_rounded_down() -> None:
    for mtime, expected in ((1.75, 1), (-1.25, -2), (-0.5, -1)):
        info = member("a", pax_headers={"mtime": str(mtime)})
        assert one(tar([info])).mtime == expected


def test_names_keep_what_tarfile_would_lose() -> None:
    assert one(tar([directory("d/")])).name == b"d/"
    entry = one(tar([text("x", b"1", pax_headers={"SCHILY.xattr.security.capability": "c"})]))
    assert entry.xattrs == (b"security.capability",)


def test_an_archive_may_end_between_two_members_and_nowhere_else() -> None:
    """As for Docker's reader: some builders write no end blocks, or leave out the last padding, too."""
    whole = tar([text("a", b"x" * 600), directory("d")])[:2048]
    for size in range(len(whole) + 1):
        names = [b"a", b"d/"] if size == 2048 else [b"a"] if 512 + 600 <= size <= 1536 else []
        if names or not size:
            assert [entry.name for entry in read_tar(bytes_range(whole[:size]))] == names
        else:
            assert refused(whole[:size]) == "tar-truncated"


def test_an_archive_ends_at_two_blocks_of_zeros_or_at_one_that_is_the_last() -> None:
    members = tar([text("a", b"1")])[:1024]
    for end in (b"", bytes(512), bytes(1024), bytes(1024) + members):
        assert one(members + end).name == b"a"
    assert refused(members + bytes(512) + members) == "tar-header"
    assert refused(members + bytes(600)) == "tar-truncated"


def test_of_what_stands_before_a_member_that_counts_which_docker_takes() -> None:
    first, second = (tar([text("x", pax_headers={"path": name})])[:1024] for name in ("1", "2"))
    long_name = member("././@LongLink", b"L", size=2).tobuf(tarfile.GNU_FORMAT) + b"3".ljust(512, b"\0")
    general = member("g", b"g").tobuf(tarfile.USTAR_FORMAT)
    last = tar([text("own")])
    assert one(first + second + last).name == b"2"
    assert one(long_name + first + last).name == b"3"
    assert one(first + long_name + general + last).name == b"own"


def test_damaged_headers() -> None:
    good = tar([text("a", b"abc")])
    assert refused(b"b" + good[1:]) == "tar-checksum"
    assert refused(resum(good[:100] + b"888" + good[103:])) == "tar-header"
    assert refused(resum(good[:136] + b"\x80" + b"\x7f" * 11 + good[148:])) == "tar-header"
    assert refused(tar([member("a", pax_headers={"uid": str(1 << 63)})])) == "tar-header"
    assert refused(resum(good[:156] + b"S" + good[157:])) == "tar-type"
    assert refused(resum(good[:156] + b"M" + good[157:])) == "tar-type"
    assert refused(resum(good[:124] + b"77777777777\0" + good[136:])) == "tar-truncated"
    assert refused(resum(good[:124] + b"\xff" * 12 + good[136:])) == "tar-truncated"
    assert refused(resum(good[:124] + b"\x80" + b"\xff" * 11 + good[136:])) == "tar-truncated"


def test_extended_headers_are_bounded_and_strict() -> None:
    assert refused(tar([member("a", pax_headers={"uid": "x"})])) == "tar-extended"
    assert refused(tar([member("a", pax_headers={"comment": "x" * (1 << 20)})])) == "tar-extended"
    whole = tar([member("a", pax_headers={"comment": "x"})])
    assert refused(resum(whole[:124] + b"\xff" * 12 + whole[136:])) == "tar-extended"
    block = resum(
        tar([member("a", b"x")])[:124] + b"00000000013\0" + bytes(12) + b" " * 8 + b"x" + bytes(355)
    )
    for record in (b"5 a=b\n01234", b"99999999999", b"11 =45678\n.", b"abc        "):
        assert refused(block + record.ljust(512, b"\0")) == "tar-extended"


@pytest.mark.parametrize(
    "name", ["/../etc/passwd", "../x", "a/../../x", "a/" + "b" * 4096, "a/" + "b" * 256, "c" * 256 + "/d"]
)
def test_unsafe_names(name: str) -> None:
    with pytest.raises(LayerError) as caught:
        list(read_export(bytes_range(tar([text(name)]))))
    assert caught.value.code == "tar-name"


def test_the_longest_name_of_linux_is_taken() -> None:
    name = "a" * 255 + "/" + "b" * 255
    assert [entry.name for entry in read_export(bytes_range(tar([text(name)])))] == [name.encode()]


def test_export_entries_are_clean_and_the_root_is_left_out() -> None:
    found = list(read_export(bytes_range(tar([directory("./"), directory("./a//b/"), hardlink("h", "/a")]))))
    assert [(entry.name, entry.target) for entry in found] == [(b"a/b", b""), (b"h", b"a")]


@given(st.binary(max_size=1100))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        list(read_tar(bytes_range(data)))
    except LayerError as exc:
        assert exc.offset is not None  # noqa: PT017


@given(st.integers(0, 511), st.binary(min_size=1, max_size=20))
def test_any_patched_header_is_read_or_refused(at: int, value: bytes) -> None:
    good = tar([text("a", b"abc"), text("b", b"c")])
    data = resum(good[:at] + value + good[at + len(value) :])
    try:
        list(read_export(bytes_range(data)))
    except LayerError as exc:
        assert exc.offset is not None  # noqa: PT017
