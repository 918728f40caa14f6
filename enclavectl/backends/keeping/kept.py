"""Enclaves whose keeper is their life: it holds their lock, and they end with it, as on local and qemu."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

from enclavectl.backends.console_log import read_console
from enclavectl.backends.keeping.folders import enclave_folders, remove_enclave
from enclavectl.backends.keeping.locks import is_kept, lock_enclave, wait_until_released
from enclavectl.backends.keeping.names import require_free_name, two_words
from enclavectl.backends.keeping.records import KeptRecord
from enclavectl.errors import HostError, StateError
from enclavectl.files import make_private_dir, require_private_dir
from enclavectl.progress import Progress

R = TypeVar("R", bound=KeptRecord)


class KeptEnclaves(Generic[R]):
    """The folders of one backend's enclaves; ``load`` reads the record in one."""

    def __init__(self, home: Path, load: Callable[[Path], R]) -> None:
        self._home = home
        self._load = load

    def folder(self, enclave_id: str) -> Path:
        """Return the folder of an enclave, which may not exist."""
        return self._home / enclave_id

    def all(self) -> list[tuple[Path, R]]:
        """Return every enclave, running or dead, but not one that is just being started or removed.

        Raises:
            StateError: a record is damaged; the message says how to be rid of it.
            HostError: the state folder cannot be read.
        """
        found = []
        for folder in enclave_folders(self._home):
            if not (folder / "record.json").exists():
                continue  # just being started, or just being removed
            try:
                record = self._load(folder)
            except StateError:
                if (folder / "record.json").exists():
                    raise
                continue  # removed between the two looks
            if record.detached or is_kept(folder):
                found.append((folder, record))
        return found

    @contextmanager
    def new_folder(self) -> Iterator[tuple[Path, int]]:
        """Make the folder of a new enclave and hold its lock, which its keeper inherits.

        The folder is removed if the block ends with an error.

        Raises:
            HostError: it cannot be written.
        """
        folder = self._home / f"enc{os.urandom(8).hex()}"
        make_private_dir(folder)
        lock = lock_enclave(folder)
        try:
            yield folder, lock
        except OSError as exc:
            remove_enclave(folder)
            raise HostError(f"{folder}: cannot be written ({exc.strerror})") from exc
        except BaseException:
            remove_enclave(folder)
            raise
        finally:
            os.close(lock)

    def console(self, enclave_id: str, *, follow: bool) -> Iterator[bytes]:
        """Yield what the enclave printed so far and, with ``follow``, what it prints until it ends.

        Raises:
            HostError: another user may have written into its folder.
        """
        folder = self.folder(enclave_id)
        require_private_dir(folder)
        return read_console(folder / "console.log", (lambda: is_kept(folder)) if follow else None)

    def free_name(self, wanted: str | None) -> str:
        """Return the wanted name, or a generated one.

        Raises:
            StateError: an enclave has that name.
        """
        taken = {record.name for _, record in self.all()}
        if wanted is None:
            return two_words(taken)
        require_free_name(wanted, taken)
        return wanted

    def sweep(self) -> None:
        """Remove what a killed keeper of a one-command enclave could not."""
        for folder in enclave_folders(self._home):
            if is_kept(folder):
                continue
            try:
                is_leftover = not self._load(folder).detached
            except StateError:
                is_leftover = True  # killed between making the folder and starting anything
            if is_leftover:
                remove_enclave(folder)

    def end(self, folder: Path, name: str, *, bound_s: float) -> bool:
        """End the enclave, by SIGTERM and then by SIGKILL; return whether it was running.

        Raises:
            HostError: it did not end within ``bound_s`` seconds of either signal.
        """
        was_running = is_kept(folder)
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not is_kept(folder):
                break
            self._signal(folder, number)
            wait_until_released(folder, bound_s)
        if is_kept(folder):
            raise HostError(
                f"{name}: the supervisor did not end within {2 * bound_s:g} s",
                hint=f"who holds {folder}/lock? {folder}/record.json names the supervisor",
            )
        return was_running

    def forget(self, folder: Path, name: str, keep_history: Callable[[R], None], progress: Progress) -> None:
        """Add an ended enclave to the history and remove its folder.

        Raises:
            StateError: its record is damaged.
        """
        try:
            keep_history(self._load(folder))
        except StateError:
            if (folder / "record.json").exists():
                raise
            # Else it belonged to a command, and its keeper has just removed it.
        except HostError as exc:  # the removal that follows makes room on a full disk
            progress.note(f"{name} ended; its history is not kept: {exc.message}")
        remove_enclave(folder)

    def _signal(self, folder: Path, number: signal.Signals) -> None:
        """Send a signal to the enclave's keeper, if it is the very process that the record means."""
        handle = self._load(folder).supervisor.open()
        if handle is None:
            return
        try:
            # The descriptor names one process for good; if the lock is still held, that process holds it.
            if is_kept(folder):
                signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            return  # it has just ended
        finally:
            os.close(handle)
