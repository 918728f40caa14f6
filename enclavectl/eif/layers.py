"""Image layers flattened to one file system, as dockerd's overlay2 and ``docker export`` do it.

Each layer is first read on its own, as overlay2 unpacks it into a directory of its own, and is then laid
over what is below. That is where the rules come from: a whiteout and an opaque marker act on lower layers
only, in whatever order they stand in the tar; a hard link can only name a file of its own layer; and a
parent directory that the layer does not list is made anew, over a lower layer's entry too.

https://github.com/opencontainers/image-spec/blob/v1.1.0/layer.md
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import Enum

from enclavectl.eif.blob import Blob
from enclavectl.eif.cpio import MAX_ENTRIES, show
from enclavectl.eif.entries import Entry, Kind, to_entry
from enclavectl.eif.errors import LayerError
from enclavectl.eif.tar import read_tar

_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_META = b".wh..wh."  # aufs kept its own files under such names
_ROOT = Entry(name=b"", kind=Kind.DIRECTORY, perm=0o755)
# What dockerd puts over every image before a container starts, in its order (daemon/initlayer).
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
    """What becomes of a directory that a layer uses but does not list.

    ``DOCKER``: 0755, owned by root, even where a lower layer lists it; Docker stamps it with the time of the
    pull, so no two hosts agree and we use ``mtime`` 0. ``KEEP``: the lower layer's entry stays, as the OCI
    specification has it.
    """

    DOCKER = "docker"
    KEEP = "keep"


@dataclass(slots=True, eq=False)
class _Node:
    """An inode. Hard links are two names for one node."""

    entry: Entry


@dataclass(slots=True, eq=False)
class _Directory(_Node):
    children: dict[bytes, _Node] = field(default_factory=dict)
    hidden: set[bytes] = field(default_factory=set)
    opaque: bool = False
    implied: bool = False


class Flattened:
    """A whole image.

    ``implied`` are the directories that some layer used without listing them: with Docker, their times
    differ from host to host, and so do the PCRs that nitro-cli computes.
    """

    def __init__(self, root: _Directory, implied: tuple[bytes, ...]) -> None:
        self._root = root
        self.implied = implied

    def entries(self) -> Iterator[Entry]:
        """Depth first, siblings in byte order, a directory before its children; the root is left out."""
        return _walk(self._root)


def flatten(
    layers: Iterable[Blob], *, implied: ImpliedParents = ImpliedParents.DOCKER, init_layer: bool = True
) -> Flattened:
    """The file system that ``docker export`` would show.

    ``layers`` are plain tars, lowest first. ``init_layer`` adds what dockerd adds to every container. Needs
    memory for each path, none for file data.

    Raises:
        LayerError: a tar is damaged, a name is unsafe, or a layer breaks a rule (``layer-parent``,
            ``layer-hardlink``, ``layer-whiteout``, ``layer-entries``).
    """
    root = _Directory(_ROOT)
    missing: set[bytes] = set()
    count = 0
    for archive in layers:
        layer, names = _read_layer(archive, missing)
        count += names
        if count > MAX_ENTRIES:
            raise LayerError(f"more than {MAX_ENTRIES} entries in the layers", code="layer-entries")
        _lay_over(root, layer, implied)
    if init_layer:
        for path, entry in _INIT_LAYER:
            _init_path(root, path, entry)
    return Flattened(root, tuple(sorted(missing)))


def _read_layer(archive: Blob, missing: set[bytes]) -> tuple[_Directory, int]:
    root = _Directory(_ROOT, implied=True)
    count = 0
    for member in read_tar(archive):
        entry, at = to_entry(member), member.offset
        count += 1
        if not entry.name:
            if entry.kind is not Kind.DIRECTORY:
                raise LayerError("the layer's root is not a directory", code="layer-parent", offset=at)
            root.entry, root.implied = entry, False
            continue
        parts = entry.name.split(b"/")
        base = parts.pop()
        parent = _parent(root, parts, at)
        if base == _OPAQUE:
            parent.opaque = True
        elif entry.name.startswith(_META):
            continue  # dockerd skips aufs's own files, which stand in the root
        elif base.startswith(_WHITEOUT):
            if base == _WHITEOUT:
                raise LayerError("a whiteout without a name", code="layer-whiteout", offset=at)
            parent.hidden.add(base[len(_WHITEOUT) :])
        else:
            _put(root, parent, base, entry, at)
    missing.update(_implied(root))
    return root, count


def _parent(root: _Directory, parts: list[bytes], at: int) -> _Directory:
    node = root
    for part in parts:
        child = node.children.get(part)
        if child is None:
            child = node.children[part] = _Directory(_ROOT, implied=True)
        elif not isinstance(child, _Directory):
            # dockerd would write through a symbolic link here; no builder makes such layers.
            raise LayerError(
                f"{show(b'/'.join(parts)[:128])}: a parent is not a directory", code="layer-parent", offset=at
            )
        node = child
    return node


def _put(root: _Directory, parent: _Directory, base: bytes, entry: Entry, at: int) -> None:
    old = parent.children.get(base)
    if entry.kind is Kind.HARDLINK:
        node = _find(root, entry.target)
        if node is None or isinstance(node, _Directory):
            raise LayerError(
                f"{show(entry.name[:128])}: hard link to {show(entry.target[:128])}, "
                "which is no file of the same layer",
                code="layer-hardlink",
                offset=at,
            )
        # Measured with dockerd: the link's header is applied to the inode that it names.
        inode = node.entry
        symlink = inode.kind is Kind.SYMLINK
        node.entry = replace(
            inode,
            uid=entry.uid,
            gid=entry.gid,
            perm=inode.perm if symlink else entry.perm,
            mtime=inode.mtime if symlink else entry.mtime,
        )
        parent.children[base] = node
    elif entry.kind is Kind.SYMLINK:
        parent.children[base] = _Node(replace(entry, perm=0o777))  # Linux keeps no other mode for them
    elif entry.kind is not Kind.DIRECTORY:
        parent.children[base] = _Node(entry)
    elif isinstance(old, _Directory):
        old.entry, old.implied = entry, False
    else:
        parent.children[base] = _Directory(entry)


def _find(root: _Directory, name: bytes) -> _Node | None:
    node: _Node | None = root
    for part in name.split(b"/"):
        if not isinstance(node, _Directory):
            return None
        node = node.children.get(part)
    return node


def _implied(root: _Directory) -> Iterator[bytes]:
    """Paths of unlisted directories that hold something; the root itself does not count."""
    stack = [(b"", root)]
    while stack:
        path, node = stack.pop()
        for base, child in node.children.items():
            if isinstance(child, _Directory):
                name = path + base
                if child.implied:
                    yield name
                stack.append((name + b"/", child))


def _lay_over(base_root: _Directory, layer_root: _Directory, implied: ImpliedParents) -> None:
    stack = [(base_root, layer_root)]
    while stack:
        base, layer = stack.pop()
        if layer.opaque:
            base.children.clear()
        for name in layer.hidden:
            base.children.pop(name, None)
        # overlay2 makes each layer's root itself, so only a listed root changes it.
        if not layer.implied or (implied is ImpliedParents.DOCKER and layer is not layer_root):
            base.entry = layer.entry
        for name, child in layer.children.items():
            below = base.children.get(name)
            if not isinstance(child, _Directory):
                base.children[name] = child
                continue
            if not isinstance(below, _Directory):
                below = base.children[name] = _Directory(child.entry)
            stack.append((below, child))


def _init_path(root: _Directory, path: bytes, entry: Entry) -> None:
    """What dockerd's init layer does: what is in the way and no directory goes, what is missing is made."""
    node = root
    parts = path.split(b"/")
    for index, part in enumerate(parts):
        child = node.children.get(part)
        if not isinstance(child, _Directory):
            made = entry if index == len(parts) - 1 else _ROOT
            setgid = node.entry.perm & 0o2000  # which the kernel passes on to new directories
            if made.kind is not Kind.DIRECTORY:
                # dockerd gives files and directories to root, but a link keeps the group that it got.
                inherits = made.kind is Kind.SYMLINK and setgid
                node.children[part] = _Node(replace(made, gid=node.entry.gid) if inherits else made)
                return
            child = node.children[part] = _Directory(replace(made, perm=made.perm | setgid))
        node = child


def _walk(root: _Directory) -> Iterator[Entry]:
    seen: dict[int, bytes] = {}
    stack = [iter(_sorted(b"", root))]
    while stack:
        found = next(stack[-1], None)
        if found is None:
            stack.pop()
            continue
        name, node = found
        first = seen.setdefault(id(node), name)
        if first != name:
            yield replace(node.entry, name=name, kind=Kind.HARDLINK, target=first, data=None)
            continue
        yield replace(node.entry, name=name)
        if isinstance(node, _Directory):
            stack.append(iter(_sorted(name + b"/", node)))


def _sorted(prefix: bytes, node: _Directory) -> list[tuple[bytes, _Node]]:
    return [(prefix + base, child) for base, child in sorted(node.children.items())]
