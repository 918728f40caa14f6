"""The allocator's steps of a setup: write its file, restart it, verify the result in sysfs, or undo it.

AWS's service is active after its script succeeded. That does not prove that the CPUs and the memory are
reserved, and a failed script may have reserved some. So sysfs decides.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from enclavectl.errors import EnclavectlError, HostError
from enclavectl.host.allocator_edit import edit_allocator
from enclavectl.host.changer import Action, HostChanger
from enclavectl.host.cpu_list import format_cpu_list
from enclavectl.host.cpus import read_cpus
from enclavectl.host.enclaves import find_running
from enclavectl.host.host import Host
from enclavectl.host.memory import Node, mib_of, read_memory, reserve_pages
from enclavectl.host.reservation import ALLOCATOR_FILE, SERVICE, AllocatorError, Reservation, parse_allocator
from enclavectl.host.steps import StepPlan, StepState, already, skipped, would_run

RESTART = Action(argv=("systemctl", "restart", SERVICE))
_GIB_PAGE = 1024
_FOLDER = "/etc/nitro_enclaves"

Guard = Callable[[], AbstractContextManager[object]]


@dataclass(slots=True, kw_only=True)
class Allocation:
    """One change of the reservation; it keeps the old file to restore it.

    ``guard`` prevents launches during the allocator's restart. ``at_next_boot``: write and enable only.
    """

    host: Host
    wanted: Reservation
    guard: Guard
    at_next_boot: bool = False
    previous: bytes | None = None
    is_changed: bool = False
    mode: int = 0o644
    backup: str | None = None

    def plan_file(self) -> StepPlan:
        """Plan the edit that puts the reservation into the file.

        Raises:
            AllocatorError: the file has a form that must be edited by hand.
            HostError: an enclave runs, so the change could not take effect.
        """
        old = self.host.tree.data(ALLOCATOR_FILE)
        new = edit_allocator(old or b"", self.wanted, ALLOCATOR_FILE)
        said = ", ".join(self.wanted.lines.values())
        if old == new:
            return already(f"{ALLOCATOR_FILE} says {said}")
        if not self.at_next_boot:
            self._refuse_running()
        return StepPlan(
            state=StepState.WOULD_DO,
            detail=f"{ALLOCATOR_FILE} will say {said}; the old one is kept beside it",
            diff=_diff(old or b"", new),
            apply=lambda changer: self._write(changer, old, new),
        )

    def plan_pool(self) -> StepPlan:
        """Plan the restart that reserves the pool and the huge pages of the file.

        Raises:
            HostError: an enclave runs, or sysfs cannot be read.
        """
        if shortfall(self.host, self.wanted) is None:
            return already(f"{self._shown()} are kept for enclaves")
        if self.at_next_boot:
            return skipped("at the next boot, as asked")
        self._refuse_running()
        return StepPlan(
            state=StepState.WOULD_DO,
            detail=f"{self._shown()} will be kept for enclaves; sysfs will be looked at",
            actions=(RESTART,),
            apply=self._restart,
        )

    def plan_service(self) -> StepPlan:
        """Plan the change that makes the allocator run at each boot."""
        answer = self.host.probe.run("systemctl", "is-enabled", SERVICE)
        if answer is None:
            return skipped("no systemd here", is_missing=True)
        if answer.text.strip() == "enabled":
            return already(f"{SERVICE} is enabled")
        return would_run(
            f"{SERVICE} will run at each boot, when memory is not fragmented",
            Action(argv=("systemctl", "enable", SERVICE)),
        )

    def _shown(self) -> str:
        return f"{self.wanted.memory_mib} MiB and {self.wanted.cpus} CPUs"

    def _refuse_running(self) -> None:
        running = find_running(self.host)
        if running.any:
            raise HostError(
                f"enclaves run, and while one does the driver lets nobody change the pool: "
                f"{', '.join(running.words)}",
                hint="enclavectl terminate --all ends them; then run this again",
                code="enclaves-running",
            )

    def _write(self, changer: HostChanger, old: bytes | None, new: bytes) -> str:
        facts = self.host.tree.facts(ALLOCATOR_FILE)
        self.mode = facts.permissions if facts is not None else self.mode
        if old is None:
            changer.run(Action(argv=("install", "-d", "-m", "0755", _FOLDER)))
        else:
            self.backup = f"{ALLOCATOR_FILE}.{self.host.now:%Y%m%dT%H%M%SZ}.bak"
            changer.replace(self.backup, old, mode=self.mode)
        changer.replace(ALLOCATOR_FILE, new, mode=self.mode)
        self.previous, self.is_changed = old, True
        kept = f"; the old one is {self.backup}" if self.backup else ""
        return f"{ALLOCATOR_FILE} says {', '.join(self.wanted.lines.values())}{kept}"

    def _restart(self, changer: HostChanger) -> str:
        before = read_memory(self.host.tree)
        try:
            with self.guard():
                changer.run(RESTART)
                self._require_there()
        except EnclavectlError as exc:
            undone = self._undo(changer)
            raise HostError(
                f"{exc.message}; {undone}",
                hint=_advice(before.available_mib + before.reserved_mib, self.wanted),
                code="allocator-short",
            ) from exc
        except BaseException:
            self._undo(changer)  # Ctrl-C must not leave a partial change
            raise
        return f"{self._shown()} are kept for enclaves"

    def _require_there(self) -> None:
        missing = shortfall(self.host, self.wanted)
        if missing is not None:
            raise HostError(f"the allocator was restarted, but {missing}", code="allocator-short")

    def _undo(self, changer: HostChanger) -> str:
        """Restore the old file and reservation; return a description of what was restored.

        Its own failure is described, not raised, since the caller raises the cause.
        """
        if not self.is_changed:
            return "the file was not changed by this, so nothing was put back"
        try:
            if self.previous is None:
                changer.run(Action(argv=("rm", "-f", ALLOCATOR_FILE)))
                return "the file that was made is gone again"
            changer.replace(ALLOCATOR_FILE, self.previous, mode=self.mode)
            with self.guard():
                changer.run(RESTART)
            missing = shortfall(self.host, parse_allocator(self.previous))
        except AllocatorError:
            return "the old file was put back, which the allocator cannot read"
        except EnclavectlError as exc:
            return f"putting the old file back failed too ({exc.message}); it is {self.backup}"
        if missing is not None:
            return f"the old file was put back, but {missing}"
        return "the old file and the old reservation were put back"


def shortfall(host: Host, wanted: Reservation) -> str | None:
    """Describe what sysfs lacks of a reservation; None if sysfs shows exactly the reservation.

    Raises:
        HostError: sysfs cannot be read.
    """
    cpus, memory = read_cpus(host.tree), read_memory(host.tree)
    pool = cpus.pool or frozenset()
    if len(pool) != wanted.cpus or (wanted.cpu_pool is not None and pool != wanted.cpu_pool):
        asked = wanted.lines.get("cpu_pool") or wanted.lines["cpu_count"]
        return f"the pool is {format_cpu_list(pool) or 'empty'}, wanted is {asked}"
    node = memory.node(min(cpus.nodes_of(pool), default=0))
    target = mib_of(reserve_pages(frozenset(node.reserved), wanted.memory_mib))
    if not wanted.memory_mib <= node.reserved_mib <= max(target, wanted.memory_mib):
        return f"{node.reserved_mib} MiB of huge pages are on NUMA node {node.index}, wanted are {target}"
    return None


def small_pages(node: Node, wanted: Reservation) -> bool:
    """Return whether the memory is reserved in 2 MiB pages although 1 GiB pages would fit."""
    return _GIB_PAGE in node.reserved and node.reserved[_GIB_PAGE] < wanted.memory_mib // _GIB_PAGE


def _advice(available_mib: int, wanted: Reservation) -> str:
    if available_mib >= wanted.memory_mib:
        return (
            "memory is fragmented: enclavectl setup --at-next-boot, then sudo reboot; "
            "right after a boot there are whole gigabytes"
        )
    return (
        f"{available_mib} MiB could be had at most, {wanted.memory_mib} were wanted: enclavectl setup "
        "--memory N with a smaller N, or a larger instance; journalctl -u nitro-enclaves-allocator says more"
    )


def _diff(old: bytes, new: bytes) -> str:
    before, after = (data.decode("utf-8", errors="replace").splitlines() for data in (old, new))
    return "\n".join(difflib.unified_diff(before, after, ALLOCATOR_FILE, ALLOCATOR_FILE, n=1, lineterm=""))
