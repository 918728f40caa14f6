"""A host's files below a root folder: ``/`` for this machine, another folder for a recorded host.

Paths are absolute paths on that host. An absent file is ``None`` or empty; a file that exists and cannot be
read is an error.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from enclavectl.errors import HostError

# Bytes: every file of sysfs, /proc or /etc that we read is shorter.
_MAX_TEXT = 1 << 20
# ProcessLookupError: the process of a folder in /proc has just ended.
_ABSENT = (FileNotFoundError, NotADirectoryError, ProcessLookupError)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """The type, permission bits and owner of a file."""

    mode: int
    uid: int
    gid: int

    @property
    def permissions(self) -> int:
        """The permission bits alone."""
        return stat.S_IMODE(self.mode)

    def allows(self, wanted: int, *, uid: int, gids: frozenset[int]) -> bool:
        """Return whether a process of this user has the access ``wanted`` (os.R_OK | os.W_OK | os.X_OK)."""
        if uid == 0:
            return True
        shift = 6 if uid == self.uid else 3 if self.gid in gids else 0
        return (self.mode >> shift) & wanted == wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """The files under ``root``. ``facts_of`` and ``free_of`` replace facts that a copied folder cannot keep.

    A copy has a different owner than the original and no devices, so a recording has these facts by path.
    """

    root: Path = Path("/")
    facts_of: Mapping[str, FileFacts] = field(default_factory=dict)
    free_of: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_live(self) -> bool:
        """True if this is the running machine."""
        return self.root == Path("/")

    def path(self, name: str) -> Path:
        """Return the path on this machine of a file of the host."""
        return self.root / name.lstrip("/")

    def text(self, name: str) -> str | None:
        """Read a file's text; None if the file is absent.

        Raises:
            HostError: it exists and cannot be read, is no file, or is longer than 1 MiB.
        """
        data = self.data(name)
        return None if data is None else data.decode("utf-8", errors="replace")

    def data(self, name: str) -> bytes | None:
        """Read a file's bytes; None if the file is absent.

        Raises:
            HostError: as ``text``.
        """
        try:
            # O_NONBLOCK: a FIFO in place of the file must not block us.
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
        """Read a file's text without the blanks around it; None if the file is absent.

        Raises:
            HostError: as ``text``.
        """
        text = self.text(name)
        return None if text is None else text.strip()

    def number(self, name: str) -> int | None:
        """Read the whole number in a file of sysfs; None if the file is absent or has no number.

        Raises:
            HostError: as ``text``.
        """
        word = self.word(name)
        return int(word) if word is not None and word.isascii() and word.isdigit() else None

    def names(self, name: str) -> list[str]:
        """List the names in a folder, sorted; empty if the folder is absent.

        Raises:
            HostError: it exists and cannot be listed.
        """
        try:
            return sorted(path.name for path in self.path(name).iterdir())
        except _ABSENT:
            return []
        except OSError as exc:
            raise _unreadable(name, exc) from exc

    def exists(self, name: str) -> bool:
        """Return whether this path exists."""
        return self.facts(name) is not None

    def facts(self, name: str) -> FileFacts | None:
        """Return type, permissions and owner, with links followed; None if the path is absent.

        Raises:
            HostError: a folder of the path may not be entered.
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
        """Return the bytes that an unprivileged user may still write to the file system of ``name``.

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
