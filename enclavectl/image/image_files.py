"""Paths of a flattened image, resolved as the kernel would resolve them in the running enclave."""

from __future__ import annotations

from dataclasses import dataclass

from enclavectl.eif.ramdisk.entries import Entry, Kind
from enclavectl.eif.ramdisk.layers import FlattenedImage

_MAX_LINKS = 40  # Linux follows no more (MAXSYMLINKS)
# The folders over which our init, and nitro-cli's, mount other file systems: the image's files there are
# hidden.
MOUNTED = (b"dev", b"proc", b"run", b"sys", b"tmp")


@dataclass(frozen=True, slots=True, kw_only=True)
class PathTarget:
    """The target of a path. ``entry`` is None if nothing is there; ``problem`` says why it is unusable."""

    path: bytes
    entry: Entry | None = None
    problem: str | None = None


def locate(tree: FlattenedImage, path: bytes) -> PathTarget:
    """Resolve ``path`` from the root, through symbolic links, as far as possible."""
    waiting = [part for part in reversed(path.split(b"/")) if part not in (b"", b".")]
    at, links = b"", 0
    entry: Entry | None = tree.entry(b"")
    while waiting:
        part = waiting.pop()
        if part == b"..":
            at = at.rpartition(b"/")[0]
            entry = tree.entry(at)
            continue
        here = at + b"/" + part if at else part
        if here in MOUNTED and (waiting or part):
            where = f"/{here.decode()}"
            return PathTarget(path=here, problem=f"the enclave's init mounts a file system over {where}")
        entry = tree.entry(here)
        if entry is None:
            return PathTarget(path=here, problem="there is no such file")
        if entry.kind is Kind.SYMLINK:
            links += 1
            if links > _MAX_LINKS:
                return PathTarget(path=here, problem="its links lead in a circle")
            if entry.target.startswith(b"/"):
                at = b""
            waiting += [part for part in reversed(entry.target.split(b"/")) if part not in (b"", b".")]
            entry = tree.entry(at)
            continue
        if waiting and entry.kind is not Kind.DIRECTORY:
            return PathTarget(path=here, problem="a file stands where a folder should")
        at = here
    return PathTarget(path=at, entry=entry)
