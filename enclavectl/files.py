"""Files on this host: whole or not at all when written, bounded when read, private where they must be.

Every failure is a ``HostError`` (the host would not let us) or a ``UsageError`` (the caller named something
that cannot be used); no ``OSError`` leaves this module.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from enclavectl.errors import HostError, UsageError

# Names of files that are being written, and of those that a killed process left.
STAGED_GLOB = ".enclavectl-*.tmp"


class StagedFile:
    """A temporary file that becomes its destination on ``commit`` and vanishes otherwise."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        """``file`` is open for reading and writing; ``path`` is where it is until ``commit``."""
        self.file = file
        self.path = path

    def sync(self) -> None:
        """Write everything to the disk, so that ``commit`` does not find it full.

        Raises:
            HostError: the file system refused.
        """
        try:
            self.file.flush()
            os.fsync(self.file.fileno())
        except OSError as exc:
            raise HostError(f"{self.path.parent}: cannot write ({_reason(exc)})") from exc

    def commit(self, destination: Path) -> None:
        """``destination`` has the written bytes, whole, and whatever was there before is gone.

        The destination must be on the file system of the folder that the file was staged in. The folder is
        not synced: after a power cut either the old or the new content is there, never a mix.

        Raises:
            UsageError: the destination is a device, a socket or a FIFO.
            HostError: the file system refused; the old content is untouched.
        """
        self.sync()
        replace_file(self.path, destination)

    def commit_new(self, destination: Path) -> None:
        """As ``commit``, but only where nothing is: what is at ``destination`` is never overwritten.

        Raises:
            HostError: something is there, or the file system refused.
        """
        self.sync()
        try:
            os.link(self.path, destination)
        except FileExistsError as exc:
            raise HostError(f"{destination}: expected nothing there, found a file") from exc
        except OSError as exc:
            raise HostError(f"{destination}: cannot write ({_reason(exc)})") from exc


def replace_file(source: Path, destination: Path) -> None:
    """``source`` is at ``destination``, whole, and whatever was there before is gone.

    Raises:
        UsageError: the destination is a device, a socket or a FIFO.
        HostError: the file system refused; the old content is untouched.
    """
    require_replaceable(destination)
    try:
        source.replace(destination)
    except OSError as exc:
        raise HostError(f"{destination}: cannot write ({_reason(exc)})") from exc


def require_replaceable(destination: Path) -> None:
    """Return if a file may be put at ``destination``. Root could put one in place of /dev/null.

    Raises:
        UsageError: there is a device, a socket or a FIFO.
    """
    try:
        mode = destination.lstat().st_mode
    except (OSError, ValueError):
        return  # there is nothing, or whoever writes will say what is wrong
    if stat.S_IFMT(mode) not in (
        stat.S_IFREG,
        stat.S_IFLNK,
        stat.S_IFDIR,
    ):  # no file replaces a folder anyway
        raise UsageError(f"{destination}: expected a file to write, found {_kind(mode)}")


@contextmanager
def stage_file(folder: Path, *, mode: int = 0o600) -> Iterator[StagedFile]:
    """Open a new file in ``folder``; it is removed at the end of the block unless it was committed.

    Raises:
        HostError: the folder does not exist or does not take files, or a write in the block failed.
    """
    # tempfile would do this too, but its imports (random, shutil, bz2, lzma) slow the start of every command.
    path = folder / f".enclavectl-{os.urandom(8).hex()}.tmp"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as exc:
        raise HostError(f"{folder}: cannot create a file ({_reason(exc)})") from exc
    try:
        with os.fdopen(descriptor, "w+b") as file:
            os.fchmod(descriptor, mode)  # after creation, so that the umask does not decide
            yield StagedFile(file, path)
    except OSError as exc:
        raise HostError(f"{folder}: cannot write ({_reason(exc)})") from exc
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def write_atomic(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """``path`` holds exactly ``data`` with exactly ``mode``; a reader sees the old or the new content, whole.

    A symbolic link at ``path`` is replaced, not followed.

    Raises:
        UsageError: there is a device, a socket or a FIFO.
        HostError: the file system refused; what was at ``path`` is untouched and no temporary file is left.
    """
    with stage_file(path.parent, mode=mode) as staged:
        staged.file.write(data)
        staged.commit(path)


def read_bounded(path: Path, limit: int, *, what: str = "file", hint_if_missing: str | None = None) -> bytes:
    """Read the whole content of a regular file of at most ``limit`` bytes.

    ``what`` names the file's role in messages ("model card"). Links are followed: users keep configuration in
    linked folders. A FIFO or device is refused without waiting for it. ``hint_if_missing`` says how such a
    file comes about.

    Raises:
        UsageError: there is no such file, it is not regular, cannot be read, or is longer than ``limit``.
    """
    try:
        # O_NONBLOCK: opening a FIFO for reading would otherwise wait for a writer, forever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            if not stat.S_ISREG(mode := os.fstat(descriptor).st_mode):
                raise UsageError(f"{path}: expected a regular {what}, found {_kind(mode)}")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                data = file.read(limit + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError as exc:
        raise UsageError(f"{path}: no such {what}", hint=hint_if_missing) from exc
    except (OSError, ValueError) as exc:  # ValueError: a NUL character in the path
        raise UsageError(f"{path}: cannot read this {what} ({_reason(exc)})") from exc
    if len(data) > limit:
        raise UsageError(f"{path}: expected a {what} of at most {limit} bytes, found more")
    return data


@contextmanager
def open_regular(path: Path, *, what: str = "file") -> Iterator[BinaryIO]:
    """Open a regular file for reading; ``what`` names its role in messages.

    Links are followed. A FIFO or device is refused without waiting for it. Errors of the block's own reads
    are the block's.

    Raises:
        UsageError: there is no such file, it is not regular, or cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as exc:
        raise UsageError(f"{path}: no such {what}") from exc
    except (OSError, ValueError) as exc:
        raise UsageError(f"{path}: cannot read this {what} ({_reason(exc)})") from exc
    try:
        if not stat.S_ISREG(mode := os.fstat(descriptor).st_mode):
            raise UsageError(f"{path}: expected a regular {what}, found {_kind(mode)}")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def make_private_dir(path: Path) -> None:
    """``path`` is a folder of ours that nobody else may enter (0700); missing parents are made the same way.

    A folder that exists with wider permissions is refused, not narrowed: it may be /tmp or a home, named by
    mistake. Parents that exist are not judged.

    Raises:
        HostError: it is a link or no folder, belongs to someone else, is open to others, or cannot be made.
    """
    try:
        for missing in [folder for folder in (*reversed(path.parents), path) if not folder.exists()]:
            # Each level by itself: mkdir(parents=True) would make the parents with the umask's mode.
            missing.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except (OSError, ValueError) as exc:
        raise HostError(
            f"{path}: cannot make this folder ({_reason(exc)})",
            hint="is it for enclavectl's state? set ENCLAVECTL_STATE_DIR to a folder of your own",
        ) from exc
    if not stat.S_ISDIR(found.st_mode):
        raise HostError(
            f"{path}: expected a folder, found {_kind(found.st_mode)}", hint="name another folder"
        )
    if found.st_uid != os.geteuid():
        raise HostError(
            f"{path}: expected a folder of user {os.geteuid()}, found one of user {found.st_uid}",
            hint="name another folder, or run as the user who owns this one",
        )
    if found.st_mode & 0o077:
        raise HostError(
            f"{path}: expected a folder that only its owner may enter (mode 0700), "
            f"found mode {stat.S_IMODE(found.st_mode):04o}",
            hint=f"chmod 700 '{path}', if it is for enclavectl alone",
        )


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFREG: "a file",
        stat.S_IFDIR: "a folder",
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
    }
    return kinds.get(stat.S_IFMT(mode), "a device")


def _reason(exc: Exception) -> str:
    return (exc.strerror if isinstance(exc, OSError) else None) or str(exc) or type(exc).__name__
