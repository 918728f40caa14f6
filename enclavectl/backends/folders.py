"""One folder an enclave, and the lock in it that says whether the process that keeps it still lives."""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from enclavectl.errors import StateError, UsageError
from enclavectl.files import read_bounded

T = TypeVar("T")
_MAX_RECORD_BYTES = 64 * 1024

# It stands in tables, file names, policies and shell commands.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def check_name(name: str) -> None:
    """Return if an enclave may be called so.

    Raises:
        UsageError: it may not.
    """
    if _NAME.fullmatch(name) is None:
        raise UsageError(
            f"name: expected 1 to 64 letters, digits, dots, dashes or underscores, found {name!r:.100}"
        )


def require_free_name(name: str, taken: Collection[str]) -> None:
    """Return if no enclave is called so.

    Raises:
        StateError: one is.
    """
    if name in taken:
        raise StateError(
            f"{name}: an enclave of this name exists already",
            hint=f"choose another --name, or: enclavectl terminate {name}",
        )


def read_record(path: Path, schema: str, parse: Callable[[Any], T], *, hint: str) -> T:
    """What ``parse`` makes of a record of ``schema``; ``hint`` says how to be rid of a damaged one.

    Raises:
        StateError: there is none, or it is damaged.
    """
    try:
        value = json.loads(read_bounded(path, _MAX_RECORD_BYTES, what="enclave record"))
        found = parse(value) if value["schema"] == schema else None
    except UsageError as exc:
        raise StateError(exc.message, hint=exc.hint) from exc
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise StateError(
            f"{path}: expected a record of {schema}, found something else ({exc!r:.100})", hint=hint
        ) from exc
    if found is None:
        raise StateError(f"{path}: expected a record of {schema}, found one of another form", hint=hint)
    return found


def lock_enclave(folder: Path) -> int:
    """A descriptor that holds the enclave's lock, for the supervisor to inherit."""
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return fd


def is_running(folder: Path) -> bool:
    """Whether somebody holds the enclave's lock."""
    try:
        fd = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def remove_enclave(folder: Path) -> None:
    """The folder is gone. Removing one that another process removes at the same time is no error."""
    # Not shutil.rmtree: importing it takes longer than everything else that an enclave's end takes.
    for parent, folders, files in os.walk(folder, topdown=False):
        for name in files:
            Path(parent, name).unlink(missing_ok=True)
        for name in folders:
            with suppress(FileNotFoundError):
                Path(parent, name).rmdir()
    with suppress(FileNotFoundError):
        folder.rmdir()


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Nobody else is in such a block on the same folder: for choosing names and making the root."""
    fd = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
