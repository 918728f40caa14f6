"""Two ramdisks, entry by entry. The records of their paths are on the disk, so memory stays constant."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from enclavectl.eif.compare.cause import Change, ChangeKind
from enclavectl.eif.file_range import FileRange
from enclavectl.eif.ramdisk.cpio import show
from enclavectl.eif.ramdisk.database import open_database
from enclavectl.eif.ramdisk.index import key_of, path_of
from enclavectl.eif.ramdisk.stream import read_ramdisk

_MAX_TARGET = 4096  # PATH_MAX: no link of more is followed
_CACHE_KIB = 8 << 10  # the two lists of an image of 30,000 files fit; larger ones go to the disk
# The tables are read in the order of their keys.
_SCHEMA = """
CREATE TABLE old (
  path BLOB PRIMARY KEY, kind, mode, uid, gid, mtime, major, minor, size, digest, target
) WITHOUT ROWID;
CREATE TABLE new (
  path BLOB PRIMARY KEY, kind, mode, uid, gid, mtime, major, minor, size, digest, target
) WITHOUT ROWID;
"""
_PUT = {
    "old": "REPLACE INTO old VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "new": "REPLACE INTO new VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
}
_ALL = {"old": "SELECT * FROM old ORDER BY path", "new": "SELECT * FROM new ORDER BY path"}


@dataclass(frozen=True, slots=True)
class _File:
    """The record of one path; ``digest`` covers the content."""

    key: bytes
    kind: str
    mode: int
    uid: int
    gid: int
    mtime: int
    major: int
    minor: int
    size: int
    digest: bytes
    target: bytes


def ramdisk_changes(where: str, first: FileRange, second: FileRange) -> Iterator[Change]:
    """Yield every change between two ramdisks whose bytes differ; ``where`` is their name.

    Raises:
        CpioError: a ramdisk is no archive; no change was yielded before.
        HostError: the disk has no room for the lists of their files.
    """
    what = "the lists of the ramdisks' files"
    with open_database(_SCHEMA, what=what, cache_kib=_CACHE_KIB) as database:
        for table, data in (("old", first), ("new", second)):
            for file in _files(data):
                database.execute(_PUT[table], _row(file))
        is_same = True
        for old, new in _pairs(_rows(database, "old"), _rows(database, "new")):
            key = (old or new).key  # type: ignore[union-attr]  # at least one of them is not None
            for change in _file_changes(f"{where}:/{show(path_of(key))}", old, new):
                is_same = False
                yield change
    if is_same:
        yield Change(
            where=where,
            what=ChangeKind.LAYOUT,
            note="the same files, stored in another order or with other inode numbers",
        )


def _row(file: _File) -> tuple[object, ...]:
    head = (file.key, file.kind, file.mode, file.uid, file.gid, file.mtime, file.major, file.minor)
    return (*head, file.size, file.digest, file.target)


def _rows(database: sqlite3.Connection, table: str) -> Iterator[_File]:
    return (_File(*row) for row in database.execute(_ALL[table]))


def _pairs(olds: Iterator[_File], news: Iterator[_File]) -> Iterator[tuple[_File | None, _File | None]]:
    """Merge two lists in the order of their keys; yield the records of each path in both."""
    old, new = next(olds, None), next(news, None)
    while old is not None or new is not None:
        if new is None or (old is not None and old.key < new.key):
            yield old, None
            old = next(olds, None)
        elif old is None or new.key < old.key:
            yield None, new
            new = next(news, None)
        else:
            yield old, new
            old, new = next(olds, None), next(news, None)


def _files(data: FileRange) -> Iterator[_File]:
    """Yield the paths of a ramdisk. If a path occurs twice, its last record counts, as for the kernel."""
    reader = read_ramdisk(data)
    for entry in reader:
        digest, target = hashlib.sha256(), b""
        for chunk in reader.data():
            digest.update(chunk)
            if entry.kind == "link":
                target = (target + chunk)[:_MAX_TARGET]
        yield _File(
            key=key_of(entry.name.rstrip(b"/")),
            kind=entry.kind,
            mode=entry.mode & 0o7777,
            uid=entry.uid,
            gid=entry.gid,
            mtime=entry.mtime,
            major=entry.rdev[0],
            minor=entry.rdev[1],
            size=entry.size,
            digest=digest.digest(),
            target=target,
        )


def _file_changes(where: str, old: _File | None, new: _File | None) -> Iterator[Change]:
    if old is None or new is None:
        if new is not None:
            yield Change(where=where, what=ChangeKind.ADDED, after=f"{new.kind}, {new.size} bytes")
        elif old is not None:
            yield Change(where=where, what=ChangeKind.REMOVED, before=f"{old.kind}, {old.size} bytes")
        return
    if (old.kind, old.major, old.minor) != (new.kind, new.major, new.minor):
        yield Change(where=where, what=ChangeKind.KIND, before=old.kind, after=new.kind)
    elif old.digest != new.digest:
        if old.kind == "link":
            yield Change(where=where, what=ChangeKind.TARGET, before=show(old.target), after=show(new.target))
        else:
            yield Change(where=where, what=ChangeKind.CONTENT, before=_content(old), after=_content(new))
    if old.mode != new.mode:
        yield Change(where=where, what=ChangeKind.MODE, before=f"{old.mode:04o}", after=f"{new.mode:04o}")
    if (old.uid, old.gid) != (new.uid, new.gid):
        texts = [f"{one.uid}:{one.gid}" for one in (old, new)]
        yield Change(where=where, what=ChangeKind.OWNER, before=texts[0], after=texts[1])
    if old.mtime != new.mtime:
        yield Change(where=where, what=ChangeKind.MTIME, before=str(old.mtime), after=str(new.mtime))


def _content(file: _File) -> str:
    return f"{file.size} bytes, sha256 {file.digest.hex()}"
