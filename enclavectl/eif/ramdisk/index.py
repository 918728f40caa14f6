"""A file system in a temporary database: paths, and the inodes that they name.

It is on the disk because an image may have a million paths, and the building host may be small.
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
# The path is the key, so names are read in the order of their paths.
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
class IndexEntry:
    """A path, its inode as an entry of that name, and the inode's names if there are several."""

    inode: int
    entry: Entry
    links: InodeNames | None


@dataclass(frozen=True, slots=True, kw_only=True)
class InodeNames:
    """The first and the last name of one inode, in order, and the number of its names."""

    first: bytes
    last: bytes
    count: int


def key_of(path: bytes) -> bytes:
    r"""Return the key of ``path``: each component after a NUL, so that ``""`` is the root.

    Keys sort like lists of components, since NUL sorts before each byte of a name. The keys below a directory
    lie between its key and that key with ``\x01`` appended.
    """
    return b"\0" + path.replace(b"/", b"\0") if path else b""


def path_of(key: bytes) -> bytes:
    """Return the path of ``key``."""
    return key[1:].replace(b"\0", b"/")


@contextmanager
def open_index() -> Iterator[Index]:
    """Open an empty index, usable until the end of the block.

    Raises:
        HostError: the disk has no room for it.
    """
    with open_database(_SCHEMA, what="the list of the image's files", cache_kib=_CACHE_KIB) as database:
        yield Index(database)


class Index:
    """A table of inodes, and tables of their names."""

    def __init__(self, database: sqlite3.Connection) -> None:
        """Use a database with the schema above."""
        self.database = database
        self._files: list[SeekableFile] = []
        self._numbers: dict[int, int] = {}  # by id(); the list keeps the objects alive, so ids stay unique
        self._last = 0

    def add(self, entry: Entry) -> int:
        """Add an inode with the fields of ``entry`` except name and ``xattrs``; return its number."""
        self._last += 1
        self.put(self._last, entry)
        return self._last

    def put(self, inode: int, entry: Entry) -> None:
        """Replace the inode of this number, for all its names, by ``entry``."""
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
        """Mark the inode as one that may have several names."""
        self.database.execute("INSERT OR IGNORE INTO linked VALUES (?, NULL)", (inode,))

    def number(self, inode: int, ino: int) -> int:
        """Return a linked inode's number in the ramdisk; assign ``ino`` if it has none yet."""
        self.database.execute("UPDATE linked SET ino = ? WHERE inode = ? AND ino IS NULL", (ino, inode))
        row = self.database.execute("SELECT ino FROM linked WHERE inode = ?", (inode,)).fetchone()
        return int(row[0])

    def walk(self, names: Names) -> Iterator[IndexEntry]:
        """Yield each name except the root, in order: depth first, siblings by their bytes, parents first."""
        # CROSS JOIN makes SQLite iterate in the order of the names, without a sort.
        rows = self.database.execute(
            f"SELECT path, first, last, count, inode.* FROM {names.table} CROSS JOIN inode ON id = inode "
            "LEFT JOIN (SELECT inode AS number, MIN(path) AS first, MAX(path) AS last, COUNT(*) AS count "
            f"FROM {names.table} WHERE inode IN (SELECT inode FROM linked) GROUP BY inode) ON number = id "
            "WHERE path > x'' ORDER BY path"
        )
        for path, first, last, count, inode, *row in rows:
            links = InodeNames(first=path_of(first), last=path_of(last), count=count) if count else None
            yield IndexEntry(inode=inode, entry=self._entry(path_of(path), row), links=links)

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
        """Create the table; ``table`` is an SQL identifier that the index does not use yet."""
        self.table = table
        self._execute = index.database.execute
        self._execute(
            f"CREATE TABLE {table} (path BLOB PRIMARY KEY, inode INTEGER NOT NULL, folder INTEGER NOT NULL) "
            "WITHOUT ROWID"
        )

    def get(self, key: bytes) -> Name | None:
        """Return the name at ``key``, or None."""
        row = self._execute(f"SELECT inode, folder FROM {self.table} WHERE path = ?", (key,)).fetchone()
        return Name(inode=row[0], folder=bool(row[1])) if row else None

    def below(self, key: bytes, limit: int) -> list[bytes]:
        """List the last components of at most ``limit`` names directly below ``key``."""
        rows = self._execute(
            f"SELECT substr(path, ?) FROM {self.table} WHERE path > ? AND path < ? "
            "AND instr(substr(path, ?), x'00') = 0 LIMIT ?",
            (len(key) + 2, key + b"\0", key + b"\1", len(key) + 2, limit),
        )
        return [bytes(base) for (base,) in rows]

    def put(self, key: bytes, name: Name) -> None:
        """Put ``name`` at ``key``; keep the names below it."""
        row = (key, name.inode, name.folder)
        self._execute(f"REPLACE INTO {self.table} VALUES (?, ?, ?)", row)

    def drop(self, key: bytes, *, itself: bool = True) -> None:
        """Delete everything below ``key``; with ``itself``, also the name at ``key``."""
        above = ">=" if itself else ">"
        self._execute(
            f"DELETE FROM {self.table} WHERE path {above} ? AND path < ?",
            (key, key + b"\1"),
        )
