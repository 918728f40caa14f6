"""A host's files as a folder: the real one is ``/``, a recorded one is any other.

Paths are absolute paths on that host. Absent is ``None`` or empty; what is there and cannot be read is an
error.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from enclavectl.errors import HostError

# Nothing of sysfs, /proc or /etc that we read is longer.
_MAX_TEXT = 1 << 20
# ProcessLookupError: a process whose folder in /proc we look at has ended meanwhile.
_ABSENT = (FileNotFoundError, NotADirectoryError, ProcessLookupError)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """The type and permission bits of a file, and whose it is."""

    mode: int
    uid: int
    gid: int

    @property
    def permissions(self) -> int:
        """The permission bits alone."""
        return stat.S_IMODE(self.mode)

    def allows(self, wanted: int, *, uid: int, gids: frozenset[int]) -> bool:
        """Return whether a process of this user may do what ``wanted`` says (os.R_OK | os.W_OK | os.X_OK)."""
        if uid == 0:
            return True
        shift = 6 if uid == self.uid else 3 if self.gid in gids else 0
        return (self.mode >> shift) & wanted == wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """The files under ``root``. ``facts_of`` and ``free_of`` stand in for what a copied folder cannot keep.

    A copy has another owner than the original and no devices: a recording names their facts by path.
    """

    root: Path = Path("/")
    facts_of: Mapping[str, FileFacts] = field(default_factory=dict)
    free_of: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_live(self) -> bool:
        """True if this is the machine that we run on."""
        return self.root == Path("/")

    def path(self, name: str) -> Path:
        """Return where a file of the host is on this machine."""
        return self.root / name.lstrip("/")

    def text(self, name: str) -> str | None:
        """Read a file's text; None where there is no file.

        Raises:
            HostError: it is there and cannot be read, is no file, or is longer than a megabyte.
        """
        data = self.data(name)
        return None if data is None else data.decode("utf-8", errors="replace")

    def data(self, name: str) -> bytes | None:
        """Read a file's bytes; None where there is no file.

        Raises:
            HostError: as ``text``.
        """
        try:
            # O_NONBLOCK: a FIFO in its place must not make us wait.
            descriptor = os.open(self.path(name), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except _ABSENT:
            return None
        except OSError as exc:
            raise _unreadable(name, exc) from exc
        try:
            with os.fdopen(descriptor, "rb") as file:
                data = file.read(_MAX_TEXT + 1)
        except ProcessLookupError:
            return None
        except OSError as exc:
            raise _unreadable(name, exc) from exc
        if len(data) > _MAX_TEXT:
            raise HostError(f"{name}: expected at most {_MAX_TEXT} bytes, found more", code="host-unreadable")
        return data

    def word(self, name: str) -> str | None:
        """Read a file's text without the blanks around it; None where there is no file.

        Raises:
            HostError: as ``text``.
        """
        text = self.text(name)
        return None if text is None else text.strip()

    def number(self, name: str) -> int | None:
        """Read the whole number in a file of sysfs; None where there is no file or no number in it.

        Raises:
            HostError: as ``text``.
        """
        word = self.word(name)
        return int(word) if word is not None and word.isascii() and word.isdigit() else None

    def names(self, name: str) -> list[str]:
        """List what is in a folder, sorted; nothing where there is no folder.

        Raises:
            HostError: it is there and cannot be listed.
        """
        try:
            return sorted(path.name for path in self.path(name).iterdir())
        except _ABSENT:
            return []
        except OSError as exc:
            raise _unreadable(name, exc) from exc

    def exists(self, name: str) -> bool:
        """Return whether there is anything of this name."""
        return self.facts(name) is not None

    def facts(self, name: str) -> FileFacts | None:
        """Return type, permissions and owner, links followed; None where there is nothing.

        Raises:
            HostError: a folder on the way may not be entered.
        """
        if name in self.facts_of:
            return self.facts_of[name]
        try:
            found = self.path(name).stat()
        except _ABSENT:
            return None
        except OSError as exc:
            raise _unreadable(name, exc) from exc
        return FileFacts(mode=found.st_mode, uid=found.st_uid, gid=found.st_gid)

    def free_bytes(self, name: str) -> int:
        """Return how many bytes an unprivileged user may still write to the file system of ``name``.

        ``name`` need not exist.


        Raises:
            HostError: the file system does not answer.
        """
        folders = [name, *map(str, Path(name).parents)]
        recorded = next((folder for folder in folders if folder in self.free_of), None)
        if recorded is not None:
            return self.free_of[recorded]
        try:
            there = next(folder for folder in folders if self.path(folder).exists())
            found = os.statvfs(self.path(there))
        except OSError as exc:
            raise _unreadable(name, exc) from exc
        return found.f_bavail * found.f_frsize


def _unreadable(name: str, exc: OSError) -> HostError:
    return HostError(f"{name}: cannot be read ({exc.strerror})", code="host-unreadable")
