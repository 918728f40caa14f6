"""The list of enclaves: our records joined with nitro-cli's answer about all users' enclaves.

A living keeper without a record of an end is better evidence of a running enclave than nitro-cli's answer: it
holds a handle of the daemon that holds the enclave.
"""

from __future__ import annotations

import os
import pwd
from datetime import UTC, datetime, timedelta

from enclavectl.backends.base import Enclave
from enclavectl.backends.keeping.ending import load_ended
from enclavectl.backends.keeping.locks import is_kept
from enclavectl.backends.machine import Machine, MachineEnclave
from enclavectl.backends.nitro.records import LaunchRecord, is_settled
from enclavectl.backends.nitro.settings import NitroSettings
from enclavectl.backends.state import EnclaveState
from enclavectl.nitro_cli.describe_enclaves import DescribeInfo, NitroState
from enclavectl.nitro_cli.limits import boot_bound_s
from enclavectl.nitro_cli.tool import EnclaveListing

_STATES = {
    NitroState.RUNNING: EnclaveState.RUNNING,
    NitroState.TERMINATING: EnclaveState.TERMINATING,
    NitroState.EMPTY: EnclaveState.BOOTING,
    NitroState.UNKNOWN: EnclaveState.UNKNOWN,
}
_NEVER = datetime.max.replace(tzinfo=UTC)


def enclave_from_record(
    launch: LaunchRecord, told: DescribeInfo | None, state: EnclaveState, settings: NitroSettings
) -> MachineEnclave:
    """Describe an enclave that this user's enclavectl started.

    ``told`` is nitro-cli's entry for it, or None.
    """
    record, info = launch.record, launch.info
    cid = info.cid if info else record.cid
    runs = state not in (EnclaveState.DEAD, EnclaveState.BOOTING)
    return MachineEnclave(
        enclave_id=info.enclave_id if info else launch.folder.name,
        module_id=module_id_of(info.enclave_id) if info else None,
        name=record.name,
        backend="nitro",
        trust=settings.trust(debug=record.debug),
        state=state,
        debug=record.debug,
        is_owned=not record.detached,
        pid=info.process_id if info and runs else None,
        started=record.started,
        memory_mib=info.memory_mib if info else record.memory_mib,
        model_id=record.model_id,
        model_sha256=record.model_sha256,
        is_sealed=record.is_sealed,
        measured=record.pcrs,
        address=settings.address(cid or 0, record.port_in),
        machine=Machine(
            cid=cid,
            cpus=len(info.cpu_ids) if info else record.cpus,
            cpu_ids=info.cpu_ids if info else (),
            image=record.image,
            asked_memory_mib=record.memory_mib,
            nitro_cli_pcrs=told.registers.values if told and told.registers else {},
            owner=owner_of(told.run.process_id) if told else None,
            lock_sha256=record.lock_sha256,
        ),
    )


def module_id_of(enclave_id: str) -> str:
    """Return the module id that an enclave's documents attest.

    nitro-cli writes the same number without leading zeros, and documents with all 16 digits, as in all 97
    real ones that the tests have.
    https://github.com/aws/aws-nitro-enclaves-cli/blob/main/src/enclave_proc/utils.rs
    """
    instance, mark, slot = enclave_id.rpartition("-enc")
    return f"{instance}{mark}{slot:0>16}" if mark else enclave_id


def enclave_from_describe(told: DescribeInfo, settings: NitroSettings) -> MachineEnclave:
    """Describe an enclave that only nitro-cli lists."""
    run = told.run
    return MachineEnclave(
        enclave_id=run.enclave_id,
        module_id=module_id_of(run.enclave_id),
        name=run.name or run.enclave_id,
        backend="nitro",
        trust=settings.trust(debug=told.debug),
        state=_STATES[told.state],
        debug=told.debug,
        is_owned=False,  # nitro-cli does not know
        pid=run.process_id,
        started=None,
        memory_mib=run.memory_mib,
        model_id=None,
        model_sha256=None,
        measured=None,
        address=settings.address(run.cid, settings.port_in),
        machine=Machine(
            cid=run.cid,
            cpus=len(run.cpu_ids),
            cpu_ids=run.cpu_ids,
            image=None,
            asked_memory_mib=None,
            nitro_cli_pcrs=told.registers.values if told.registers else {},
            owner=owner_of(run.process_id),
            lock_sha256=None,
        ),
    )


def join(launches: list[LaunchRecord], described: EnclaveListing, settings: NitroSettings) -> list[Enclave]:
    """Return every enclave: ours, oldest first, then others'.

    Read ``launches`` before you ask nitro-cli for ``described``.
    """
    told = {one.run.enclave_id: one for one in described.enclaves}
    found: list[Enclave] = []
    for launch in launches:
        answer = told.pop(launch.info.enclave_id, None) if launch.info else None
        state = state_of(launch, answer, unreachable=described.unreachable)
        if state is EnclaveState.DEAD and not launch.record.detached:
            continue  # it belongs to one command, and its keeper removes it
        found.append(enclave_from_record(launch, answer, state, settings))
    found += [enclave_from_describe(one, settings) for one in told.values()]
    return sorted(found, key=lambda enclave: enclave.started or _NEVER)


def state_of(launch: LaunchRecord, told: DescribeInfo | None, *, unreachable: int) -> EnclaveState:
    """Return the state of one of our enclaves, as far as it is known."""
    if load_ended(launch.folder) is not None:
        return EnclaveState.DEAD
    has_keeper = is_kept(launch.folder)
    if launch.info is None:
        record = launch.record
        bound = timedelta(seconds=boot_bound_s(record.image_size, record.memory_mib))
        # The keeper was killed and the launch continues by itself: the enclave may still appear until the
        # timeout.
        lost = not has_keeper and (
            datetime.now(UTC) - record.started > bound or not (launch.folder / "launch.err").exists()
        )
        return EnclaveState.DEAD if lost else EnclaveState.BOOTING
    if told is not None:
        return _STATES[told.state]
    if unreachable:
        return EnclaveState.UNKNOWN
    return EnclaveState.RUNNING if has_keeper else EnclaveState.DEAD


def is_hashed(launch: LaunchRecord) -> bool:
    """Return False while one of our enclaves runs whose daemon has not answered since its launch."""
    return launch.info is None or is_settled(launch.folder) or not is_kept(launch.folder)


def summary(launch: LaunchRecord) -> str:
    """Return one line about one of our enclaves, from its records alone."""
    state = state_of(launch, None, unreachable=0)
    cid = launch.info.cid if launch.info else launch.record.cid
    address = "" if cid is None or state is EnclaveState.DEAD else f", CID {cid}"
    return f"{launch.record.name} {state} since {launch.record.started:%H:%M:%S} UTC{address}"


def owner_of(process_id: int) -> str | None:
    """Return the name of the process's user; None if the process is gone."""
    try:
        uid = os.stat(f"/proc/{process_id}").st_uid  # noqa: PTH116 - a number's folder, not a path of ours
    except OSError:
        return None
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
