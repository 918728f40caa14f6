"""A file system as a sorted list of entries: the result of flattening layers, the input of a ramdisk."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from enclavectl.eif.errors import LayerError
from enclavectl.eif.file_range import FileRange
from enclavectl.eif.ramdisk.cpio import MAX_NAME, show
from enclavectl.eif.ramdisk.tar import TarEntry

# Linux's NAME_MAX: Docker fails to unpack a longer name, and a kernel skips it in a ramdisk without a word.
_NAME_MAX = 255


class Kind(Enum):
    """The kind of an entry; the value is the type part of its mode, and 0 for hard links."""

    FIFO = 0o010000
    CHAR = 0o020000
    DIRECTORY = 0o040000
    BLOCK = 0o060000
    FILE = 0o100000
    SYMLINK = 0o120000
    HARDLINK = 0


_BY_FLAG = {
    b"0": Kind.FILE,
    b"1": Kind.HARDLINK,
    b"2": Kind.SYMLINK,
    b"3": Kind.CHAR,
    b"4": Kind.BLOCK,
    b"5": Kind.DIRECTORY,
    b"6": Kind.FIFO,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One path. ``name`` is relative, without a trailing slash; empty for the root itself.

    ``target`` is a link's target: as written for a symbolic link, the first path of the file for a hard link.
    ``xattrs`` has names only: a ramdisk keeps no attributes, and the lint reports which ones get lost.
    """

    name: bytes
    kind: Kind
    perm: int
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    rdev: tuple[int, int] = (0, 0)
    target: bytes = b""
    data: FileRange | None = None
    xattrs: tuple[bytes, ...] = ()


def clean_name(raw: bytes, offset: int) -> bytes:
    """Strip leading, doubled and trailing slashes and ``./`` from a path.

    Docker unpacks each name below the layer's root, so a leading slash means that root; ko, kaniko and other
    builders write such names.

    Raises:
        LayerError: ``tar-name``; with ``..`` or a NUL, or longer than Linux takes.
    """
    parts = [part for part in raw.split(b"/") if part not in (b"", b".")]
    name = b"/".join(parts)
    if b".." in parts or b"\0" in raw or len(name) >= MAX_NAME:
        raise LayerError(
            f"{show(raw[:64])!r}: expected a path without '..' and of less than {MAX_NAME} bytes",
            code="tar-name",
            offset=offset,
        )
    if any(len(part) > _NAME_MAX for part in parts):
        raise LayerError(
            f"{show(raw[:64])!r}: expected names of at most {_NAME_MAX} bytes between slashes",
            code="tar-name",
            offset=offset,
        )
    return name


def to_entry(member: TarEntry) -> Entry:
    """Make an entry of a tar member.

    Raises:
        LayerError: ``tar-name``.
    """
    kind = _BY_FLAG[member.kind]
    target = member.target
    if kind is Kind.HARDLINK:
        target = clean_name(target, member.offset)
    return Entry(
        name=clean_name(member.name, member.offset),
        kind=kind,
        perm=member.mode & 0o7777,
        uid=member.uid,
        gid=member.gid,
        mtime=member.mtime,
        rdev=member.rdev,
        target=target,
        data=member.data if kind is Kind.FILE else None,
        xattrs=member.xattrs,
    )
