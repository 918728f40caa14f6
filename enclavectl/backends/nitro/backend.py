"""The start, the list and the end of Nitro enclaves."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from enclavectl.backends.console_log import read_console
from enclavectl.backends.keeping.ending import load_ended
from enclavectl.backends.keeping.folders import remove_enclave
from enclavectl.backends.keeping.locks import is_kept, lock_enclave
from enclavectl.backends.nitro.records import LaunchRecord, Record, read_launch_records
from enclavectl.backends.nitro.settings import NitroSettings
from enclavectl.backends.state import EnclaveState
from enclavectl.errors import HostError, StateError
from enclavectl.files import make_private_dir, write_atomic
from enclavectl.nitro_cli.hostlock import host_lock
from enclavectl.nitro_cli.limits import boot_bound_s, hash_time_s
from enclavectl.nitro_cli.tool import NitroCli
from enclavectl.progress import NoProgress, Progress
from enclavectl.trust import Trust

if TYPE_CHECKING:  # these modules are imported while nitro-cli runs
    from enclavectl.attestation import Policy, TrustRoot
    from enclavectl.backends.base import Enclave, EnclaveSpec
    from enclavectl.backends.nitro.launch import NitroEnclave, ReportingKeeper
    from enclavectl.net.address import HostAddress

# A listener on this CID accepts connections to all CIDs of this machine (vsock(7), VMADDR_CID_ANY).
_ANY_CID = 2**32 - 1


class NitroBackend:
    """The backend ``nitro``: this user's enclaves and, as far as nitro-cli shows them, other users'."""

    name = "nitro"

    def __init__(self, settings: NitroSettings, progress: Progress | None = None) -> None:
        """Use the folder ``state_dir``/nitro. nitro-cli is not called yet."""
        self._settings = settings
        self._home = settings.state_dir / "nitro"
        self._progress = progress or NoProgress()
        self._cli = NitroCli(settings.environ, self._progress, on_wait=self._tell_meanwhile)

    def start(self, spec: EnclaveSpec, *, detached: bool) -> NitroEnclave:
        """Boot an enclave: at the return its kernel has reported, but its payload may still be loading.

        Raises:
            UsageError: name, CID or memory cannot be used, or the image is missing or not valid.
            StateError: the name or the CID is taken, there is no image, or it differs from its lock.
            HostError: this host is not set up, has no room for it, or the launch failed.
        """
        from enclavectl.backends.keeping.images import admit_image, check_memory
        from enclavectl.backends.keeping.machine_inputs import check_free_cid, check_machine, free_name
        from enclavectl.backends.nitro.capacity import CapacityCheck, CapacityRequest
        from enclavectl.backends.nitro.launch_inputs import cpus_in_use, record_of

        machine, source = check_machine(spec, self.name)
        # Every check that may refuse the launch comes before anything is created.
        _ = self._cli.program
        make_private_dir(self._home)
        make_private_dir(self._home / "enclaves")
        with host_lock(self._home, "start of an enclave", self._progress):
            known = self.enclaves()
            name = free_name(machine.name, source, known)
            check_free_cid(machine.cid, known)
            if source.is_file():
                size = source.stat().st_size
                request = CapacityRequest(
                    name=name, image=source, image_size=size, memory_mib=machine.memory_mib, cpus=machine.cpus
                )
                used, last_end = cpus_in_use(known), self._last_end()
                CapacityCheck(self._settings.host_root).require(request, used, last_end=last_end)
            store = self._home / "images"
            image = admit_image(source, store, now=datetime.now(UTC), progress=self._progress)
            image = image.with_model(machine.sealed)
            check_memory(image.size, machine.memory_mib)
            record = record_of(machine, name, image, detached=detached)
            folder = self._home / "enclaves" / f"enc{os.urandom(8).hex()}"
            keeper = self._start_keeper_of_new(folder, record, boot_wait_s=machine.boot_wait_s)
        return self._await(keeper, LaunchRecord(folder, record, None))

    def _start_keeper_of_new(self, folder: Path, record: Record, *, boot_wait_s: int) -> ReportingKeeper:
        make_private_dir(folder)
        lock = lock_enclave(folder)
        try:
            write_atomic(folder / "record.json", record.to_json())
            return self._start_keeper(folder, record, lock, boot_wait_s=boot_wait_s)
        except BaseException:
            remove_enclave(folder)
            raise
        finally:
            os.close(lock)

    def _start_keeper(
        self, folder: Path, record: Record, lock: int, *, adopts: bool = False, boot_wait_s: int = 0
    ) -> ReportingKeeper:
        from enclavectl.backends.nitro.keeper import KeeperSpec
        from enclavectl.backends.nitro.launch import start_reporting_keeper

        return start_reporting_keeper(
            folder,
            lock,
            self._cli.environment,
            lambda lifeline, reports: KeeperSpec(
                folder=str(folder),
                state_dir=str(self._settings.state_dir),
                trust=str(self._settings.trust(debug=record.debug)),
                lifeline_fd=lifeline,
                report_fd=reports,
                lock_fd=lock,
                last_end=self._last_end(),
                host_root=None if self._settings.host_root is None else str(self._settings.host_root),
                adopts=adopts,
                boot_wait_s=boot_wait_s,
            ),
        )

    def _adopt(self, launch: LaunchRecord) -> None:
        """Start a new keeper for a running enclave whose keeper was killed. A failure is no error."""
        try:
            lock = lock_enclave(launch.folder)
        except OSError:
            return  # another process does this, or the enclave is just being removed
        try:
            if load_ended(launch.folder) is None:
                self._start_keeper(launch.folder, launch.record, lock, adopts=True).let_go()
                self._progress.note(
                    f"{launch.record.name}: its keeper was killed; another one has taken over"
                )
        except HostError as exc:
            self._progress.note(
                f"{launch.record.name}: its keeper was killed, and none can start: {exc.message}"
            )
        finally:
            os.close(lock)

    def _last_end(self) -> int:
        """Return when this user's last enclave ended, in seconds since the epoch; 0 if none has ended."""
        try:
            return int((self._home / "last-end").stat().st_mtime)
        except OSError:
            return 0

    def _await(self, keeper: ReportingKeeper, launch: LaunchRecord) -> NitroEnclave:
        """Wait until the enclave's system has booted and return the enclave; on an error, end it."""
        from enclavectl.backends.nitro.launch import END_S, INTERRUPTED_S, NitroEnclave
        from enclavectl.backends.nitro.listing import enclave_from_record

        record = launch.record
        bound_s = boot_bound_s(record.image_size, record.memory_mib)
        try:
            info = keeper.wait_launched(self._progress, bound_s)
            booted = LaunchRecord(launch.folder, record, info)
            enclave = enclave_from_record(booted, None, EnclaveState.RUNNING, self._settings)
            return NitroEnclave(enclave, booted, keeper, lambda: self.terminate(enclave))
        except KeyboardInterrupt:
            if keeper.is_launching:
                self._progress.note(
                    f"a boot cannot be stopped: {record.name} ends by itself once it has booted or failed "
                    f"(within {bound_s} s); until then enclavectl list shows it"
                )
            # A keeper that still waits for its turn ends at once.
            keeper.end(wait_s=0 if keeper.is_launching else INTERRUPTED_S)
            raise
        except BaseException:
            keeper.end(wait_s=END_S)
            raise

    def enclaves(self) -> list[Enclave]:
        """Return all known enclaves: this user's, oldest first, then others'.

        Raises:
            StateError: a record is damaged; the message tells how to remove it.
            HostError: this host is not set up, or nitro-cli failed.
        """
        # In this order, an enclave launched between the two calls is in nitro-cli's answer and not lost.
        launches = read_launch_records(self._home / "enclaves")
        described = self._cli.describe(meanwhile=_load_listing)
        if described.unreachable:
            self._progress.note(
                f"{described.unreachable} of the enclaves' processes did not answer nitro-cli: busy, "
                "or just ending; list again"
            )
        from enclavectl.backends.nitro.listing import join
        from enclavectl.nitro_cli.describe_enclaves import NitroState

        running = {one.run.enclave_id for one in described.enclaves if one.state is NitroState.RUNNING}
        for one in launches:
            is_running_detached = one.info and one.info.enclave_id in running and one.record.detached
            if is_running_detached and not is_kept(one.folder):
                self._adopt(one)
        return join(launches, described, self._settings)

    def _tell_meanwhile(self) -> None:
        """Tell what is waited for, and what this user's records know, while nitro-cli does not answer."""
        from enclavectl.backends.nitro.listing import is_hashed, summary

        launches = read_launch_records(self._home / "enclaves")
        for launch in launches:
            if not is_hashed(launch):
                size = launch.record.image_size
                self._progress.note(
                    f"{launch.record.name}: nitro-cli is hashing its image of {size / 1e6:.1f} MB, which "
                    f"takes about {hash_time_s(size)} s on an idle host, and much longer on a busy one"
                )
        if launches:
            self._progress.note(f"known meanwhile: {'; '.join(map(summary, launches))}")

    def console(self, enclave: Enclave, *, follow: bool) -> Iterator[bytes]:
        """Yield the recorded console, each line with its time in UTC, and with ``follow`` new output.

        Raises:
            StateError: it has no console that we can read.
        """
        launch = self._launch_of(enclave)
        if not enclave.debug:
            raise StateError(
                f"{enclave.name}: has no console: it does not run in debug mode, and nobody can look into it",
                hint="enclavectl run --debug starts one that has a console, and attests zeros",
                code="no-console",
            )
        if launch is None:
            raise StateError(
                f"{enclave.name}: its console is not recorded: this user's enclavectl did not start it",
                hint=f"nitro-cli console --enclave-id {enclave.enclave_id} reads it now",
                code="console-not-recorded",
            )
        folder = launch.folder
        return read_console(folder / "console.log", (lambda: self._is_kept(folder)) if follow else None)

    def _is_kept(self, folder: Path) -> bool:
        """Return whether the keeper lives; start a new one first if it was killed."""
        if is_kept(folder):
            return True
        if load_ended(folder) is not None or not folder.exists():
            return False
        self.enclaves()
        return is_kept(folder)

    def terminate(self, enclave: Enclave) -> None:
        """End the enclave, add it to the history, and remove its folder.

        Raises:
            HostError: nitro-cli failed, or the enclave is another user's.
        """
        from enclavectl.backends.nitro.termination import Termination

        ending = Termination(
            cli=self._cli,
            progress=self._progress,
            state_dir=self._settings.state_dir,
            home=self._home,
            trust_of=lambda debug: str(self._settings.trust(debug=debug)),
        )
        ending.end(enclave, self._launch_of(enclave))

    def trust_root(self) -> TrustRoot:
        """Return AWS's commercial root, or the one that the configuration names.

        Raises:
            UsageError: the configured root is no certificate.
        """
        return self._settings.trust_root()

    def policy(self, enclaves: Sequence[Enclave], *, allow_debug: bool) -> Policy:
        """Return the policy that accepts exactly the images that we measured before their launch.

        Raises:
            StateError: we launched none of them, so their expected registers are unknown.
        """
        from enclavectl.attestation import Policy

        releases = tuple(enclave.release for enclave in enclaves if enclave.release is not None)
        if enclaves and not releases and not allow_debug:
            raise StateError(
                f"{enclaves[0].name}: this user's enclavectl did not start it, so nothing says what it is",
                hint="name a policy: --policy FILE; enclavectl build and describe --policy-file write one",
                code="no-release",
            )
        accept = Trust.NITRO if self._settings.root is None else Trust.SIMULATED
        return Policy(accept=frozenset({accept}), releases=releases, unsafe_allow_debug=allow_debug)

    def outbound_address(self, port: int) -> HostAddress:
        """Return the parent's port that enclaves dial at CID 3."""
        from enclavectl.net.address import UnixAddress, VsockAddress

        if self._settings.vsock_dir is not None:
            return UnixAddress(self._settings.vsock_dir / f"host.vsock_{port}")
        return VsockAddress(_ANY_CID, port)

    def _launch_of(self, enclave: Enclave) -> LaunchRecord | None:
        """Return the record of the enclave's launch; None for another user's enclave."""
        for launch in read_launch_records(self._home / "enclaves"):
            if enclave.enclave_id in (launch.folder.name, launch.info.enclave_id if launch.info else None):
                return launch
        return None


def _load_listing() -> None:
    """Import the modules for the answer while nitro-cli runs."""
    import enclavectl.backends.nitro.listing  # noqa: F401 - only loaded here, used later
