"""Paths of a flattened image, as the kernel would look them up in the running enclave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from enclavectl.eif.ramdisk.entries import Entry, Kind

_MAX_LINKS = 40  # Linux follows no more (MAXSYMLINKS)
# Where the enclave's init mounts file systems of its own, over all that the image has there; and nitro-cli's
# does.
MOUNTED = (b"dev", b"proc", b"run", b"sys", b"tmp")


class ImageTree(Protocol):
    """What a flattened image has at a path."""

    def entry(self, path: bytes) -> Entry | None:
        """What stands at a path without links in it; None where nothing does."""
        ...

    def siblings(self, folder: bytes) -> list[bytes]:
        """Some names in a folder, to suggest one."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """Where a path leads. ``entry`` is None if to nothing; ``problem`` says why, or why it is of no use."""

    path: bytes
    entry: Entry | None = None
    problem: str | None = None


def locate(tree: ImageTree, path: bytes) -> Located:
    """Follow ``path`` from the root, through symbolic links, as far as it leads."""
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
            return Located(path=here, problem=f"the enclave's init mounts a file system over {where}")
        entry = tree.entry(here)
        if entry is None:
            return Located(path=here, problem="there is no such file")
        if entry.kind is Kind.SYMLINK:
            links += 1
            if links > _MAX_LINKS:
                return Located(path=here, problem="its links lead in a circle")
            if entry.target.startswith(b"/"):
                at = b""
            waiting += [part for part in reversed(entry.target.split(b"/")) if part not in (b"", b".")]
            entry = tree.entry(at)
            continue
        if waiting and entry.kind is not Kind.DIRECTORY:
            return Located(path=here, problem="a file stands where a folder should")
        at = here
    return Located(path=at, entry=entry)
