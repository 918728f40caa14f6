"""The folders of enclaves: where they are, and their removal.

Apart from the records, whose classes take longer to make than a folder to remove: the command that started an
enclave waits for the removal.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from enclavectl.errors import HostError
from enclavectl.files import require_private_dir


def enclave_folders(home: Path) -> list[Path]:
    """Return the folders of the enclaves under ``home``, running or dead.

    Raises:
        HostError: the folder cannot be read, or another user may have written into it.
    """
    if not require_private_dir(home):
        return []
    try:
        return sorted(path for path in home.iterdir() if path.name.startswith("enc"))
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise HostError(
            f"{home}: cannot be read ({exc.strerror})",
            hint="enclavectl config show says where state_dir comes from",
        ) from exc


def remove_enclave(folder: Path) -> None:
    """Remove the folder. A concurrent removal by another process is no error."""
    # Not shutil.rmtree: importing it takes longer than the rest of an enclave's end.
    for parent, folders, files in os.walk(folder, topdown=False):
        for name in files:
            Path(parent, name).unlink(missing_ok=True)
        for name in folders:
            with suppress(FileNotFoundError):
                Path(parent, name).rmdir()
    with suppress(FileNotFoundError):
        folder.rmdir()


def remove_after_starter(folder: Path, lock_fd: int, wait_for_starter: Callable[[], bool]) -> None:
    """Remove an ended enclave that was not released, after the command that started it has read its files.

    The lock is released first: from then on, every command sees the enclave as dead. The folder is removed
    last, because the command that started the enclave reads the console in it. ``wait_for_starter`` returns
    whether that command released the enclave after its end: then it stays, to be listed as dead.
    """
    os.close(lock_fd)
    if not wait_for_starter():
        remove_enclave(folder)
