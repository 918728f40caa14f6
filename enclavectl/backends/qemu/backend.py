"""Starting, finding and ending emulated enclaves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from enclavectl.backends.history import History
from enclavectl.backends.keeping.ending import TERMINATED, EnclaveEnd, history_entry, load_ended
from enclavectl.backends.keeping.identity import ProcessIdentity
from enclavectl.backends.keeping.kept import KeptEnclaves
from enclavectl.backends.keeping.locks import exclusive, is_kept
from enclavectl.backends.keeping.names import module_id
from enclavectl.backends.machine import EmulatedEnclave, Machine, MachineSpec
from enclavectl.backends.qemu.records import SOCKET_NAME, Record, load_record
from enclavectl.backends.state import EnclaveState
from enclavectl.files import make_private_dir, require_private_dir, write_atomic
from enclavectl.net.address import HybridVsockAddress, UnixAddress
from enclavectl.progress import NoProgress, Progress
from enclavectl.trust import Trust

if TYPE_CHECKING:  # `list` needs none of them
    from enclavectl.attestation import EmulatorRoot, Policy
    from enclavectl.backends.base import Enclave, EnclaveSpec
    from enclavectl.backends.keeping.images import AdmittedImage
    from enclavectl.backends.qemu.launch import QemuEnclave
    from enclavectl.backends.qemu.settings import Emulator, QemuSettings

_END_S = 10.0  # QEMU is killed, which takes as long as the kernel needs to free its memory
_FIRST_CID = 16  # as nitro-cli's first, so that examples are the same
_NEVER = datetime.max.replace(tzinfo=UTC)


class QemuBackend:
    """The backend ``qemu``: this user's virtual machines, booted from enclave images and measured by QEMU."""

    name = "qemu"

    def __init__(self, settings: QemuSettings, progress: Progress | None = None) -> None:
        """Use the folder ``state_dir``/qemu. QEMU is not looked for yet."""
        self._settings = settings
        self._home = settings.state_dir / "qemu"
        self._kept = KeptEnclaves(self._home / "enclaves", load_record)
        self._progress = progress or NoProgress()

    def start(self, spec: EnclaveSpec, *, detached: bool) -> QemuEnclave:
        """Boot an enclave: at the return its kernel has reported, but its payload may still be loading.

        Raises:
            UsageError: name, CID or memory cannot be used, or the image is missing or not valid.
            StateError: the name or the CID is taken, there is no image, or it differs from its lock.
            HostError: this host has no QEMU with the machine, or the boot failed.
        """
        from enclavectl.backends.keeping.machine_inputs import check_machine

        machine, source = check_machine(spec, self.name)
        emulator = self._settings.choose(machine.cpus)
        for note in emulator.notes:
            self._progress.note(note)
        make_private_dir(self._home)
        make_private_dir(self._home / "enclaves")
        running = self._launch_new(machine, source, emulator, detached=detached)
        try:
            running.wait_booted(self._progress)
        except BaseException:
            running.abandon()
            raise
        return running

    def enclaves(self) -> list[Enclave]:
        """Return all that are known, oldest first.

        Raises:
            StateError: a record is damaged; the message says how to be rid of it.
            HostError: the state folder cannot be read.
        """
        found: list[Enclave] = []
        for folder, record in self._kept.all():
            one = self._describe(folder, record)
            if one.state is EnclaveState.DEAD:
                (folder / SOCKET_NAME).unlink(missing_ok=True)  # which a keeper that was killed could not
            found.append(one)
        return sorted(found, key=lambda enclave: enclave.started or _NEVER)

    def console(self, enclave: Enclave, *, follow: bool) -> Iterator[bytes]:
        """Yield the console, each line with its time in UTC, and with ``follow`` new output."""
        return self._kept.console(enclave.enclave_id, follow=follow)

    def terminate(self, enclave: Enclave) -> None:
        """End the enclave, add it to the history, and remove its folder.

        Raises:
            HostError: it would not end.
        """
        folder = self._kept.folder(enclave.enclave_id)
        require_private_dir(folder)
        was_running = self._kept.end(folder, enclave.name, bound_s=_END_S)
        end = load_ended(folder) or EnclaveEnd(
            at=datetime.now(UTC) if was_running else None,
            how=TERMINATED if was_running else "its keeper was killed",
        )
        self._kept.forget(
            folder, enclave.name, lambda record: self._keep_history(folder, record, end), self._progress
        )

    def trust_root(self) -> EmulatorRoot:
        """Return what stands for QEMU's own unsigned documents, and for nothing else."""
        from enclavectl.attestation import EmulatorRoot

        return EmulatorRoot()

    def policy(self, enclaves: Sequence[Enclave], *, allow_debug: bool) -> Policy:
        """Return the policy that accepts exactly the images that we measured before their launch."""
        from enclavectl.attestation import Policy

        releases = tuple(enclave.release for enclave in enclaves if enclave.release is not None)
        return Policy(accept=frozenset({Trust.EMULATED}), releases=releases, unsafe_allow_debug=allow_debug)

    def outbound_address(self, port: int) -> UnixAddress:
        """Return the socket that stands for the parent's port, which enclaves dial at CID 3."""
        make_private_dir(self._home)
        return UnixAddress(self._home / f"out-{port}.sock")

    def _keep_history(self, folder: Path, record: Record, end: EnclaveEnd) -> None:
        entry = history_entry(folder, record, end, backend=self.name, trust=Trust.EMULATED)
        History(self._settings.state_dir).add(entry)

    def _launch_new(
        self, spec: MachineSpec, source: Path, emulator: Emulator, *, detached: bool
    ) -> QemuEnclave:
        from enclavectl.backends.keeping.images import admit_image, check_memory
        from enclavectl.backends.keeping.machine_inputs import check_free_cid, free_name

        # Until the record is written, so that two starts cannot choose the same name or CID.
        with exclusive(self._home):
            self._kept.sweep()
            known = self.enclaves()
            name = free_name(spec.name, source, known)
            check_free_cid(spec.cid, known)
            with self._kept.new_folder() as (folder, lock):
                image = admit_image(source, folder / "image", now=datetime.now(UTC), progress=self._progress)
                image = image.with_model(spec.sealed)
                check_memory(image.size, spec.memory_mib)
                cid = spec.cid or _free_cid(known)
                plan = _Plan(spec=spec, source=source, name=name, cid=cid, emulator=emulator, image=image)
                return self._launch(plan, folder, lock, detached=detached)

    def _launch(self, plan: _Plan, folder: Path, lock: int, *, detached: bool) -> QemuEnclave:
        from enclavectl.backends.keeping.reports import start_reporting
        from enclavectl.backends.qemu.keeper import KeeperSpec
        from enclavectl.backends.qemu.launch import QemuEnclave

        spec, emulator, image = plan.spec, plan.emulator, plan.image
        keeper, reports = start_reporting(
            "enclavectl.backends.qemu.keeper",
            folder,
            lock,
            lambda lifeline, report: KeeperSpec(
                folder=str(folder),
                state_dir=str(self._settings.state_dir),
                lifeline_fd=lifeline,
                report_fd=report,
                lock_fd=lock,
                program=str(emulator.qemu.program),
                image=str(image.path),
                memory_mib=spec.memory_mib,
                cpus=emulator.cpus,
                cid=plan.cid,
                uses_kvm=emulator.uses_kvm,
                detached=detached,
            ).to_json(),
        )
        try:
            record = Record(
                name=plan.name,
                started=datetime.now(UTC),
                detached=detached,
                debug=spec.debug,
                memory_mib=spec.memory_mib,
                model_id=image.model[0] if image.model else None,
                model_sha256=image.model[1] if image.model else None,
                is_sealed=spec.sealed is not None,
                pcrs=image.pcrs,
                supervisor=ProcessIdentity.of(keeper.pid),
                cpus=emulator.cpus,
                cid=plan.cid,
                port_in=spec.port_in,
                image=plan.source,
                lock_sha256=image.lock_sha256,
                accelerator=emulator.accelerator,
            )
            write_atomic(folder / "record.json", record.to_json())
        except BaseException:
            keeper.kill()  # without a record nobody could find it, and a detached one would live on
            raise
        return QemuEnclave(self._describe(folder, record), folder, keeper, reports)

    def _describe(self, folder: Path, record: Record) -> EmulatedEnclave:
        state = EnclaveState.RUNNING if is_kept(folder) else EnclaveState.DEAD
        return EmulatedEnclave(
            enclave_id=folder.name,
            module_id=module_id(folder.name),
            name=record.name,
            backend=self.name,
            trust=Trust.EMULATED,
            state=state,
            debug=record.debug,
            is_owned=not record.detached,
            pid=record.supervisor.pid if state is EnclaveState.RUNNING else None,
            started=record.started,
            memory_mib=record.memory_mib,
            model_id=record.model_id,
            model_sha256=record.model_sha256,
            is_sealed=record.is_sealed,
            measured=record.pcrs,
            address=HybridVsockAddress(folder / SOCKET_NAME, record.port_in),
            machine=Machine(
                cid=record.cid,
                cpus=record.cpus,
                cpu_ids=(),
                image=record.image,
                asked_memory_mib=record.memory_mib,
                nitro_cli_pcrs={},
                owner=None,
                lock_sha256=record.lock_sha256,
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What a launch has chosen and admitted."""

    spec: MachineSpec
    source: Path
    name: str
    cid: int
    emulator: Emulator
    image: AdmittedImage


def _free_cid(known: Sequence[Enclave]) -> int:
    used = {one.machine.cid for one in known if isinstance(one, EmulatedEnclave) and one.pid is not None}
    return next(cid for cid in count(_FIRST_CID) if cid not in used)
