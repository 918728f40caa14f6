"""Files on this host: written atomically, read with a bound, private where they must be.

Every failure is a ``HostError`` (the host refused) or a ``UsageError`` (the caller named something that
cannot be used). No ``OSError`` leaves this module.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from enclavectl.errors import HostError, UsageError

# Names of files that are being written, and of those that a killed process left.
STAGED_GLOB = ".enclavectl-*.tmp"
_ROOM_HINT = "name a file in a folder that you can write, on a disk with room"
_REACH_HINT = "name a folder that only you and root can change; for state: ENCLAVECTL_STATE_DIR"


class StagedFile:
    """A temporary file; ``commit`` moves it to its destination, and without ``commit`` it is removed."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        """Wrap ``file``, open for reading and writing, which is at ``path`` until ``commit``."""
        self.file = file
        self.path = path

    def sync(self) -> None:
        """Write everything to the disk, so that ``commit`` cannot fail because the disk is full.

        Raises:
            HostError: the file system failed.
        """
        try:
            self.file.flush()
            os.fsync(self.file.fileno())
        except OSError as exc:
            raise HostError(f"{self.path.parent}: cannot write ({_reason(exc)})") from exc

    def commit(self, destination: Path) -> None:
        """Move the file to ``destination``, and replace what is there.

        The destination must be on the same file system as the folder in which the file was staged. The folder
        is not synced: after a power cut the destination has either the old or the new content, never a mix.

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
    """Move ``source`` to ``destination``, and replace what is there.

    Raises:
        UsageError: the destination is a device, a socket or a FIFO.
        HostError: the file system refused; the old content is untouched.
    """
    require_replaceable(destination)
    try:
        source.replace(destination)
    except OSError as exc:
        raise HostError(f"{destination}: cannot write ({_reason(exc)})") from exc


def refuse_input(
    option: str, target: Path, inputs: Iterable[str | Path | None], *, hint: str | None = None
) -> None:
    """Refuse to write over a file that the command reads, whatever else may be replaced.

    Raises:
        UsageError: ``target`` is one of ``inputs``, by whatever name.
    """
    written = _identity(target)
    for one in inputs:
        if one is not None and written is not None and _identity(one) == written:
            raise UsageError(
                f"{option} {target}: expected a file that is not an input, found {one}", hint=hint
            )


def status_at(path: Path, *, follows_links: bool = True) -> os.stat_result | None:
    """Return the status of what is at ``path``; None if nothing is there.

    Not ``Path.exists``, which raises OSError for a long name, or below a folder that may not be searched.

    Raises:
        UsageError: nobody can say what is there.
    """
    try:
        return path.stat(follow_symlinks=follows_links)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as exc:  # ValueError: a NUL character in the path
        if isinstance(exc, OSError) and exc.errno == errno.ELOOP:
            return None  # a link to itself leads nowhere
        raise UsageError(f"{path}: cannot be looked at ({_reason(exc)})", hint="name another path") from exc


def is_folder(path: Path) -> bool:
    """Return whether ``path`` is a folder. Raises: UsageError, as ``status_at``."""
    status = status_at(path)
    return status is not None and stat.S_ISDIR(status.st_mode)


def is_regular(path: Path) -> bool:
    """Return whether ``path`` is a regular file. Raises: UsageError, as ``status_at``."""
    status = status_at(path)
    return status is not None and stat.S_ISREG(status.st_mode)


def require_output(option: str, path: Path, size: int = 1) -> None:
    """Check that ``path`` may name a file of ``size`` bytes to write, before minutes of work; 0: only look.

    Raises:
        UsageError: it is - or a folder, or its folder is missing, takes no files or is full.
    """
    if str(path) == "-":
        raise UsageError(f"{option} -: expected a file, not standard output", hint="name a file")
    if is_folder(path):
        raise UsageError(f"{option} {path}: expected a file, found a folder", hint="name another file")
    if not is_folder(path.parent):
        hint = "make the folder first, or name another file"
        raise UsageError(f"{option} {path}: expected a file in a folder that exists", hint=hint)
    if size == 0:
        return
    try:
        with stage_file(path.parent) as probe:
            probe.file.write(bytes(size))
            probe.file.flush()
    except HostError as exc:
        raise UsageError(f"{option} {path}: {exc.message}", hint=_ROOM_HINT) from exc


def _identity(path: str | Path) -> tuple[int, int] | None:
    try:
        status = Path(path).stat()
    except (OSError, ValueError):  # nothing is there, or - for standard input
        return None
    return status.st_dev, status.st_ino


def require_replaceable(destination: Path) -> None:
    """Refuse to replace a special file: root could otherwise replace /dev/null by a file.

    Raises:
        UsageError: ``destination`` is a device, a socket or a FIFO.
    """
    try:
        mode = destination.lstat().st_mode
    except (OSError, ValueError):
        return  # nothing is there, or the write will report what is wrong
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode) or stat.S_ISDIR(mode)):  # renaming refuses a folder
        raise UsageError(f"{destination}: expected a file to write, found {kind_of(mode)}")


@contextmanager
def stage_file(folder: Path, *, mode: int = 0o600) -> Iterator[StagedFile]:
    """Open a new file in ``folder``; remove it at the end of the block unless it was committed.

    Raises:
        HostError: the folder does not exist or does not take files, or a write in the block fails.
    """
    # Not tempfile: its imports (random, shutil, bz2, lzma) would slow the start of every command.
    path = folder / f".enclavectl-{os.urandom(8).hex()}.tmp"
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    try:  # before the file is there: an interruption may come with it
        try:
            descriptor = os.open(path, flags, 0o600)
        except OSError as exc:
            raise HostError(f"{folder}: cannot create a file ({_reason(exc)})") from exc
        with os.fdopen(descriptor, "w+b") as file:
            os.fchmod(descriptor, mode)  # after creation, so that the umask does not decide
            yield StagedFile(file, path)
    except OSError as exc:
        raise HostError(f"{folder}: cannot write ({_reason(exc)})") from exc
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def write_atomic(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Write ``data`` to ``path`` with ``mode``; a reader sees the whole old or the whole new content.

    A symbolic link at ``path`` is replaced, not followed.

    Raises:
        UsageError: ``path`` is a device, a socket or a FIFO.
        HostError: the file system failed; ``path`` is unchanged and no temporary file is left.
    """
    with stage_file(path.parent, mode=mode) as staged:
        staged.file.write(data)
        staged.commit(path)


def read_bounded(path: Path, limit: int, *, what: str = "file", hint_if_missing: str | None = None) -> bytes:
    """Read the whole content of a regular file of at most ``limit`` bytes.

    ``what`` names the file's role in messages ("model card"); ``hint_if_missing`` tells how to make one.
    Links are followed, since users keep configuration in linked folders. A FIFO is refused without waiting.

    Raises:
        UsageError: there is no such file, it is not regular, cannot be read, or is longer than ``limit``.
    """
    try:
        with open_regular(path, what=what, hint_if_missing=hint_if_missing) as file:
            data = file.read(limit + 1)
    except OSError as exc:
        raise UsageError(f"{path}: cannot read this {what} ({_reason(exc)})") from exc
    if len(data) > limit:
        raise UsageError(f"{path}: expected a {what} of at most {limit} bytes, found more")
    return data


def sha256_of(chunks: Iterable[bytes]) -> str:
    """Compute the SHA-256, in lower-case hex, of the concatenated chunks."""
    from hashlib import sha256  # OpenSSL takes 8 ms to load, which most commands do not need

    digest = sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def read_chunks(file: BinaryIO) -> Iterator[bytes]:
    """Yield the rest of an open file in pieces of at most 1 MiB, which keeps hashing in the L2 cache."""
    while chunk := file.read(1 << 20):
        yield chunk


@contextmanager
def open_regular(path: Path, *, what: str = "file", hint_if_missing: str | None = None) -> Iterator[BinaryIO]:
    """Open a regular file for reading; ``what`` and ``hint_if_missing`` as for ``read_bounded``.

    Links are followed. A FIFO or device is refused at once, without waiting for it. Errors of reads in the
    block pass through unchanged.

    Raises:
        UsageError: there is no such file, it is not regular, or cannot be opened.
    """
    try:
        # O_NONBLOCK: opening a FIFO for reading would otherwise wait for a writer, forever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as exc:
        raise UsageError(f"{path}: no such {what}", hint=hint_if_missing) from exc
    except (OSError, ValueError) as exc:  # ValueError: a NUL character in the path
        raise UsageError(f"{path}: cannot read this {what} ({_reason(exc)})") from exc
    try:
        if not stat.S_ISREG(mode := os.fstat(descriptor).st_mode):
            raise UsageError(f"{path}: expected a file ({what}), found {kind_of(mode)}")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Create the folder ``path`` and its missing parents, for files that are no secret; it may be there.

    Raises:
        HostError: it cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as exc:
        raise HostError(f"{path}: cannot make this folder ({_reason(exc)})") from exc


def make_private_dir(path: Path) -> None:
    """Create the folder ``path`` with mode 0700, and its missing parents likewise.

    An existing folder with wider permissions is refused, not narrowed: it may be /tmp, named by mistake.

    Raises:
        HostError: as ``require_private_dir``, or it cannot be created.
    """
    try:
        for missing in [folder for folder in (*reversed(path.parents), path) if not folder.exists()]:
            _require_parents_out_of_reach(missing)
            # Level by level: mkdir(parents=True) would give the parents the umask's mode.
            missing.mkdir(mode=0o700, exist_ok=True)
    except (OSError, ValueError) as exc:
        raise HostError(
            f"{path}: cannot make this folder ({_reason(exc)})",
            hint="is it for enclavectl's state? set ENCLAVECTL_STATE_DIR to a folder of your own",
        ) from exc
    require_private_dir(path)


def require_private_dir(path: Path) -> bool:
    """Return whether the folder ``path`` exists; if it does, check that only this user can change it.

    Call this before you trust any content of a folder. The check covers every folder from the root down, with
    links as written and resolved: a user who may rename one of them could replace it.

    Raises:
        HostError: it is a link or no folder, belongs to another user, is open to others, or is in a folder
            that others may change.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    except (OSError, ValueError) as exc:
        raise HostError(f"{path}: cannot be read ({_reason(exc)})", hint=_REACH_HINT) from exc
    _require_parents_out_of_reach(path)
    if not stat.S_ISDIR(found.st_mode):
        raise HostError(
            f"{path}: expected a folder, found {kind_of(found.st_mode)}", hint="name another folder"
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
    return True


def _require_parents_out_of_reach(path: Path) -> None:
    """Check every folder from the root down to ``path``, with links as written and resolved."""
    for parent in dict.fromkeys([*reversed(path.absolute().parents), *reversed(path.resolve().parents)]):
        _require_out_of_reach(path, parent)


def _require_out_of_reach(path: Path, parent: Path) -> None:
    """Check that only root and this user may rename entries of ``parent``."""
    try:
        found = parent.lstat()
    except OSError as exc:
        raise HostError(f"{parent}: cannot be read ({_reason(exc)})", hint=_REACH_HINT) from exc
    if found.st_uid not in (0, os.geteuid()):
        raise HostError(
            f"{path}: expected it in folders of root or user {os.geteuid()}, "
            f"found {parent} of user {found.st_uid}, who could replace it",
            hint=_REACH_HINT,
        )
    is_open = found.st_mode & stat.S_IWOTH or (found.st_mode & stat.S_IWGRP and not _is_own_group(found))
    # Mode bits of links mean nothing. In a sticky folder such as /tmp, only its owner may rename a file.
    if is_open and not stat.S_ISLNK(found.st_mode) and not found.st_mode & stat.S_ISVTX:
        raise HostError(
            f"{path}: expected it in folders that nobody else may change, "
            f"found {parent} with mode {stat.S_IMODE(found.st_mode):04o}",
            hint=_REACH_HINT,
        )


def _is_own_group(found: os.stat_result) -> bool:
    """Return whether the group is its owner's private group, which distributions make for umask 0002."""
    import grp
    import pwd

    try:
        owner, group = pwd.getpwuid(found.st_uid), grp.getgrgid(found.st_gid)
    except KeyError:
        return False
    is_same = (owner.pw_gid, owner.pw_name) == (group.gr_gid, group.gr_name)
    return is_same and set(group.gr_mem) <= {owner.pw_name}


def kind_of(mode: int) -> str:
    """Return what a mode of ``stat`` is of, with its article."""
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
