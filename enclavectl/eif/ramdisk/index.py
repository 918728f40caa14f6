"""A file system on disk: paths, and the inodes that they name, in a temporary database.

An image may have a million paths, and the host that builds it may be small.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from enclavectl.eif.file_range import FileRange, SeekableFile
from enclavectl.eif.ramdisk.database import open_database
from enclavectl.eif.ramdisk.entries import Entry, Kind

_CACHE_KIB = 16 << 10  # an image of 50,000 files fits; larger ones go to the disk
# Names are keyed by path, so they are read in order.
_SCHEMA = """
CREATE TABLE inode (
  id INTEGER PRIMARY KEY, kind, perm, uid, gid, mtime, major, minor, target, file, offset, size
);
CREATE TABLE linked (inode INTEGER PRIMARY KEY, ino);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """The number of the inode at a path, and whether that is a directory."""

    inode: int
    folder: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A path, its inode as an entry of that name, and, where the inode has several names, those."""

    inode: int
    entry: Entry
    links: Links | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """The names of one inode: the first and the last of them in order, and how many they are."""

    first: bytes
    last: bytes
    count: int


def key_of(path: bytes) -> bytes:
    r"""Spell ``path`` as the tables do: each component behind a NUL, so that ``""`` is the root.

    The order of keys is that of lists of components, since NUL is below each byte that a name may have, and
    what is below a directory lies between its key and the same with ``\x01`` behind it.
    """
    return b"\0" + path.replace(b"/", b"\0") if path else b""


def path_of(key: bytes) -> bytes:
    """Return the path that ``key`` spells."""
    return key[1:].replace(b"\0", b"/")


@contextmanager
def open_index() -> Iterator[Index]:
    """Open an empty index, usable until the end of the block.

    Raises:
        HostError: there is no room for it.
    """
    with open_database(_SCHEMA, what="the list of the image's files", cache_kib=_CACHE_KIB) as database:
        yield Index(database)


class Index:
    """Inodes, and tables of names for them."""

    def __init__(self, database: sqlite3.Connection) -> None:
        """``database`` has the schema above."""
        self.database = database
        self._files: list[SeekableFile] = []
        self._numbers: dict[int, int] = {}  # by id(), which the list keeps from being used again
        self._last = 0

    def add(self, entry: Entry) -> int:
        """Add an inode like ``entry``, without its name and ``xattrs``, and return its number."""
        self._last += 1
        self.put(self._last, entry)
        return self._last

    def put(self, inode: int, entry: Entry) -> None:
        """Make the inode of this number like ``entry``, for all its names."""
        data = entry.data
        where = (self._number(data.file), data.offset, data.size) if data else (None, 0, 0)
        head = (inode, entry.kind.value, entry.perm, entry.uid, entry.gid, entry.mtime)
        row = (*head, *entry.rdev, entry.target, *where)
        self.database.execute("REPLACE INTO inode VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def get(self, inode: int) -> Entry:
        """Return the inode of this number as an entry without a name."""
        row = self.database.execute("SELECT * FROM inode WHERE id = ?", (inode,)).fetchone()
        return self._entry(b"", row[1:])

    def link(self, inode: int) -> None:
        """Note that the inode may have several names from now on."""
        self.database.execute("INSERT OR IGNORE INTO linked VALUES (?, NULL)", (inode,))

    def number(self, inode: int, ino: int) -> int:
        """Return the number that a linked inode has in the ramdisk: ``ino``, if it has none yet."""
        self.database.execute("UPDATE linked SET ino = ? WHERE inode = ? AND ino IS NULL", (ino, inode))
        row = self.database.execute("SELECT ino FROM linked WHERE inode = ?", (inode,)).fetchone()
        return int(row[0])

    def walk(self, names: Names) -> Iterator[Found]:
        """Yield each name but the root's, in order: depth first, siblings by their bytes, parents first."""
        # CROSS JOIN keeps SQLite from another order than that of the names, which would need a sort.
        rows = self.database.execute(
            f"SELECT path, first, last, count, inode.* FROM {names.table} CROSS JOIN inode ON id = inode "
            "LEFT JOIN (SELECT inode AS number, MIN(path) AS first, MAX(path) AS last, COUNT(*) AS count "
            f"FROM {names.table} WHERE inode IN (SELECT inode FROM linked) GROUP BY inode) ON number = id "
            "WHERE path > x'' ORDER BY path"
        )
        for path, first, last, count, inode, *row in rows:
            links = Links(first=path_of(first), last=path_of(last), count=count) if count else None
            yield Found(inode=inode, entry=self._entry(path_of(path), row), links=links)

    def _number(self, file: SeekableFile) -> int:
        number = self._numbers.setdefault(id(file), len(self._files))
        if number == len(self._files):
            self._files.append(file)
        return number

    def _entry(self, name: bytes, row: Iterable[Any]) -> Entry:
        kind, perm, uid, gid, mtime, major, minor, target, file, offset, size = row
        data = None if file is None else FileRange(file=self._files[file], offset=offset, size=size)
        return Entry(
            name=name,
            kind=Kind(kind),
            perm=perm,
            uid=uid,
            gid=gid,
            mtime=mtime,
            rdev=(major, minor),
            target=target,
            data=data,
        )


class Names:
    """A table of names, by path."""

    def __init__(self, index: Index, table: str) -> None:
        """``table`` is an SQL identifier that no other table of the index has."""
        self.table = table
        self._execute = index.database.execute
        self._execute(
            f"CREATE TABLE {table} (path BLOB PRIMARY KEY, inode INTEGER NOT NULL, folder INTEGER NOT NULL) "
            "WITHOUT ROWID"
        )

    def get(self, key: bytes) -> Name | None:
        """Return what stands at ``key``, or None."""
        row = self._execute(f"SELECT inode, folder FROM {self.table} WHERE path = ?", (key,)).fetchone()
        return Name(inode=row[0], folder=bool(row[1])) if row else None

    def below(self, key: bytes, limit: int) -> list[bytes]:
        """The last components of some names directly below ``key``, at most ``limit`` of them."""
        rows = self._execute(
            f"SELECT substr(path, ?) FROM {self.table} WHERE path > ? AND path < ? "
            "AND instr(substr(path, ?), x'00') = 0 LIMIT ?",
            (len(key) + 2, key + b"\0", key + b"\1", len(key) + 2, limit),
        )
        return [bytes(base) for (base,) in rows]

    def put(self, key: bytes, name: Name) -> None:
        """Put ``name`` at ``key``; what is below it stays."""
        row = (key, name.inode, name.folder)
        self._execute(f"REPLACE INTO {self.table} VALUES (?, ?, ?)", row)

    def drop(self, key: bytes, *, itself: bool = True) -> None:
        """Delete everything below ``key``, and with ``itself`` what is at it."""
        above = ">=" if itself else ">"
        self._execute(
            f"DELETE FROM {self.table} WHERE path {above} ? AND path < ?",
            (key, key + b"\1"),
        )
