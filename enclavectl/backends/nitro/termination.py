"""The requested end of an enclave: announced to its keeper, done by nitro-cli, and cleaned up."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from enclavectl.backends.base import Enclave
from enclavectl.backends.keeping.ending import (
    TERMINATED,
    EnclaveEnd,
    load_ended,
    write_ended,
)
from enclavectl.backends.keeping.folders import remove_enclave
from enclavectl.backends.keeping.locks import wait_until_released
from enclavectl.backends.nitro.ending import keep_history
from enclavectl.backends.nitro.images import prune
from enclavectl.backends.nitro.listing import owner_of
from enclavectl.backends.nitro.records import (
    LaunchRecord,
    ask_to_end,
    has_failed,
    load_launched,
)
from enclavectl.backends.state import EnclaveState
from enclavectl.errors import HostError, StateError
from enclavectl.nitro_cli.limits import boot_bound_s
from enclavectl.nitro_cli.tool import NitroCli
from enclavectl.progress import Progress

# The interval of checks of a launch without a keeper: a person does not notice the delay.
_POLL_S = 0.05
# As END_S in launch.py: a daemon does not end while it hashes its image.
_END_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Termination:
    """The termination of this user's enclaves.

    ``trust_of`` returns the trust of evidence with and without debug mode.
    """

    cli: NitroCli
    progress: Progress
    state_dir: Path
    home: Path
    trust_of: Callable[[bool], str]

    def end(self, enclave: Enclave, launch: LaunchRecord | None) -> None:
        """End the enclave and remove its folder; ``launch`` is None for another user's enclave.

        Raises:
            HostError: nitro-cli failed, or the enclave is another user's.
        """
        was_running = enclave.state not in (EnclaveState.BOOTING, EnclaveState.DEAD)
        if launch is not None:
            try:
                ask_to_end(launch.folder)
            except HostError:  # a full disk must not prevent the enclave's end
                if not was_running:
                    raise
        if was_running:
            self._terminate_by_id(enclave)
        if launch is not None:
            record = launch.record
            booting_s = boot_bound_s(record.image_size, record.memory_mib) if not was_running else 0
            self._wait_for_keeper(launch.folder, enclave, bound_s=booting_s + _END_S)
            if enclave.state is EnclaveState.BOOTING:
                self._end_orphan(enclave, launch, booting_s)
            self._forget(launch, was_running=was_running)

    def _terminate_by_id(self, enclave: Enclave) -> None:
        try:
            self.cli.terminate(enclave.enclave_id)
        except StateError:
            return  # the enclave has just ended by itself
        except HostError as exc:
            if exc.code not in ("nitro-cli-E38", "nitro-cli-E39"):
                raise
            described = self.cli.describe()
            told = next((one for one in described.enclaves if one.run.enclave_id == enclave.enclave_id), None)
            if told is None and not described.unreachable:
                return  # the enclave ended during the request
            owner = owner_of(told.run.process_id) if told else None
            if owner is None or owner == owner_of(os.getpid()):
                raise
            raise HostError(
                f"{enclave.name}: belongs to {owner}; only they and root may end it",
                hint=f"sudo -u {owner} enclavectl terminate {enclave.enclave_id}",  # they chose its name
                code="not-owner",
            ) from exc

    def _wait_for_keeper(self, folder: Path, enclave: Enclave, *, bound_s: float) -> None:
        """Wait until the keeper, if there is one, has seen and recorded the end."""

        def tell(elapsed_s: float) -> None:
            if enclave.state is EnclaveState.BOOTING:
                self.progress.update("waiting for the boot, which cannot be stopped", elapsed_s, bound_s)

        if not wait_until_released(folder, bound_s, tell):
            raise HostError(
                f"{enclave.name}: expected its end within {bound_s:g} s, found its keeper at work",
                hint=f"see {folder}/keeper.log, then try again",
                code="keeper-busy",
            )

    def _end_orphan(self, enclave: Enclave, launch: LaunchRecord, bound_s: float) -> None:
        """End an enclave whose keeper was killed during the boot, once it has booted or its launch failed."""
        start = time.monotonic()
        while launch.folder.exists() and load_ended(launch.folder) is None:
            if (info := load_launched(launch.folder)) is not None:
                self._terminate_by_id(replace(enclave, enclave_id=info.enclave_id))
                return
            elapsed_s = time.monotonic() - start
            if elapsed_s > bound_s or has_failed(launch.folder):
                return
            self.progress.update("waiting for the boot, which cannot be stopped", elapsed_s, bound_s)
            time.sleep(_POLL_S)

    def _forget(self, launch: LaunchRecord, *, was_running: bool) -> None:
        """Add the enclave to the history; remove its folder, and an image that only it used."""
        folder, record = launch.folder, launch.record
        if folder.exists():
            try:
                if was_running and load_ended(folder) is None:
                    write_ended(folder, EnclaveEnd(at=datetime.now(UTC), how=TERMINATED))
                if record.detached:
                    trust = self.trust_of(record.debug)
                    keep_history(self.state_dir, folder, trust=trust)
            except HostError as exc:  # the removal that follows makes room on a full disk
                self.progress.note(f"{record.name} ended; its history is not kept: {exc.message}")
            except StateError:
                pass  # the keeper has just removed the folder
            remove_enclave(folder)
        with suppress(OSError):
            (self.home / "last-end").touch()
        prune(self.home, self.progress)
