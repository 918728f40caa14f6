"""Starting, finding and ending local enclaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from enclavectl.backends.base import Enclave, EnclaveSpec
from enclavectl.backends.console_log import read_console
from enclavectl.backends.folders import (
    check_name,
    exclusive,
    is_running,
    lock_enclave,
    remove_enclave,
    require_free_name,
)
from enclavectl.backends.local.records import Record, ensure_root, load_record
from enclavectl.backends.local.supervisor import SupervisorSpec
from enclavectl.backends.state import EnclaveState
from enclavectl.errors import HostError, StateError, UsageError
from enclavectl.files import make_private_dir, read_bounded, write_atomic
from enclavectl.net.address import UnixAddress
from enclavectl.net.transport import listen
from enclavectl.run import Command, start, wait_ended
from enclavectl.trust import Trust

if TYPE_CHECKING:  # loaded while the enclave boots, not before: see benchmarks/start.py
    from enclavectl.attestation import Policy, TrustRoot
    from enclavectl.models.find import Model

# The supervisor gives the payload 6 s to finish what it has; then nothing is left to be gentle with.
_END_S = 10.0
_POLL_S = 0.01
_NEVER = datetime.max.replace(tzinfo=UTC)


class LocalEnclave:
    """A supervisor that this process started. A context manager: leaving it ends the enclave.

    A detached enclave is let go instead, but only by leaving without an error: one that never proved itself
    must not stay.
    """

    def __init__(
        self,
        enclave: Enclave,
        folder: Path,
        supervisor: subprocess.Popen[bytes],
        lifeline: int,
        remember: Callable[[str], None] | None,
    ) -> None:
        """``lifeline`` is the descriptor whose end the supervisor waits for.

        ``remember`` keeps in the history how a detached enclave ended; None for one that is not detached.
        """
        self.enclave = enclave
        self._remember = remember
        self._folder = folder
        self._supervisor = supervisor
        self._lifeline = lifeline

    @property
    def patience_s(self) -> float:
        """None: its socket listens before its process starts."""
        return 0.0

    def is_alive(self) -> bool:
        """Whether the supervisor runs."""
        return is_running(self._folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._remember is not None and kind is None:
            os.write(self._lifeline, b"x")
            os.close(self._lifeline)
            # It lives on by itself; Popen must not warn that we did not wait.
            self._supervisor.returncode = 0
            return
        try:
            if self._remember is not None:
                self._remember("it never proved itself")
        finally:
            self._end()

    def _end(self) -> None:
        os.close(self._lifeline)
        if not wait_ended(self._supervisor, _END_S):
            self._supervisor.kill()  # the payload dies with it: PR_SET_PDEATHSIG
            self._supervisor.wait()
        remove_enclave(self._folder)  # which a supervisor that was killed could not


class LocalBackend:
    """The payload in a child process, measured and signed for by this machine itself."""

    name = "local"

    def __init__(self, state_dir: Path) -> None:
        """Everything is kept under ``state_dir``/local, which is made when it is needed."""
        self._state_dir = state_dir
        self._home = state_dir / "local"

    def start(self, spec: EnclaveSpec, *, detached: bool) -> LocalEnclave:
        """Boot an enclave; its evidence is the sign of life.

        Raises:
            UsageError: the model does not fit its card, or the name is none.
            StateError: the name is taken.
            HostError: the state folder cannot be written, or no process can be started.
        """
        from enclavectl.models.find import load_weights

        if spec.name is not None:
            check_name(spec.name)
        if spec.model is None:
            raise UsageError("backend local: expected a model, found none")
        weights = load_weights(spec.model)
        make_private_dir(self._home)
        make_private_dir(self._home / "enclaves")
        ensure_root(self._home / "root")
        enclave_id = f"enc{os.urandom(8).hex()}"
        folder = self._home / "enclaves" / enclave_id
        # Until the record is written, so that two starts cannot choose the same name.
        with exclusive(self._home):
            self._sweep()
            name = self._free_name(spec.name, enclave_id)
            make_private_dir(folder)
            lock = lock_enclave(folder)
            try:
                make_private_dir(folder / "model")
                _write_new(folder / "model" / "model.tflite", weights)
                _write_new(folder / "model" / "model.json", spec.model.card.to_json())
                return self._launch(spec, spec.model, name, folder, lock, detached=detached)
            except OSError as exc:
                remove_enclave(folder)
                raise HostError(f"{folder}: cannot be written ({exc.strerror})") from exc
            except BaseException:
                remove_enclave(folder)
                raise
            finally:
                os.close(lock)

    def enclaves(self) -> list[Enclave]:
        """All that are known, oldest first.

        Raises:
            StateError: a record is damaged; the message says how to be rid of it.
            HostError: the state folder cannot be read.
        """
        found = []
        for folder in self._folders():
            if not (folder / "record.json").exists():
                continue  # just being started, or just being removed
            try:
                record = load_record(folder)
            except StateError:
                if (folder / "record.json").exists():
                    raise
                continue  # removed between the two looks
            if record.detached or is_running(folder):
                found.append(self._describe(folder, record))
        return sorted(found, key=lambda enclave: enclave.started or _NEVER)

    def console(self, enclave: Enclave, *, follow: bool) -> Iterator[bytes]:
        """What it printed so far and, with ``follow``, what it prints until it ends."""
        folder = self._home / "enclaves" / enclave.enclave_id
        return read_console(folder / "console.log", (lambda: is_running(folder)) if follow else None)

    def terminate(self, enclave: Enclave) -> None:
        """It is gone, with its console and its sockets.

        Raises:
            HostError: it would not end.
        """
        folder = self._home / "enclaves" / enclave.enclave_id
        how = "terminated by enclavectl" if is_running(folder) else None
        for number, patience_s in ((signal.SIGTERM, _END_S), (signal.SIGKILL, _END_S)):
            if not is_running(folder):
                break
            self._signal(folder, number)
            deadline = time.monotonic() + patience_s
            while is_running(folder) and time.monotonic() < deadline:
                time.sleep(_POLL_S)
        if is_running(folder):
            raise HostError(f"{enclave.name}: the supervisor did not end within {2 * _END_S:g} s")
        if folder.exists():
            self._remember(folder, enclave, how=how)
        remove_enclave(folder)

    def trust_root(self) -> TrustRoot:
        """This machine's development root, which vouches for nothing but itself.

        Raises:
            UsageError: there is none yet: nothing was ever run here.
        """
        from enclavectl.attestation import TrustRoot

        pem = read_bounded(
            self._home / "root" / "certificate.pem", 64 * 1024, what="development root certificate"
        )
        return TrustRoot.from_pem(pem, trust=Trust.SIMULATED, name="development root of this machine")

    def policy(self, enclaves: Sequence[Enclave], *, allow_debug: bool) -> Policy:
        """Exactly what was measured when these enclaves were started."""
        from enclavectl.attestation import Policy

        releases = tuple(enclave.release for enclave in enclaves if enclave.release is not None)
        return Policy(accept=frozenset({Trust.SIMULATED}), releases=releases, unsafe_allow_debug=allow_debug)

    def outbound_address(self, port: int) -> UnixAddress:
        """The socket that stands for the parent's port."""
        make_private_dir(self._home)
        return UnixAddress(self._home / f"out-{port}.sock")

    def _launch(
        self, spec: EnclaveSpec, model: Model, name: str, folder: Path, lock: int, *, detached: bool
    ) -> LocalEnclave:
        lifeline_read, lifeline_write = os.pipe()
        with listen(UnixAddress(folder / "in.sock")) as listener:
            supervisor_spec = SupervisorSpec(
                folder=str(folder),
                root_folder=str(self._home / "root"),
                listener_fd=listener.fileno(),
                lock_fd=lock,
                lifeline_fd=lifeline_read,
                debug=spec.debug,
                memory_mib=spec.memory_mib,
                workers=spec.workers,
                # Relative to the folder, since sun_path is short and state folders may be deep.
                outbound=f"../../out-{spec.port_out}.sock",
            )
            argv = [sys.executable, "-EPB", "-m", "enclavectl.backends.local.supervisor"]
            command = Command(
                argv=[*argv, json.dumps(supervisor_spec._asdict())],
                cwd=folder,
                pass_fds=(listener.fileno(), lock, lifeline_read),
            )
            _write_new(folder / "supervisor.log", b"")
            with (folder / "supervisor.log").open("ab") as output:
                supervisor = start(command, output=output)
        os.close(lifeline_read)
        from enclavectl.backends.local.measure import measure, payload_dir

        pcrs = measure(payload_dir(), folder / "model")
        record = Record(
            name=name,
            started=datetime.now(UTC),
            supervisor_pid=supervisor.pid,
            detached=detached,
            debug=spec.debug,
            memory_mib=spec.memory_mib,
            model_id=model.card.model_id,
            model_sha256=model.card.sha256,
            pcrs=pcrs,
        )
        try:
            write_atomic(folder / "record.json", record.to_json())
            enclave = self._describe(folder, record)
        except BaseException:
            # Without a record nobody could find it, and a detached one would live on.
            supervisor.kill()
            supervisor.wait()
            raise

        def remember(how: str) -> None:
            self._remember(folder, enclave, how=how)

        return LocalEnclave(enclave, folder, supervisor, lifeline_write, remember if detached else None)

    def _remember(self, folder: Path, enclave: Enclave, *, how: str | None) -> None:
        from enclavectl.backends.local.ending import keep_history

        keep_history(self._state_dir, folder, enclave, how=how)

    def _describe(self, folder: Path, record: Record) -> Enclave:
        state = EnclaveState.RUNNING if is_running(folder) else EnclaveState.DEAD
        return Enclave(
            enclave_id=folder.name,
            name=record.name,
            backend=self.name,
            trust=Trust.DEBUG if record.debug else Trust.SIMULATED,
            state=state,
            debug=record.debug,
            pid=record.supervisor_pid if state is EnclaveState.RUNNING else None,
            started=record.started,
            memory_mib=record.memory_mib,
            model_id=record.model_id,
            model_sha256=record.model_sha256,
            measured=record.pcrs,
            address=UnixAddress(folder / "in.sock"),
        )

    def _folders(self) -> list[Path]:
        try:
            return sorted(path for path in (self._home / "enclaves").iterdir() if path.name.startswith("enc"))
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise HostError(
                f"{self._home}: cannot be read ({exc.strerror})",
                hint="enclavectl config show says where state_dir comes from",
            ) from exc

    def _free_name(self, wanted: str | None, enclave_id: str) -> str:
        taken = {enclave.name for enclave in self.enclaves()}
        name = wanted or enclave_id
        require_free_name(name, taken)
        return name

    def _sweep(self) -> None:
        """Remove what a killed supervisor of a one-command enclave could not."""
        for folder in self._folders():
            if is_running(folder):
                continue
            try:
                is_leftover = not load_record(folder).detached
            except StateError:
                is_leftover = True  # killed between making the folder and starting anything
            if is_leftover:
                remove_enclave(folder)

    def _signal(self, folder: Path, number: signal.Signals) -> None:
        try:
            handle = os.pidfd_open(load_record(folder).supervisor_pid)
        except ProcessLookupError:
            return
        try:
            # The handle names one process for good; if the lock is still held, that process holds it.
            if is_running(folder):
                signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            return
        finally:
            os.close(handle)


def _write_new(path: Path, data: bytes) -> None:
    # Not atomic, and not synced: nobody looks into the folder before the supervisor is started.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
