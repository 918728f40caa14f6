"""Image layers flattened to one file system, as dockerd's overlay2 and ``docker export`` do it.

Each layer is read on its own, as overlay2 unpacks it into its own directory, and is then laid over the layers
below. The rules follow from that. A whiteout and an opaque marker act on lower layers only, wherever they
stand in the tar. A hard link can only name a file of its own layer. A character device with the number 0:0,
which is overlayfs' own whiteout, hides the entry below it. A parent directory that the layer does not list is
created anew, even over a lower layer's entry.

https://github.com/opencontainers/image-spec/blob/v1.1.0/layer.md
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum

from enclavectl.eif.errors import LayerError
from enclavectl.eif.file_range import FileRange
from enclavectl.eif.ramdisk.cpio import MAX_ENTRIES, show
from enclavectl.eif.ramdisk.entries import Entry, Kind, to_entry
from enclavectl.eif.ramdisk.index import Index, Name, Names, key_of, open_index, path_of
from enclavectl.eif.ramdisk.sparse import SparseBudget
from enclavectl.eif.ramdisk.tar import read_tar

_MAX_SIBLINGS = 500  # names: enough to suggest a similar one
_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_META = b".wh..wh."  # aufs kept its own files under such names
# overlayfs' own attributes. dockerd keeps ``opaque`` and containerd does not, so one image would have two
# trees. The five accepted attributes are overlayfs' bookkeeping and hide nothing:
# https://docs.kernel.org/filesystems/overlayfs.html
_OVERLAY = re.compile(rb"(?:trusted|user)\.overlay\.(?!(?:origin|impure|nlink|upper|uuid)\Z)")
_ROOT = Entry(name=b"", kind=Kind.DIRECTORY, perm=0o755)
# The entries that dockerd adds to every image before a container starts, in its order (daemon/initlayer).
_INIT_LAYER = (
    (b"dev/pts", _ROOT),
    (b"dev/shm", _ROOT),
    (b"proc", _ROOT),
    (b"sys", _ROOT),
    (b".dockerenv", Entry(name=b"", kind=Kind.FILE, perm=0o755)),
    (b"etc/resolv.conf", Entry(name=b"", kind=Kind.FILE, perm=0o755)),
    (b"etc/hosts", Entry(name=b"", kind=Kind.FILE, perm=0o755)),
    (b"etc/hostname", Entry(name=b"", kind=Kind.FILE, perm=0o755)),
    (b"dev/console", Entry(name=b"", kind=Kind.FILE, perm=0o755)),
    (b"etc/mtab", Entry(name=b"", kind=Kind.SYMLINK, perm=0o777, target=b"/proc/mounts")),
)


class ImpliedParents(Enum):
    """The treatment of a directory that a layer uses but does not list.

    ``DOCKER``: 0755, owned by root, even if a lower layer lists it. Docker gives it the time of the pull, so
    no two hosts agree; we use ``mtime`` 0. ``KEEP``: the lower layer's entry stays, as in the OCI
    specification.
    """

    DOCKER = "docker"
    KEEP = "keep"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImpliedDirectories:
    """The number of directories that a layer uses but does not list, and the first three of them.

    Docker gives them different times on each host, so nitro-cli's PCRs differ between hosts.
    """

    count: int = 0
    examples: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FlattenedImage:
    """A whole image, usable as long as its index is open."""

    index: Index
    names: Names
    implied: ImpliedDirectories

    def entry(self, path: bytes) -> Entry | None:
        """Return the entry at a path without resolving links; the empty path is the root."""
        name = self.names.get(key_of(path))
        return None if name is None else replace(self.index.get(name.inode), name=path)

    def siblings(self, folder: bytes) -> list[bytes]:
        """List some names in a folder."""
        return self.names.below(key_of(folder), _MAX_SIBLINGS)

    def entries(self) -> Iterator[Entry]:
        """Yield all entries except the root: depth first, siblings in byte order, a directory before its
        children.

        The first name of a file is the file; its other names are hard links to the first.
        """
        for found in self.index.walk(self.names):
            entry, links = found.entry, found.links
            if links is not None and links.first != entry.name:
                entry = replace(entry, kind=Kind.HARDLINK, target=links.first, data=None)
            yield entry


@contextmanager
def flatten(
    layers: Iterable[FileRange], *, implied: ImpliedParents = ImpliedParents.DOCKER, init_layer: bool = True
) -> Iterator[FlattenedImage]:
    """Flatten layers to the tree of ``docker export``; the result is usable until the end of the block.

    ``layers`` are plain tars, lowest first. ``init_layer`` adds the entries that dockerd adds to every
    container. The list of paths is on the disk, not in memory.

    Raises:
        LayerError: a tar is damaged, a name is unsafe, or a layer breaks a rule (``layer-parent``,
            ``layer-hardlink``, ``layer-whiteout``, ``layer-overlay``, ``layer-entries``).
        HostError: the disk has no room for the list of files.
    """
    with open_index() as index:
        image = Names(index, "image")
        image.put(b"", Name(inode=index.add(_ROOT), folder=True))
        layer = _Layer(index)
        for archive in layers:
            layer.read(archive)
            layer.lay_over(image, implied)
        if init_layer:
            for path, entry in _INIT_LAYER:
                _init_path(index, image, path, entry)
        yield FlattenedImage(index=index, names=image, implied=layer.missing())


class _Layer:
    """One layer by itself, as overlay2 unpacks it; ``read`` replaces it by the next layer.

    Beside the names there are three tables of keys: ``implied`` has the directories that no member lists;
    ``opaque`` has the directories that hide the content of lower layers; ``hidden`` has single paths to hide.
    ``device`` lists the inodes that are overlayfs' whiteouts.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self._names = Names(index, "layer")
        self._execute = index.database.execute
        for table in ("implied", "opaque", "hidden", "missing"):
            self._execute(f"CREATE TABLE {table} (path BLOB PRIMARY KEY) WITHOUT ROWID")
        self._execute("CREATE TABLE device (inode INTEGER PRIMARY KEY)")
        self._sparse = SparseBudget()
        self._count = 0
        self._parent = b""  # the last parent found to exist; members of a directory follow each other

    def read(self, archive: FileRange) -> None:
        """Read the layer in ``archive``; forget the previous one."""
        for table in ("layer", "implied", "opaque", "hidden", "device"):
            self._execute(f"DELETE FROM {table}")
        self._make(b"", _ROOT)
        self._mark("implied", b"")
        self._parent = b""
        for member in read_tar(archive, sparse=self._sparse):
            self._count_one()
            self._take(to_entry(member), member.offset)
        self._execute("INSERT OR IGNORE INTO missing SELECT path FROM implied WHERE path > x''")

    def lay_over(self, image: Names, implied: ImpliedParents) -> None:
        """Lay this layer over ``image``."""
        self._execute(
            "INSERT OR IGNORE INTO hidden SELECT path FROM layer JOIN image USING (path) "
            "WHERE image.folder AND NOT layer.folder"
        )
        for (key,) in self._execute("SELECT path FROM opaque"):
            image.drop(key, itself=False)
        for (key,) in self._execute("SELECT path FROM hidden"):
            image.drop(key)
        # overlay2 creates each layer's root itself, so only a listed root changes it.
        kept = "IN (SELECT path FROM image WHERE folder)" if implied is ImpliedParents.KEEP else "= x''"
        self._execute(f"DELETE FROM layer WHERE path IN implied AND path {kept}")
        self._execute("REPLACE INTO image SELECT * FROM layer")
        self._execute("DELETE FROM image WHERE path IN (SELECT path FROM layer JOIN device USING (inode))")

    def missing(self) -> ImpliedDirectories:
        """Return the directories that any layer so far uses but does not list."""
        count = self._execute("SELECT COUNT(*) FROM missing").fetchone()[0]
        rows = self._execute("SELECT path FROM missing ORDER BY path LIMIT 3")
        return ImpliedDirectories(count=count, examples=tuple(path_of(key) for (key,) in rows))

    def _count_one(self) -> None:
        self._count += 1
        if self._count > MAX_ENTRIES:
            raise LayerError(f"more than {MAX_ENTRIES} entries in the layers", code="layer-entries")

    def _mark(self, table: str, key: bytes) -> None:
        self._execute(f"INSERT OR IGNORE INTO {table} VALUES (?)", (key,))

    def _make(self, key: bytes, entry: Entry) -> None:
        self._names.put(key, Name(inode=self._index.add(entry), folder=entry.kind is Kind.DIRECTORY))

    def _take(self, entry: Entry, at: int) -> None:
        key = key_of(entry.name)
        if not key and entry.kind is not Kind.DIRECTORY:
            raise LayerError("the layer's root is not a directory", code="layer-parent", offset=at)
        _check_attributes(entry, at)
        parent, _, base = key.rpartition(b"\0")
        if parent != self._parent:
            self._make_parents(parent, at)
            self._parent = parent
        if base == _OPAQUE:
            self._mark("opaque", parent)
        elif entry.name.startswith(_META):
            return  # dockerd skips aufs' own files, which are in the root
        elif base.startswith(_WHITEOUT):
            if base == _WHITEOUT:
                raise LayerError("a whiteout without a name", code="layer-whiteout", offset=at)
            self._mark("hidden", parent + b"\0" + base[len(_WHITEOUT) :])
        else:
            self._put(key, entry, at)

    def _make_parents(self, parent: bytes, at: int) -> None:
        absent, key = [], parent
        while (name := self._names.get(key)) is None:
            absent.append(key)
            key = key.rpartition(b"\0")[0]
        if not name.folder:
            # dockerd would write through a symbolic link here; no builder makes such layers.
            raise LayerError(
                f"{show(path_of(key)[:128])}: expected a directory, as {show(path_of(parent)[:128])} says, "
                "found a link or a file",
                code="layer-parent",
                offset=at,
                hint="build the image anew with the files at the link's target, or without the link: "
                "docker build makes no such layer",
            )
        for key in absent:
            self._count_one()
            self._make(key, _ROOT)
            self._mark("implied", key)

    def _put(self, key: bytes, entry: Entry, at: int) -> None:
        old = self._names.get(key)
        link = self._linked(entry, at) if entry.kind is Kind.HARDLINK else None
        if old is not None and old.folder:
            if entry.kind is Kind.DIRECTORY:
                self._index.put(old.inode, entry)
                self._execute("DELETE FROM implied WHERE path = ?", (key,))
                return
            self._clear(key)
        if link is not None:
            self._names.put(key, link)
        elif entry.kind is Kind.SYMLINK:
            self._make(key, replace(entry, perm=0o777))  # Linux keeps no other mode for them
        else:
            self._make(key, entry)
            if entry.kind is Kind.CHAR and entry.rdev == (0, 0):
                self._execute("INSERT INTO device SELECT inode FROM layer WHERE path = ?", (key,))

    def _clear(self, key: bytes) -> None:
        """Remove the directory at ``key`` with everything that the layer has or hides in it."""
        self._names.drop(key)
        for table in ("implied", "opaque"):
            self._execute(f"DELETE FROM {table} WHERE path >= ? AND path < ?", (key, key + b"\1"))
        self._execute("DELETE FROM hidden WHERE path > ? AND path < ?", (key, key + b"\1"))
        self._parent = b""

    def _linked(self, entry: Entry, at: int) -> Name:
        """Find the file that a hard link names, and apply the link's header to it, as dockerd does
        (measured).
        """
        name = self._names.get(key_of(entry.target))
        if name is None or name.folder:
            raise LayerError(
                f"{show(entry.name[:128])}: hard link to {show(entry.target[:128])}, "
                "which is no file of the same layer",
                code="layer-hardlink",
                offset=at,
            )
        inode = replace(self._index.get(name.inode), uid=entry.uid, gid=entry.gid)
        if inode.kind is not Kind.SYMLINK:
            inode = replace(inode, perm=entry.perm, mtime=entry.mtime)
        self._index.put(name.inode, inode)
        self._index.link(name.inode)
        return name


def _check_attributes(entry: Entry, at: int) -> None:
    """Refuse an attribute by which overlayfs hides or moves entries of other layers."""
    found = next(filter(_OVERLAY.match, entry.xattrs), None)
    if found is not None:
        raise LayerError(
            f"{show(entry.name[:128])}: the attribute {show(found[:64])} belongs to overlayfs, and engines "
            "differ in what they make of it",
            code="layer-overlay",
            offset=at,
            hint="the layer is a copy of an overlay's upper folder: build the image with docker build, or "
            "docker export a container of it and docker import the result",
        )


def _init_path(index: Index, image: Names, path: bytes, entry: Entry) -> None:
    """Apply one entry of dockerd's init layer: replace a non-directory in its way, create what is missing."""
    key, name = b"", image.get(b"")
    parts = path.split(b"/")
    for number, part in enumerate(parts, 1):
        above = index.get(name.inode) if name else _ROOT
        key += b"\0" + part
        name = image.get(key)
        if name is None or not name.folder:
            made = entry if number == len(parts) else _ROOT
            setgid = above.perm & 0o2000  # the kernel copies it to new directories
            if made.kind is Kind.DIRECTORY:
                made = replace(made, perm=made.perm | setgid)
            elif made.kind is Kind.SYMLINK and setgid:
                # dockerd gives files and directories to root, but a link keeps the group of its folder.
                made = replace(made, gid=above.gid)
            name = Name(inode=index.add(made), folder=made.kind is Kind.DIRECTORY)
            image.put(key, name)
