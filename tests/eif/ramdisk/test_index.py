"""The list of an image's files: its order, and that it is on the disk and not in memory."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclavectl.eif.ramdisk.entries import Entry, Kind
from enclavectl.eif.ramdisk.index import Index, Name, Names, key_of, open_index, path_of
from enclavectl.errors import HostError

FILE = Entry(name=b"", kind=Kind.FILE, perm=0o644)
MANY = 30_000
MAX_GROWTH_MIB = 16  # measured: 7; twice as many files took 15, and 50 where each path was a Python object
# A tar of empty files, flattened and written, in a process of its own, whose peak is known before and after.
GROWTH = f"""
import re, tarfile, tempfile
from enclavectl.eif.file_range import whole_file
from enclavectl.eif.ramdisk.layers import flatten
from enclavectl.eif.ramdisk.ramdisks import Mode, application_entries, write_ramdisk

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])

with tempfile.TemporaryFile() as layer, tempfile.TemporaryFile() as ramdisk:
    for number in range({MANY}):
        layer.write(tarfile.TarInfo(f"usr/lib/folder-{{number % 997}}/file-{{number}}").tobuf())
    layer.write(bytes(1024))
    before = peak()
    with flatten([whole_file(layer)]) as image:
        write_ramdisk(ramdisk, application_entries(image.entries(), cmd=b"", env=b""), Mode.REPRODUCIBLE)
print((peak() - before) >> 10)
"""

parts = st.lists(st.binary(min_size=1, max_size=3).filter(lambda part: not set(part) & set(b"\0/")))


@given(parts, parts)
def test_keys_sort_like_lists_of_components(one: list[bytes], other: list[bytes]) -> None:
    keys = [key_of(b"/".join(path)) for path in (one, other)]
    assert (keys[0] < keys[1]) == (one < other)
    assert [path_of(key) for key in keys] == [b"/".join(one), b"/".join(other)]


def add(index: Index, names: Names, path: bytes, kind: Kind = Kind.FILE) -> None:
    inode = index.add(Entry(name=b"", kind=kind, perm=0o644))
    names.put(key_of(path), Name(inode=inode, folder=kind is Kind.DIRECTORY))


def test_a_directory_goes_with_all_below_it_and_nothing_beside_it() -> None:
    with open_index() as index:
        names = Names(index, "image")
        for path in (b"a", b"a/b", b"a/b/c", b"a\1", b"a-b", b"ab", b"b"):
            add(index, names, path)
        names.drop(key_of(b"a"), itself=False)
        assert [found.entry.name for found in index.walk(names)] == [b"a", b"a\1", b"a-b", b"ab", b"b"]
        names.drop(key_of(b"a"))
        assert [found.entry.name for found in index.walk(names)] == [b"a\1", b"a-b", b"ab", b"b"]
        names.drop(b"", itself=False)
        assert list(index.walk(names)) == []


def test_no_room_for_the_list_is_said_with_what_to_do() -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    try:
        with pytest.raises(HostError, match="list of the image's files") as caught:
            fill(10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "TMPDIR" in str(caught.value.hint)


def fill(count: int) -> None:
    with open_index() as index:
        index.database.execute("PRAGMA cache_size = 8")
        names = Names(index, "image")
        for number in range(count):
            add(index, names, b"file-%d" % number)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_files() -> None:
    done = subprocess.run([sys.executable, "-c", GROWTH], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < MAX_GROWTH_MIB
