"""The end of an enclave that somebody asked for: told to its keeper, done by nitro-cli, and cleared away."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from enclavectl.backends.base import Enclave
from enclavectl.backends.folders import is_running, remove_enclave
from enclavectl.backends.nitro.ending import keep_history
from enclavectl.backends.nitro.images import prune
from enclavectl.backends.nitro.listing import owner_of
from enclavectl.backends.nitro.records import (
    Ended,
    Kept,
    ask_to_end,
    has_failed,
    load_ended,
    load_launched,
    write_ended,
)
from enclavectl.backends.state import EnclaveState
from enclavectl.errors import HostError, StateError
from enclavectl.nitro_cli.limits import boot_bound_s
from enclavectl.nitro_cli.tool import NitroCli
from enclavectl.progress import Progress

_POLL_S = 0.05
_END_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Termination:
    """Who ends enclaves of this user. ``trust_of`` says what one in debug mode, or not, is worth."""

    cli: NitroCli
    progress: Progress
    state_dir: Path
    home: Path
    trust_of: Callable[[bool], str]

    def end(self, enclave: Enclave, kept: Kept | None) -> None:
        """It has ended, and its folder is gone; ``kept`` is None for one of others'.

        Raises:
            HostError: nitro-cli failed, or the enclave is another user's.
        """
        was_running = enclave.state not in (EnclaveState.BOOTING, EnclaveState.DEAD)
        if kept is not None:
            try:
                ask_to_end(kept.folder)
            except HostError:  # a full disk must not keep it running
                if not was_running:
                    raise
        if was_running:
            self._terminate_by_id(enclave)
        if kept is not None:
            record = kept.record
            booting_s = boot_bound_s(record.image_size, record.memory_mib) if not was_running else 0
            self._wait_for_keeper(kept.folder, enclave, bound_s=booting_s + _END_S)
            if enclave.state is EnclaveState.BOOTING:
                self._end_orphan(enclave, kept, booting_s)
            self._forget(kept, was_running=was_running)

    def _terminate_by_id(self, enclave: Enclave) -> None:
        try:
            self.cli.terminate(enclave.enclave_id)
        except StateError:
            return  # it has just ended by itself
        except HostError as exc:
            if exc.code not in ("nitro-cli-E38", "nitro-cli-E39"):
                raise
            described = self.cli.describe()
            told = next((one for one in described.enclaves if one.run.enclave_id == enclave.enclave_id), None)
            if told is None and not described.unreachable:
                return  # it ended while it was asked to
            owner = owner_of(told.run.process_id) if told else None
            if owner is None or owner == owner_of(os.getpid()):
                raise
            raise HostError(
                f"{enclave.name}: belongs to {owner}; only they and root may end it",
                hint=f"sudo -u {owner} enclavectl terminate {enclave.name}",
                code="not-owner",
            ) from exc

    def _wait_for_keeper(self, folder: Path, enclave: Enclave, *, bound_s: float) -> None:
        """Its keeper has seen the end and written it down; or there was none."""
        start = time.monotonic()
        while is_running(folder):
            elapsed_s = time.monotonic() - start
            if elapsed_s > bound_s:
                raise HostError(
                    f"{enclave.name}: expected its end within {bound_s:g} s, found its keeper at work",
                    hint=f"see {folder}/keeper.log, then try again",
                    code="keeper-busy",
                )
            if enclave.state is EnclaveState.BOOTING:
                self.progress.update("waiting for the boot, which cannot be stopped", elapsed_s, bound_s)
            time.sleep(_POLL_S)

    def _end_orphan(self, enclave: Enclave, kept: Kept, bound_s: float) -> None:
        """It ends as soon as it has booted, though its keeper was killed meanwhile; or its launch failed."""
        start = time.monotonic()
        while kept.folder.exists() and load_ended(kept.folder) is None:
            if (info := load_launched(kept.folder)) is not None:
                self._terminate_by_id(replace(enclave, enclave_id=info.enclave_id))
                return
            elapsed_s = time.monotonic() - start
            if elapsed_s > bound_s or has_failed(kept.folder):
                return
            self.progress.update("waiting for the boot, which cannot be stopped", elapsed_s, bound_s)
            time.sleep(_POLL_S)

    def _forget(self, kept: Kept, *, was_running: bool) -> None:
        """What is kept of it is in the history; its folder and an image only it used are gone."""
        folder, record = kept.folder, kept.record
        if folder.exists():
            try:
                if was_running and load_ended(folder) is None:
                    write_ended(folder, Ended(at=datetime.now(UTC), how="terminated by enclavectl"))
                if record.detached:
                    trust = self.trust_of(record.debug)
                    keep_history(self.state_dir, folder, trust=trust)
            except HostError as exc:  # what is removed next makes room on a full disk
                self.progress.note(f"{record.name} ended; its history is not kept: {exc.message}")
            except StateError:
                pass  # its keeper has just removed the folder
            remove_enclave(folder)
        with suppress(OSError):
            (self.home / "last-end").touch()
        prune(self.home, self.progress)
