"""Which enclaves there are: what we wrote down of ours, joined with what nitro-cli says of everybody's.

A keeper that lives and has written of no end is better evidence of life than nitro-cli's answer: it holds
the process that holds the enclave.
"""

from __future__ import annotations

import os
import pwd
from datetime import UTC, datetime, timedelta
from pathlib import Path

from enclavectl.backends.base import Enclave, Machine
from enclavectl.backends.folders import is_running
from enclavectl.backends.nitro.records import Kept, load_ended
from enclavectl.backends.state import EnclaveState
from enclavectl.net.address import Address, HybridVsockAddress, VsockAddress
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


class Places:
    """Where enclaves are reached, and what their evidence is worth."""

    def __init__(self, *, port_in: int, vsock_dir: Path | None, is_simulated: bool) -> None:
        """``vsock_dir`` is where a host that simulates Nitro has its sockets."""
        self._port_in = port_in
        self._vsock_dir = vsock_dir
        self._is_simulated = is_simulated

    def address(self, cid: int, port: int) -> Address:
        """Where a client dials the enclave with that CID."""
        if self._vsock_dir is not None:
            return HybridVsockAddress(self._vsock_dir / f"{cid}.vsock", port)
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
            address=self.address(run.cid, self._port_in),
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
        return Trust.SIMULATED if self._is_simulated else Trust.NITRO


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
