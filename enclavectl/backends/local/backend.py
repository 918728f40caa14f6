"""Starting, finding and ending local enclaves."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from enclave_payload.card import MODEL_PCR, SEALED_MARK, SEALED_MARK_CONTENT, model_register
from enclavectl.backends.base import WAITING, EnclaveSpec, ProcessEnclave, ProcessSpec, SealedModel
from enclavectl.backends.console_log import read_console
from enclavectl.backends.keeping.folders import remove_enclave
from enclavectl.backends.keeping.identity import ProcessIdentity
from enclavectl.backends.keeping.keeper_process import KeeperProcess, start_keeper
from enclavectl.backends.keeping.kept import KeptEnclaves
from enclavectl.backends.keeping.locks import exclusive, is_kept
from enclavectl.backends.keeping.names import check_name, module_id
from enclavectl.backends.local.records import Record, load_record
from enclavectl.backends.local.root import ensure_root
from enclavectl.backends.local.supervisor import SupervisorSpec
from enclavectl.backends.state import EnclaveState
from enclavectl.errors import UsageError
from enclavectl.files import make_private_dir, read_bounded, require_private_dir, write_atomic
from enclavectl.net.address import UnixAddress
from enclavectl.net.transport import bind, listen
from enclavectl.progress import NoProgress, Progress
from enclavectl.trust import LOCAL_ROOT, Trust

if TYPE_CHECKING:  # loaded while the enclave boots, not before: see benchmarks/start.py
    from enclavectl.attestation import Policy, TrustRoot
    from enclavectl.backends.base import Enclave

# The supervisor gives the payload 6 s to finish what it has; then nothing is left to be gentle with.
_END_S = 10.0
# Its first two lines name limits and layers.
_CONSOLE_HEAD = 4096
_NEVER = datetime.max.replace(tzinfo=UTC)


class LocalEnclave:
    """A supervisor that this process started. A context manager: leaving it ends the enclave.

    A detached enclave is let go instead, but only by leaving without an error: one that never proved itself
    must not stay.
    """

    def __init__(
        self,
        enclave: ProcessEnclave,
        folder: Path,
        supervisor: KeeperProcess,
        remember: Callable[[str], None] | None,
    ) -> None:
        """``remember`` keeps how a detached enclave ended; None for one that is not detached."""
        self.enclave = enclave
        self._remember = remember
        self._folder = folder
        self._supervisor = supervisor

    @property
    def boot_grace_s(self) -> float:
        """None: its socket listens before its process starts."""
        return 0.0

    def is_alive(self) -> bool:
        """Return whether the supervisor runs."""
        return is_kept(self._folder)

    def activity(self) -> str:
        """Return the one thing that a client can wait for."""
        return WAITING

    def failure(self) -> None:
        """Return nothing: the console says it."""

    def warning(self) -> str | None:
        """Return the layers of the sandbox that this machine lacks."""
        from enclavectl.backends.local.sandbox import missing_layers

        # The payload says it before it answers; of what it prints later, nothing is looked at.
        head = next(read_console(self._folder / "console.log"), b"")[:_CONSOLE_HEAD]
        layers = missing_layers(head.decode(errors="replace"))
        return layers and f"the sandbox of {self.enclave.name} lacks {layers}; enclavectl doctor says more"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._remember is not None and kind is None:
            self._supervisor.detach()
            return
        try:
            if self._remember is not None:
                self._remember("it never proved itself")
        finally:
            if not self._supervisor.end(_END_S):
                self._supervisor.kill()  # the payload dies with it: PR_SET_PDEATHSIG
            remove_enclave(self._folder)  # which a supervisor that was killed could not


class LocalBackend:
    """The backend ``local``: the payload in a child process, measured and signed for by this machine."""

    name = "local"

    def __init__(self, state_dir: Path, progress: Progress | None = None, *, end_s: float = _END_S) -> None:
        """Everything is kept under ``state_dir``/local, which is made when it is needed.

        ``end_s`` is how long ``terminate`` waits after a signal.
        """
        self._end_s = end_s
        self._progress = progress or NoProgress()
        self._state_dir = state_dir
        self._home = state_dir / "local"
        self._kept = KeptEnclaves(self._home / "enclaves", load_record)

    def start(self, spec: EnclaveSpec, *, detached: bool) -> LocalEnclave:
        """Boot an enclave; its evidence is the sign of life.

        Raises:
            UsageError: the model does not fit its card, the name is none, or an image was given.
            StateError: the name is taken.
            HostError: the state folder cannot be written, or no process can be started.
        """
        from enclavectl.models.weights import load_weights

        if spec.name is not None:
            check_name(spec.name)
        if not isinstance(spec, ProcessSpec):
            raise UsageError("backend local: expected a model for a process, found an image for a machine")
        weights = None if isinstance(spec.model, SealedModel) else load_weights(spec.model)
        make_private_dir(self._home)
        make_private_dir(self._home / "enclaves")
        ensure_root(self._home / "root")
        # Until the record is written, so that two starts cannot choose the same name.
        with exclusive(self._home):
            self._kept.sweep()
            name = self._kept.free_name(spec.name)
            with self._kept.new_folder() as (folder, lock):
                make_private_dir(folder / "model")
                make_private_dir(folder / "tree")  # the payload's root, in its namespace only
                if weights is None:
                    _write_new(folder / "model" / SEALED_MARK, SEALED_MARK_CONTENT)
                else:
                    _write_new(folder / "model" / "model.tflite", weights)
                    _write_new(folder / "model" / "model.json", spec.model.card.to_json())
                return self._launch(spec, name, folder, lock, detached=detached)

    def enclaves(self) -> list[Enclave]:
        """Return all that are known, oldest first.

        Raises:
            StateError: a record is damaged; the message says how to be rid of it.
            HostError: the state folder cannot be read.
        """
        found: list[Enclave] = [self._describe(folder, record) for folder, record in self._kept.all()]
        return sorted(found, key=lambda enclave: enclave.started or _NEVER)

    def console(self, enclave: Enclave, *, follow: bool) -> Iterator[bytes]:
        """Yield what it printed so far and, with ``follow``, what it prints until it ends."""
        return self._kept.console(enclave.enclave_id, follow=follow)

    def terminate(self, enclave: Enclave) -> None:
        """End the enclave and remove its folder, with its console and its sockets.

        Raises:
            HostError: it would not end.
        """
        from enclavectl.backends.keeping.ending import TERMINATED

        folder = self._home / "enclaves" / enclave.enclave_id
        require_private_dir(folder)
        was_running = self._kept.end(folder, enclave.name, bound_s=self._end_s)
        how = TERMINATED if was_running else None
        self._kept.forget(
            folder,
            enclave.name,
            lambda record: self._keep_history(folder, record, how=how),
            self._progress,
        )

    def trust_root(self) -> TrustRoot:
        """Return this machine's development root, which vouches for nothing but itself.

        Raises:
            UsageError: there is none yet: nothing was ever run here.
            HostError: somebody else may have put it there.
        """
        from enclavectl.attestation import TrustRoot

        require_private_dir(self._home / "root")
        pem = read_bounded(
            self._home / "root" / "certificate.pem", 64 * 1024, what="development root certificate"
        )
        return TrustRoot.from_pem(pem, trust=Trust.SIMULATED, name=LOCAL_ROOT)

    def policy(self, enclaves: Sequence[Enclave], *, allow_debug: bool) -> Policy:
        """Return the policy that accepts exactly what was measured when these enclaves were started."""
        from enclavectl.attestation import Policy

        releases = tuple(enclave.release for enclave in enclaves if enclave.release is not None)
        return Policy(accept=frozenset({Trust.SIMULATED}), releases=releases, unsafe_allow_debug=allow_debug)

    def outbound_address(self, port: int) -> UnixAddress:
        """Return the socket that stands for the parent's port."""
        make_private_dir(self._home)
        return UnixAddress(self._home / f"out-{port}.sock")

    def _launch(
        self, spec: ProcessSpec, name: str, folder: Path, lock: int, *, detached: bool
    ) -> LocalEnclave:
        supervisor = self._start_supervisor(spec, folder, lock)
        try:
            from enclavectl.backends.local.measure import measure, payload_dir

            # PCR16 as the payload will extend it; the others as the supervisor measures them.
            model = {MODEL_PCR: model_register(spec.model.card.to_json())}
            record = Record(
                name=name,
                started=datetime.now(UTC),
                supervisor=ProcessIdentity.of(supervisor.pid),
                detached=detached,
                debug=spec.debug,
                memory_mib=spec.memory_mib,
                model_id=spec.model.card.model_id,
                model_sha256=spec.model.card.sha256,
                is_sealed=isinstance(spec.model, SealedModel),
                pcrs={**measure(payload_dir(), folder / "model"), **model},
            )
            write_atomic(folder / "record.json", record.to_json())
            enclave = self._describe(folder, record)
        except BaseException:
            supervisor.kill()  # without a record nobody could find it, and a detached one would live on
            raise

        def remember(how: str) -> None:
            self._keep_history(folder, record, how=how)

        return LocalEnclave(enclave, folder, supervisor, remember if detached else None)

    def _start_supervisor(self, spec: ProcessSpec, folder: Path, lock: int) -> KeeperProcess:
        is_sealed = isinstance(spec.model, SealedModel)
        with ExitStack() as stack:
            # Without weights nobody may come yet: the supervisor listens there when the payload serves.
            open_in = bind if is_sealed else listen
            listener = stack.enter_context(open_in(UnixAddress(folder / "in.sock")))
            release_fd = None
            if is_sealed:
                release_fd = stack.enter_context(listen(UnixAddress(folder / "release.sock"))).fileno()
            return start_keeper(
                "enclavectl.backends.local.supervisor",
                lambda lifeline: SupervisorSpec(
                    folder=str(folder),
                    module_id=module_id(folder.name),
                    root_folder=str(self._home / "root"),
                    listener_fd=listener.fileno(),
                    release_fd=release_fd,
                    lock_fd=lock,
                    lifeline_fd=lifeline,
                    debug=spec.debug,
                    memory_mib=spec.memory_mib,
                    workers=spec.workers,
                    # Relative to the folder, since sun_path is short and state folders may be deep.
                    outbound=f"../../out-{spec.port_out}.sock",
                ).to_json(),
                folder=folder,
                log=folder / "supervisor.log",
                pass_fds=(listener.fileno(), lock, *([] if release_fd is None else [release_fd])),
            )

    def _keep_history(self, folder: Path, record: Record, *, how: str | None) -> None:
        from enclavectl.backends.history import History
        from enclavectl.backends.keeping.ending import history_entry
        from enclavectl.backends.local.ending import read_end

        ended = read_end(folder / "console.log", how=how)
        entry = history_entry(folder, record, ended, backend=self.name, trust=_trust(record))
        History(self._state_dir).add(entry)

    def _describe(self, folder: Path, record: Record) -> ProcessEnclave:
        state = EnclaveState.RUNNING if is_kept(folder) else EnclaveState.DEAD
        return ProcessEnclave(
            enclave_id=folder.name,
            module_id=module_id(folder.name),
            name=record.name,
            backend=self.name,
            trust=_trust(record),
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
            address=UnixAddress(folder / "in.sock"),
        )


def _trust(record: Record) -> Trust:
    return Trust.DEBUG if record.debug else Trust.SIMULATED


def _write_new(path: Path, data: bytes) -> None:
    # Not atomic, and not synced: nobody looks into the folder before the supervisor is started.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
