"""Enclaves whose keeper is their life: it holds their lock, and they end with it, as on local and qemu."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from enclavectl.backends.keeping.ending import wait_until_released
from enclavectl.backends.keeping.identity import ProcessIdentity
from enclavectl.backends.keeping.locks import is_kept
from enclavectl.backends.keeping.names import require_free_name, two_words
from enclavectl.backends.keeping.records import enclave_folders, remove_enclave
from enclavectl.errors import HostError, StateError


class KeptRecord(Protocol):
    """What a record says of its enclave's keeper."""

    @property
    def name(self) -> str:
        """The enclave's name."""

    @property
    def detached(self) -> bool:
        """True if the enclave outlives the command that started it."""

    @property
    def supervisor(self) -> ProcessIdentity:
        """The keeper's process."""


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
