"""Sparse files of a layer: every form that Docker's reader takes, and what a damaged or huge one costs."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclavectl.eif.errors import LayerError
from enclavectl.eif.file_range import FileRange, bytes_range
from enclavectl.eif.ramdisk.layers import flatten
from enclavectl.eif.ramdisk.sparse import MAX_HOLES, SparseBudget, SparseFile
from enclavectl.eif.ramdisk.tar import TarEntry, read_tar
from tests.eif.samples import member, tar, text

SIZE = 4000
PIECES = [(0, 700), (1500, 1), (2500, 500)]
DATA = b"a" * 700 + b"b" + b"c" * 500
WHOLE = b"a" * 700 + bytes(800) + b"b" + bytes(999) + b"c" * 500 + bytes(1000)
NUMBERS = [number for piece in PIECES for number in piece]
END = bytes(1024)


def record(key: str, value: object) -> bytes:
    """One pax record; ``tarfile`` would write a key once only, and 0.0 repeats two."""
    rest = f" {key}={value}\n".encode()
    size = len(rest) + 1
    while len(str(size)) + len(rest) != size:
        size += 1
    return str(size).encode() + rest


def sparse(records: list[tuple[str, object]], data: bytes, name: str = "d/GNUSparseFile.0/f") -> bytes:
    """A member with these pax records, without the end of its archive."""
    body = b"".join(record(f"GNU.sparse.{key}", value) for key, value in records)
    head = member("PaxHeaders/f", tarfile.XHDTYPE, size=len(body))
    info = member(name, size=len(data))
    parts = [head.tobuf(tarfile.USTAR_FORMAT), body.ljust(-(-len(body) // 512) * 512, b"\0")]
    return b"".join([*parts, info.tobuf(tarfile.USTAR_FORMAT), data.ljust(-(-len(data) // 512) * 512, b"\0")])


def version(major: int, minor: int) -> list[tuple[str, object]]:
    return [("major", major), ("minor", minor)]


def mapped(*numbers: int, count: int | None = None) -> bytes:
    """The map of form 1.0, in whole blocks."""
    lines = [len(numbers) // 2 if count is None else count, *numbers]
    return b"".join(b"%d\n" % number for number in lines).ljust(512, b"\0")


PAIRS: list[tuple[str, object]] = [
    item for offset, length in PIECES for item in (("offset", offset), ("numbytes", length))
]
MAP: tuple[str, object] = ("map", ",".join(map(str, NUMBERS)))
FORMS: dict[str, tuple[list[tuple[str, object]], bytes]] = {
    "0.0": ([("size", SIZE), ("numblocks", 3), *PAIRS], DATA),
    "0.0 with its version": ([*version(0, 0), ("size", SIZE), ("numblocks", 3), *PAIRS], DATA),
    "0.1": ([*version(0, 1), ("name", "d/f"), ("size", SIZE), ("numblocks", 3), MAP], DATA),
    "0.1 without its version": ([("name", "d/f"), ("size", SIZE), ("numblocks", 3), MAP], DATA),
    "1.0": ([*version(1, 0), ("name", "d/f"), ("realsize", SIZE)], mapped(*NUMBERS) + DATA),
    "1.0 of holes only": ([*version(1, 0), ("name", "d/f"), ("realsize", SIZE)], mapped()),
}


def only(archive: bytes) -> TarEntry:
    (entry,) = read_tar(bytes_range(archive))
    return entry


def refused(archive: bytes) -> str:
    with pytest.raises(LayerError) as caught:
        list(read_tar(bytes_range(archive)))
    assert caught.value.offset is not None
    return caught.value.code


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_the_whole_file_that_it_stands_for(form: str) -> None:
    archive = sparse(*FORMS[form]) + tar([text("after", b"x")])
    first, second = read_tar(bytes_range(archive))
    assert first.name == (b"d/f" if ("name", "d/f") in FORMS[form][0] else b"d/GNUSparseFile.0/f")
    assert first.data.read(SIZE) == (WHOLE if DATA in FORMS[form][1] else bytes(SIZE))
    assert (second.name, second.data.read(9)) == (b"after", b"x")


def test_a_version_that_docker_does_not_know_is_a_plain_file() -> None:
    entry = only(sparse([*version(2, 0), ("name", "d/f")], DATA) + END)
    assert (entry.name, entry.data.read(SIZE)) == (b"d/GNUSparseFile.0/f", DATA)


@pytest.mark.skipif(shutil.which("tar") is None, reason="no tar on the PATH")
@pytest.mark.parametrize("form", ["0.0", "0.1", "1.0"])
def test_what_gnu_tar_writes_is_read_back(form: str, tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        for at, data in ((0, b"start"), (1 << 20, b"middle" * 1000), (3 << 20, b"")):
            file.seek(at)
            file.write(data)
        file.truncate(5 << 20)
    argv = [
        "tar",
        "--format=pax",
        "--sparse",
        f"--sparse-version={form}",
        "-C",
        str(tmp_path),
        "-cf",
        "-",
        "file",
    ]
    done = subprocess.run(argv, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"not GNU's tar: {done.stderr.decode()[:80]}")
    assert len(done.stdout) < 1 << 20, "the file system keeps no holes"
    assert only(done.stdout).data.read(8 << 20) == (tmp_path / "file").read_bytes()


@pytest.mark.parametrize(
    ("records", "data"),
    [
        ([*version(0, 1), ("size", SIZE), MAP], DATA),  # without its number of pieces
        ([*version(0, 1), ("size", SIZE), ("numblocks", 2), MAP], DATA),
        ([*version(0, 1), ("size", SIZE), ("numblocks", 3), ("map", "0,700,1500,x,2500,500")], DATA),
        ([*version(0, 1), ("size", SIZE), ("numblocks", 3), ("map", "-1,700,1500,1,2500,500")], DATA),
        ([*version(0, 1), ("size", 2999), ("numblocks", 3), MAP], DATA),  # a piece behind the end
        ([*version(0, 1), ("size", SIZE), ("numblocks", 3), MAP], DATA[1:]),
        ([*version(0, 1), ("size", SIZE), ("numblocks", 3), MAP], DATA + b"x"),
        ([*version(0, 1), ("size", SIZE), ("numblocks", 2), ("map", "9,700,500,501")], DATA),  # overlap
        ([("numblocks", 1), ("numbytes", 1), ("offset", 0)], b"x"),  # in the wrong order
        ([("numblocks", 1), ("offset", "0,1"), ("numbytes", 1)], b"x"),
        ([*version(1, 0), ("realsize", SIZE)], mapped(*NUMBERS, count=4) + DATA),
        ([*version(1, 0), ("realsize", SIZE)], b"1" * 512 + DATA),
        ([*version(1, 0), ("realsize", SIZE)], b"999999999\n".ljust(512) + DATA),
        ([*version(1, 0), ("realsize", SIZE)], b"0\n"),  # less than a block
        ([*version(1, 0), ("realsize", "x")], mapped(*NUMBERS) + DATA),
        ([*version(1, 0), ("realsize", 1 << 62)], mapped(*NUMBERS) + DATA),
    ],
)
def test_damaged_maps_are_refused(records: list[tuple[str, object]], data: bytes) -> None:
    assert refused(sparse(records, data) + END) == "tar-sparse"


def test_only_files_are_sparse() -> None:
    archive = bytearray(sparse([*version(0, 1), ("size", 0), ("numblocks", 0)], b"") + END)
    header = memoryview(archive)[1024:1536]
    header[156:157] = b"2"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    assert refused(bytes(archive)) == "tar-sparse"


def huge(size: int, name: str = "f") -> bytes:
    return sparse([*version(1, 0), ("name", name), ("realsize", size)], mapped())


def test_holes_are_bounded_in_an_archive_and_in_an_image() -> None:
    assert only(huge(MAX_HOLES) + END).data.size == MAX_HOLES
    assert refused(huge(MAX_HOLES + 1) + END) == "tar-sparse"
    halves = [bytes_range(huge(MAX_HOLES // 2 + 1, name) + END) for name in ("a", "b")]
    with flatten(halves[:1]):
        pass
    with pytest.raises(LayerError) as caught, flatten(halves):
        pass
    assert caught.value.code == "tar-sparse"


def test_pieces_are_bounded() -> None:
    with pytest.raises(LayerError) as caught:
        list(read_tar(bytes_range(sparse(*FORMS["0.1"])), sparse=SparseBudget(pieces=18)))
    assert caught.value.code == "tar-sparse"
    assert [
        one.data.size for one in read_tar(bytes_range(sparse(*FORMS["0.1"])), sparse=SparseBudget(pieces=19))
    ] == [SIZE]


def test_a_hole_of_gigabytes_costs_no_memory() -> None:
    data = only(huge(1 << 30) + END).data
    tracemalloc.start()
    assert sum(map(len, data.chunks())) == 1 << 30
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


@given(
    st.lists(st.tuples(st.integers(0, 50), st.binary(max_size=50)), max_size=8),
    st.integers(0, 50),
    st.lists(st.tuples(st.integers(0, 500), st.integers(0, 200)), max_size=5),
)
def test_any_part_of_a_sparse_file_is_that_of_the_whole(
    runs: list[tuple[int, bytes]], tail: int, parts: list[tuple[int, int]]
) -> None:
    whole, pieces = b"", []
    for hole, data in runs:
        whole += bytes(hole)
        pieces.append((len(whole), len(data)))
        whole += data
    whole += bytes(tail)
    stored = bytes_range(b"head" + b"".join(data for _, data in runs))
    file = SparseFile(FileRange(file=stored.file, offset=4, size=stored.size - 4), pieces, len(whole))
    for at, size in parts:
        file.seek(at)
        assert file.read(size) == whole[at : at + size]
        assert file.read(size) == whole[at + size : at + 2 * size]
