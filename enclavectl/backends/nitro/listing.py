"""Which enclaves there are: what we wrote down of ours, joined with what nitro-cli says of everybody's.

A keeper that lives and has written of no end is better evidence of life than nitro-cli's answer: it holds
the process that holds the enclave.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from enclavectl.address import Address, HybridVsockAddress, VsockAddress
from enclavectl.backends.base import Enclave, EnclaveState, Machine
from enclavectl.backends.folders import is_running
from enclavectl.backends.nitro.records import Record, load_ended, load_launched, load_record
from enclavectl.errors import HostError, StateError
from enclavectl.nitro_cli.answers import RunInfo
from enclavectl.nitro_cli.describe_enclaves import DescribeInfo, NitroState
from enclavectl.nitro_cli.limits import boot_bound_s
from enclavectl.nitro_cli.tool import Described
from enclavectl.trust import Trust

_STATES = {
    NitroState.RUNNING: EnclaveState.RUNNING,
    NitroState.TERMINATING: EnclaveState.TERMINATING,
    NitroState.EMPTY: EnclaveState.BOOTING,
    NitroState.UNKNOWN: EnclaveState.UNKNOWN,
}
_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Kept:
    """One enclave that this user's enclavectl started; ``info`` is None until it has booted."""

    folder: Path
    record: Record
    info: RunInfo | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where the records are, and where enclaves are reached."""

    folder: Path
    port_in: int
    vsock_dir: Path | None
    is_simulated: bool

    def kept(self) -> list[Kept]:
        """Every enclave that is written down, running or dead.

        Raises:
            StateError: a record is damaged.
            HostError: the folder cannot be read.
        """
        return [Kept(folder, load_record(folder), load_launched(folder)) for folder in self._folders()]

    def address(self, cid: int, port: int) -> Address:
        """Where a client dials the enclave with that CID."""
        if self.vsock_dir is not None:
            return HybridVsockAddress(self.vsock_dir / f"{cid}.vsock", port)
        return VsockAddress(cid, port)

    def ours(self, kept: Kept, told: DescribeInfo | None, state: EnclaveState) -> Enclave:
        """One that this user's enclavectl started."""
        record, info = kept.record, kept.info
        cid = info.cid if info else record.cid
        runs = state not in (EnclaveState.DEAD, EnclaveState.BOOTING)
        return Enclave(
            enclave_id=info.enclave_id if info else kept.folder.name,
            name=record.name,
            backend="nitro",
            trust=self.trust(debug=record.debug),
            state=state,
            debug=record.debug,
            pid=info.process_id if info and runs else None,
            started=record.started,
            memory_mib=info.memory_mib if info else record.memory_mib,
            model_id=record.model_id,
            model_sha256=record.model_sha256,
            measured=record.pcrs,
            address=self.address(cid or 0, record.port_in),
            machine=Machine(
                cid=cid,
                cpus=len(info.cpu_ids) if info else record.cpus,
                cpu_ids=info.cpu_ids if info else (),
                image=record.image,
                asked_memory_mib=record.memory_mib,
                told_pcrs=told.registers.values if told and told.registers else {},
                owner=owner_of(told.run.process_id) if told else None,
            ),
        )

    def foreign(self, told: DescribeInfo) -> Enclave:
        """One of which only nitro-cli tells."""
        run = told.run
        return Enclave(
            enclave_id=run.enclave_id,
            name=run.name or run.enclave_id,
            backend="nitro",
            trust=self.trust(debug=told.debug),
            state=_STATES[told.state],
            debug=told.debug,
            pid=run.process_id,
            started=None,
            memory_mib=run.memory_mib,
            model_id=None,
            model_sha256=None,
            measured=None,
            address=self.address(run.cid, self.port_in),
            machine=Machine(
                cid=run.cid,
                cpus=len(run.cpu_ids),
                cpu_ids=run.cpu_ids,
                image=None,
                asked_memory_mib=None,
                told_pcrs=told.registers.values if told.registers else {},
                owner=owner_of(run.process_id),
            ),
        )

    def trust(self, *, debug: bool) -> Trust:
        """What evidence of these enclaves can be worth at most."""
        if debug:
            return Trust.DEBUG
        return Trust.SIMULATED if self.is_simulated else Trust.NITRO

    def _folders(self) -> Iterator[Path]:
        try:
            found = sorted(path for path in self.folder.iterdir() if path.name.startswith("enc"))
        except FileNotFoundError:
            return
        except OSError as exc:
            raise HostError(
                f"{self.folder}: cannot be read ({exc.strerror})",
                hint="enclavectl config show says where state_dir comes from",
            ) from exc
        for path in found:
            try:
                load_record(path)
            except StateError:
                if (path / "record.json").exists():
                    raise
                continue  # just being made, or just being removed
            yield path


def join(places: Places, kept: list[Kept], described: Described) -> list[Enclave]:
    """Every enclave: ours, oldest first, then others'. ``kept`` was read before ``described`` was asked."""
    told = {one.run.enclave_id: one for one in described.enclaves}
    found = []
    for one in kept:
        answer = told.pop(one.info.enclave_id, None) if one.info else None
        state = state_of(one, answer, unreachable=described.unreachable)
        if state is EnclaveState.DEAD and not one.record.detached:
            continue  # it belonged to one command, whose keeper removes it
        found.append(places.ours(one, answer, state))
    found += [places.foreign(one) for one in told.values()]
    return sorted(found, key=lambda enclave: enclave.started or _NEVER)


def state_of(kept: Kept, told: DescribeInfo | None, *, unreachable: int) -> EnclaveState:
    """What is known of the life of one of ours."""
    if load_ended(kept.folder) is not None:
        return EnclaveState.DEAD
    has_keeper = is_running(kept.folder)
    if kept.info is None:
        record = kept.record
        bound = timedelta(seconds=boot_bound_s(record.image_size, record.memory_mib))
        # Its keeper was killed, the launch goes on by itself: until its time is over, it may still come.
        lost = not has_keeper and (
            datetime.now(UTC) - record.started > bound or (kept.folder / "launch.err").exists() is False
        )
        return EnclaveState.DEAD if lost else EnclaveState.BOOTING
    if told is not None:
        return _STATES[told.state]
    if unreachable:
        return EnclaveState.UNKNOWN
    return EnclaveState.RUNNING if has_keeper else EnclaveState.DEAD


def owner_of(process_id: int) -> str | None:
    """The user whose process this is; None if it is gone."""
    try:
        uid = os.stat(f"/proc/{process_id}").st_uid  # noqa: PTH116 - a number's folder, not a path of ours
    except OSError:
        return None
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
