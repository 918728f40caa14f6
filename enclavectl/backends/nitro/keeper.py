"""The keeper of one enclave: it launches the enclave, keeps its console, and records how it ended.

Only the backend starts ``python -m enclavectl.backends.nitro.keeper SPEC``; SPEC is JSON. The keeper holds
the enclave's lock as long as it lives, and reports to the backend over a pipe, one JSON object per line.

Order matters: the keeper connects the console and makes the first ``describe-enclaves`` under one lock, so
that no other query comes between them (nitro_cli/hostlock.py says what would happen).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from enclavectl.backends.keeping.ending import EnclaveEnd, write_ended
from enclavectl.backends.keeping.folders import remove_after_starter
from enclavectl.backends.keeping.lifeline import LifelineEnd
from enclavectl.backends.keeping.reports import error_to_report, send_report
from enclavectl.backends.nitro.boot_turn import BootTurn
from enclavectl.backends.nitro.capacity import LAG_PAUSE_S, LAG_WITHIN_S, CapacityCheck, CapacityRequest
from enclavectl.backends.nitro.ending import EndObserver, keep_history
from enclavectl.backends.nitro.recorder import Recorder
from enclavectl.backends.nitro.records import (
    is_asked_to_end,
    load_launched,
    load_record,
    write_launched,
    write_settled,
)
from enclavectl.errors import EnclavectlError, HostError, StateError
from enclavectl.nitro_cli.answers import RunInfo
from enclavectl.nitro_cli.commands import Console, RunEnclave
from enclavectl.nitro_cli.describe_enclaves import NitroState
from enclavectl.nitro_cli.tool import NitroCli
from enclavectl.progress import NoProgress
from enclavectl.run import Output, handle_of, start

# Bytes of an output that are read: more than records.py and failure.py use.
_MAX_OUTPUT = 1024 * 1024
# Bytes reserved for nitro-cli's output of a launch: its answer and first error fit.
_RESERVED = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class KeeperSpec:
    """The keeper's inputs from the backend. The descriptors are inherited.

    ``last_end`` is the time, in seconds since the epoch, at which this user's last enclave ended. ``adopts``:
    the enclave runs already, and its keeper was killed. ``boot_wait_s`` is how long the launch may be tried
    again while another one has vsock port 9000.
    """

    folder: str
    state_dir: str
    trust: str
    lifeline_fd: int
    report_fd: int
    lock_fd: int
    last_end: int
    host_root: str | None
    adopts: bool = False
    boot_wait_s: int = 0

    def to_json(self) -> str:
        """Return the keeper's one argument."""
        return json.dumps(asdict(self))


class Keeper:
    """The keeper of one enclave, from its launch to the record of its end."""

    def __init__(self, spec: KeeperSpec) -> None:
        self._spec = spec
        self._folder = Path(spec.folder)
        self._record = load_record(self._folder)
        self._cli = NitroCli(os.environ, self)
        self._lifeline = LifelineEnd(spec.lifeline_fd)
        self._is_detached = False

    def note(self, text: str) -> None:
        """Pass the note to the backend, which shows it to the user. Part of ``Progress``."""
        self._report({"note": text})

    def update(self, what: str, elapsed_s: float, bound_s: float) -> None:
        """Do nothing: the backend measures the time itself. Part of ``Progress``."""

    def adopt(self) -> None:
        """Continue for a killed keeper, until the enclave has ended and its end is recorded."""
        info = load_launched(self._folder)
        if info is None:
            return  # the next `list` tries again
        self._is_detached = True
        recorder = None
        if self._record.debug:
            recorder = Recorder(self._folder / "console.log", goes_on=True)
            recorder.end_old_reader()
        # Open the handle first: if nitro-cli still lists the enclave afterwards, the handle is its daemon's.
        daemon = self._settled(info, handle_of(info.process_id), recorder)
        self._watch(info, daemon, recorder)
        self._end(EndObserver(self._folder, self._record, info, self._cli.logs).describe())

    def run(self) -> None:
        """Launch the enclave and keep it, until it has ended and its end is recorded."""
        try:
            recorder = Recorder(self._folder / "console.log") if self._record.debug else None
            # Hold the lock until the enclave is settled: another launch would ask every enclave for its name,
            # and an enclave whose image is being hashed must not be asked.
            with self._cli.launch_locked(gives_up=self._is_unwanted):
                info = self._launch()
                daemon = handle_of(info.process_id)
                with contextlib.suppress(HostError):  # a full disk; nitro-cli's own output has the answer
                    write_launched(self._folder, info)
                is_unwanted = self._is_unwanted()
                if not is_unwanted:
                    self._report({"launched": info.to_json()})
                    daemon = self._settled(info, daemon, recorder)
        except (EnclavectlError, OSError) as failure:
            exc = failure if isinstance(failure, EnclavectlError) else _of_the_disk(failure)
            self._report_failure(exc)
            self._end(EnclaveEnd(at=datetime.now(UTC), how=f"it was never started: {exc.message}"))
            return
        if is_unwanted:
            self._report_failure(StateError(f"{self._record.name}: its end was asked for while it booted"))
            self._terminate(info)
        self._watch(info, daemon, recorder)
        self._end(EndObserver(self._folder, self._record, info, self._cli.logs).describe())

    def _launch(self) -> RunInfo:
        record = self._record
        command = RunEnclave(
            eif=record.image,
            memory_mib=record.memory_mib,
            cpu_count=record.cpus,
            cid=record.cid,
            debug=record.debug,
            name=record.name,
        )
        if self._is_unwanted():
            raise StateError("its end was asked for before it began")
        # For the same reason: wait until the enclaves of other launches are settled.
        described = self._cli.describe()
        # Checked before as well; another launch may have taken the resources while this one waited.
        request = CapacityRequest(
            name=record.name,
            image=record.image,
            image_size=record.image_size,
            memory_mib=record.memory_mib,
            cpus=record.cpus,
        )
        running = [one for one in described.enclaves if one.state is NitroState.RUNNING]
        used = {cpu for one in running for cpu in one.run.cpu_ids}
        root = None if self._spec.host_root is None else Path(self._spec.host_root)
        CapacityCheck(root).require(request, used, last_end=self._spec.last_end)
        self._report({"launching": True})
        output = BootTurn(self._spec.boot_wait_s, self.note, self._is_unwanted).take(
            lambda: self._run(command)
        )
        refused = self._cli.error_of(command, output) if output.status != 0 else None
        just_ended = time.time() - self._spec.last_end < LAG_WITHIN_S
        if isinstance(refused, HostError) and refused.code == "nitro-cli-E29" and just_ended:
            self.note("the driver refused (E29) right after an enclave ended; trying once more")
            time.sleep(LAG_PAUSE_S)
            output = self._run(command)
        return self._cli.answer(command, output, RunInfo.from_json)

    def _run(self, command: RunEnclave) -> Output:
        # To files: the output survives this process, and no pipe can break.
        out, err = self._folder / "launch.out", self._folder / "launch.err"
        with out.open("wb") as output, err.open("wb") as errors:
            for file in (output, errors):
                # Reserve the space now, so that a disk that fills up later cannot lose the answer.
                os.posix_fallocate(file.fileno(), 0, _RESERVED)
            process = start(self._cli.process(command), output=output, errors=errors)
            status = process.wait()
            for file in (output, errors):
                os.truncate(file.fileno(), os.lseek(file.fileno(), 0, os.SEEK_CUR))
        return Output(status=status, out=_head(out), err=_head(err))

    def _settled(self, info: RunInfo, daemon: int | None, recorder: Recorder | None) -> int | None:
        """Connect the console, and wait until the daemon has hashed its image and answers commands.

        Return the daemon's handle; None if nitro-cli reports that there is no such enclave: then another
        process may have got the daemon's number before we opened a handle.
        """
        is_there = True
        try:
            with self._cli.host_locked() as tool:
                if recorder is not None:
                    recorder.connect(self._cli.process(Console(enclave_id=info.enclave_id)))
                described = tool.describe()
                told = {one.run.enclave_id for one in described.enclaves}
                is_there = info.enclave_id in told or described.unreachable > 0
        except EnclavectlError as exc:
            self._log(f"settling: {exc.message}")
        write_settled(self._folder)
        self._report({"settled": True})
        if not is_there and daemon is not None:
            os.close(daemon)
        return daemon if is_there else None

    def _watch(self, info: RunInfo, daemon: int | None, recorder: Recorder | None) -> None:
        """Wait until the daemon that holds the enclave, and so the enclave, has ended."""
        watched: dict[int, Callable[[], bool]] = {self._lifeline.fd: lambda: self._follow_lifeline(info)}
        if recorder is not None and recorder.fd is not None:
            watched[recorder.fd] = recorder.keep
        if is_asked_to_end(self._folder):
            self._terminate(info)
        poll = select.poll()
        for fd in (*watched, *([] if daemon is None else [daemon])):
            poll.register(fd, select.POLLIN)
        while daemon is not None:
            ready = {fd for fd, _ in poll.poll()}
            for fd in ready - {daemon}:
                if not watched[fd]():
                    poll.unregister(fd)
            if daemon in ready:
                break
        if recorder is not None:
            recorder.finish()

    def _follow_lifeline(self, info: RunInfo) -> bool:
        """Read the lifeline: keep the enclave after a release, end it after a cut.

        Return False: the lifeline is not watched any more.
        """
        if self._lifeline.is_released():
            self._is_detached = True
        else:
            self._terminate(info)
        return False

    def _is_unwanted(self) -> bool:
        return self._lifeline.is_cut() or is_asked_to_end(self._folder)

    def _terminate(self, info: RunInfo) -> None:
        (self._folder / "ending").touch()
        try:
            self._cli.terminate(info.enclave_id)
        except StateError:
            return  # the enclave has just ended by itself
        except EnclavectlError as exc:
            self._log(f"terminating: {exc.message}")

    def _end(self, ended: EnclaveEnd) -> None:
        keeps_record = self._is_detached
        with contextlib.suppress(HostError):  # the folder was removed, and nobody needs the record
            write_ended(self._folder, ended)
        if self._record.detached:
            try:
                keep_history(Path(self._spec.state_dir), self._folder, trust=self._spec.trust)
            except EnclavectlError as exc:  # the folder is gone, or the disk is full
                self._log(f"history: {exc.message}")
        if not keeps_record:
            remove_after_starter(self._folder, self._spec.lock_fd, self._lifeline.wait_cut)
            from enclavectl.backends.nitro.images import prune

            with contextlib.suppress(EnclavectlError):  # a damaged record, which `list` reports
                prune(self._folder.parents[1], NoProgress())

    def _report_failure(self, exc: EnclavectlError) -> None:
        self._report(error_to_report(exc))

    def _report(self, value: dict[str, object]) -> None:
        send_report(self._spec.report_fd, value)

    def _log(self, text: str) -> None:
        with contextlib.suppress(OSError), (self._folder / "keeper.log").open("a") as file:
            file.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {text}\n")


def _of_the_disk(exc: OSError) -> HostError:
    return HostError(f"{exc.filename or 'the state folder'}: cannot be written ({exc.strerror})")


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MAX_OUTPUT)


def main(argument: str) -> None:
    """Keep the enclave until its end."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    spec = KeeperSpec(**json.loads(argument))
    keeper = Keeper(spec)
    if spec.adopts:
        keeper.adopt()
    else:
        keeper.run()


if __name__ == "__main__":
    main(sys.argv[1])
