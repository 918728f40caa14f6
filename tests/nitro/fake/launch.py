"""A launch, check by check in the order of the real one: src/enclave_proc/{commands,resource_manager}.rs."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.nitro.fake import driver
from tests.nitro.fake.driver import Held, Slot
from tests.nitro.fake.failure import Failure, os_error
from tests.nitro.fake.guest import Guest, HybridWays
from tests.nitro.fake.measure import read_eif, registers
from tests.nitro.fake.place import Place
from tests.nitro.fake.sysfs import show
from tests.nitro.fake.talk import Connection

_MEMORY_RATIO = 4
_POLL_S = 0.02
_GIB = 1 << 30
_POOL = "/sys/module/nitro_enclaves/parameters/ne_cpus"
_NEW = "Failed to construct EnclaveManager with given arguments"
_RUN = "Failed to run enclave"


@dataclass(frozen=True, slots=True, kw_only=True)
class Enclave:
    """An enclave that has booted, and what its process knows of it."""

    enclave_id: str
    name: str
    slot: Slot
    guest: Guest
    held: Held
    debug: bool
    owner: str
    eif_path: str
    hashed_at: float

    @property
    def cid(self) -> int:
        """Its address."""
        return self.held.cid

    def run_info(self) -> dict[str, Any]:
        """What run-enclave prints, and describe-enclaves begins with."""
        return {
            "EnclaveName": self.name,
            "EnclaveID": self.enclave_id,
            "ProcessID": os.getpid(),
            "EnclaveCID": self.cid,
            "NumberOfCPUs": len(self.held.cpus),
            "CPUIDs": list(self.held.cpus),
            "MemoryMiB": self.held.memory_mib,
        }


def boot_timeout_s(eif_bytes: int, memory_mib: int) -> float:
    """How long the heartbeat may take."""
    return 90.0 * (1 + (eif_bytes - 1) // (6 * _GIB)) + 90.0 * (
        1 + (memory_mib * 1024**2 - 1) // (100 * _GIB)
    )


def launch(place: Place, arguments: Mapping[str, Any], connection: Connection) -> Enclave:
    """Boot an enclave; progress goes to the connection.

    Raises:
        Failure: as nitro-cli would; nothing is held any more.
        OSError: nobody reads the progress any more: as with the real one, that ends the launch.
    """
    path: str = arguments["eif_path"]
    size = _eif_size(path)
    wanted = _cpus(place, arguments)
    memory_mib: int = arguments["memory_mib"]
    _check_memory(size, memory_mib)
    slot = driver.create_vm(place)
    try:
        return _boot(place, arguments, wanted, slot, connection)
    except BaseException:
        slot.free()
        raise


def _boot(
    place: Place, arguments: Mapping[str, Any], wanted: list[int] | int, slot: Slot, connection: Connection
) -> Enclave:
    settings, path = place.settings, str(arguments["eif_path"])
    found = read_eif(
        path, "Failed to create EIF signature checker", "src/enclave_proc/commands.rs:88", code="E59"
    )
    if found.certificate is not None and any(f.code == "certificate-time" for f in found.findings):
        reason = 'Invalid signing certificate: "Certificate validity expired"'
        raise Failure("E59", reason, "src/enclave_proc/commands.rs:97")
    connection.send("err", "Start allocating memory...\n")
    try:
        with driver.one_at_a_time(place):
            pages = driver.allocate_pages(place, int(arguments["memory_mib"]))
            slot.hold(Held(cid=0, cpus=(), pages=pages))
        show(place)
        if (refused := driver.refusal(place)) is not None:
            raise refused
        with driver.one_at_a_time(place):
            cpus = driver.add_cpus(place, wanted)
            slot.hold(Held(cid=0, cpus=cpus, pages=pages))
        with driver.heartbeat_port(place):
            with driver.one_at_a_time(place):
                cid = driver.start_enclave(place, arguments["enclave_cid"] or 0, cpus, sum(pages))
                held = Held(cid=cid, cpus=cpus, pages=pages)
                slot.hold(held)
            started = f"Started enclave with enclave-cid: {cid}, memory: {held.memory_mib} MiB, "
            connection.send("err", f"{started}cpu-ids: {list(cpus)}\n")
            enclave_id = f"{settings.instance}-enc{slot.slot_hex}"
            assert found.measurements is not None
            attested = registers(found.measurements, settings.instance, debug=arguments["debug_mode"])
            folder = place.held / f"{slot.slot_hex}.guest"
            folder.mkdir()
            ways = HybridWays(place, folder)
            guest = Guest(place, folder, attested, module_id(settings.instance, slot), ways)
            guest.attach(cid, console=arguments["debug_mode"])
            hashed_at = time.monotonic() + settings.boot_s + settings.hash_s
            _await_heartbeat(place, guest, path, held)
    except Failure as failure:
        raise failure.sub(_RUN) from failure.__cause__
    return Enclave(
        enclave_id=enclave_id,
        name=arguments["enclave_name"],
        slot=slot,
        guest=guest,
        held=held,
        debug=arguments["debug_mode"],
        owner=settings.user,
        eif_path=path,
        hashed_at=hashed_at,
    )


def module_id(instance: str, slot: Slot) -> str:
    """The enclave's name in its attestation documents."""
    return f"{instance}-enc{int(slot.slot_hex, 16):016x}"


def _await_heartbeat(place: Place, guest: Guest, path: str, held: Held) -> None:
    settings = place.settings
    timeout_s = settings.boot_timeout_s
    if timeout_s is None:
        timeout_s = boot_timeout_s(Path(path).stat().st_size, held.memory_mib)
    start = time.monotonic()
    while (now := time.monotonic()) < start + timeout_s:
        booted = now >= start + settings.boot_s and not place.held_up("boot").exists()
        if settings.heartbeat and booted:
            return
        time.sleep(_POLL_S)
    with suppress(OSError):
        guest.kill()
    raise Failure(
        "E36",
        "Waiting on enclave to boot failed with error VsockTimeoutError",
        "src/enclave_proc/resource_manager.rs:581",
    )


def _eif_size(path: str) -> int:
    try:
        with Path(path).open("rb") as file:
            return os.fstat(file.fileno()).st_size
    except OSError as exc:
        reason = f"Failed to open the EIF file: {os_error(exc)}"
        raise Failure("E19", reason, "src/enclave_proc/commands.rs:53", info=(path, "Open")) from exc


def _cpus(place: Place, arguments: Mapping[str, Any]) -> list[int] | int:
    if not place.settings.module:
        raise Failure(
            "E19",
            "Failed to open CPU pool file: No such file or directory (os error 2)",
            "src/enclave_proc/cpu_info.rs:43",
            info=(_POOL, "Open"),
        ).sub("Failed to construct CPU information")
    pool = place.settings.pool
    ids: list[int] | None = arguments["cpu_ids"]
    if ids is None:
        count: int = arguments["cpu_count"]
        if count > len(pool):
            raise Failure(
                "E22",
                f"Insufficient CPUs available (requested {count}, but maximum is {len(pool)})",
                "src/enclave_proc/cpu_info.rs:70",
                info=("cpu-count", str(count)),
            ).sub("Failed to get CPU configuration")
        return count
    doing = ("Failed to check whether CPU list is valid", "Failed to get CPU configuration")
    if len(set(ids)) < len(ids):
        twice = "".join(str(cpu) for cpu in sorted(set(ids)) if ids.count(cpu) > 1)
        reason = f"CPU IDs list contains {len(ids) - len(set(ids))} duplicate(s)"
        raise Failure("E20", reason, "src/enclave_proc/cpu_info.rs:102", info=("cpu-ids", twice)).sub(*doing)
    for cpu in sorted(ids):
        if cpu not in pool:
            reason = f"The CPU with ID {cpu} is not available in the NE CPU pool"
            at = "src/enclave_proc/cpu_info.rs:115"
            raise Failure("E21", reason, at, info=("cpu-ids", str(cpu))).sub(*doing)
    return ids


def _check_memory(eif_bytes: int, memory_mib: int) -> None:
    least = math.ceil(math.ceil(eif_bytes / 1024) / 1024) * _MEMORY_RATIO
    if _MEMORY_RATIO * eif_bytes > memory_mib << 20:
        raise Failure(
            "E26",
            f"At least {least} MB must be allocated (which is {_MEMORY_RATIO} times the EIF file size)",
            "src/enclave_proc/resource_manager.rs:475",
            info=("memory", str(memory_mib), str(least)),
        ).sub(_NEW)
