"""The pictures that a command line names, and the files of folders that were left out."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from enclavectl.client.formats import media_type_of
from enclavectl.errors import UsageError

STDIN = "-"
# The usual endings of the formats that the enclave decodes. Without an ending, the first bytes decide.
_SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp"),
    *(".bmp", ".dib", ".tif", ".tiff"),
}
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_HEAD_BYTES = 16  # the formats' magics have at most 12 bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """The entries of a folder, and of the folders below it, that are not taken as pictures.

    ``files`` counts by ending, in lower case and empty where there is none. ``hidden`` are files and folders
    whose names begin with a dot.
    """

    folder: str
    files: Counter[str] = field(default_factory=Counter)
    subfolders: int = 0
    hidden: int = 0

    def __bool__(self) -> bool:
        """Return True if anything but hidden names was left out."""
        return bool(self.files) or self.subfolders > 0

    def words(self) -> str:
        """Describe the entries for a person, without the folder's name."""
        kinds = [f"{count} {suffix or 'without an ending'}" for suffix, count in sorted(self.files.items())]
        total = self.files.total()
        parts = [f"{total} file{'s' * (total != 1)} ({', '.join(kinds)})"] if total else []
        if self.subfolders:
            parts.append(f"{self.subfolders} subfolder{'s' * (self.subfolders != 1)}")
        return " and ".join(parts)

    def to_json(self) -> dict[str, object]:
        """Return an element of ``left_out``."""
        return {
            "folder": self.folder,
            "files": dict(sorted(self.files.items())),
            "subfolders": self.subfolders,
            "hidden": self.hidden,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """The names to read, in order, and the entries left out of each named folder."""

    names: tuple[str, ...]
    left_out: tuple[LeftOut, ...] = ()


def collect(arguments: Sequence[str], *, recursive: bool = False) -> Collection:
    """Collect the pictures that the arguments name; a folder's pictures are sorted by name.

    With ``recursive``, a folder's own pictures come first and then those of its subfolders; links to folders
    are not followed.

    Raises:
        UsageError: a name does not exist or may not be looked at, a folder holds no picture, or ``-`` is
            named twice.
    """
    names: list[str] = []
    left_out: list[LeftOut] = []
    for argument in arguments:
        if argument == STDIN or not _is_folder(argument):
            names.append(argument)
            continue
        found, others = _from_folder(argument, recursive=recursive)
        names += found
        left_out.append(others)
    if names.count(STDIN) > 1:
        raise UsageError("standard input (-) can be read only once")
    return Collection(names=tuple(names), left_out=tuple(left_out))


def _is_folder(argument: str) -> bool:
    try:
        return stat.S_ISDIR(Path(argument).stat().st_mode)
    except FileNotFoundError as exc:
        raise UsageError(f"{argument}: no such file or folder", hint=_hint_for(argument)) from exc
    except (OSError, ValueError) as exc:  # ValueError: a NUL character in the path
        raise UsageError(f"{argument:.200}: cannot be read ({getattr(exc, 'strerror', exc)})") from exc


def _hint_for(argument: str) -> str | None:
    """Return what to do about a name that no file has."""
    if _ADDRESS.match(argument):
        return "enclavectl reads files: fetch it first, or pipe it to: enclavectl diagnose -"
    if any(character in argument for character in "*?["):
        return "the shell found no file that matches this pattern"
    return None


def _from_folder(folder: str, *, recursive: bool) -> tuple[list[str], LeftOut]:
    names: list[str] = []
    files: Counter[str] = Counter()
    subfolders = hidden = 0
    waiting = [folder]
    while waiting:
        below: list[str] = []
        for entry in _entries(waiting.pop()):
            if entry.name.startswith("."):
                hidden += 1
            elif Path(entry.path).is_dir():  # not entry.is_dir(), which raises for a link to itself
                if recursive and not entry.is_symlink():
                    below.append(entry.path)
                else:
                    subfolders += 1
            elif _is_picture(entry):
                names.append(str(Path(entry.path)))
            else:
                files[Path(entry.name).suffix.lower()] += 1
        waiting += reversed(below)
    others = LeftOut(folder=folder, files=files, subfolders=subfolders, hidden=hidden)
    if not names:
        raise _no_picture(others, recursive=recursive)
    return names, others


def _no_picture(others: LeftOut, *, recursive: bool) -> UsageError:
    hint = f"pictures are files ending in {', '.join(sorted(_SUFFIXES))}"
    if others.subfolders and not recursive:
        hint += "; --recursive looks into subfolders"
    beside = f", only {others.words()}" if others else ""
    return UsageError(f"{others.folder}: expected a folder with pictures, found none{beside}", hint=hint)


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as exc:
        raise UsageError(f"{folder:.200}: cannot be read ({exc.strerror})") from exc
    yield from found


def _is_picture(entry: os.DirEntry[str]) -> bool:
    suffix = Path(entry.name).suffix.lower()
    if suffix or not Path(entry.path).is_file():
        return suffix in _SUFFIXES
    try:
        with Path(entry.path).open("rb") as file:
            return media_type_of(file.read(_HEAD_BYTES)) is not None
    except OSError:
        return False  # counted as left out, like everything that cannot be recognized as a picture
