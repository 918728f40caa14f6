"""A check before a launch that the enclave fits; it refuses only what sysfs shows to be impossible.

nitro-cli detects a lack of resources late and with a poor message (E22, E27, E29). Unreadable or ambiguous
facts are left to nitro-cli: the CPUs in use are a lower bound, and a free page may be on any node.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from enclavectl.errors import HostError
from enclavectl.host.cgroup import PageLimits, read_page_limits
from enclavectl.host.cpus import Cpus, read_cpus
from enclavectl.host.enclaves import RunningEnclaves
from enclavectl.host.memory import Memory, read_memory, take_pages
from enclavectl.host.plan import Problem, Supply, make_plan
from enclavectl.host.requirements import Demand, EifFacts
from enclavectl.host.tree import Tree

# Right after an enclave ended the driver may still hold what it had (nitro-cli issue 433).
LAG_WITHIN_S = 15.0
# The longest lag that was reported there is about a second.
LAG_PAUSE_S = 1.5
_POOLS = "/sys/kernel/mm/hugepages"


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityRequest:
    """One enclave to be launched."""

    name: str
    image: Path
    image_size: int
    memory_mib: int
    cpus: int


class CapacityCheck:
    """The check against the resources of the host under ``root`` (None: this machine)."""

    def __init__(self, root: Path | None) -> None:
        """Store the root; nothing is read yet."""
        self._tree = Tree(root=root or Path("/"))

    def require(self, request: CapacityRequest, cpus_in_use: Iterable[int], *, last_end: float) -> None:
        """Refuse an enclave that certainly cannot be launched now.

        ``cpus_in_use`` are the CPUs known to be in use; ``last_end`` is the time of the last enclave's end in
        seconds since the epoch.

        Raises:
            HostError: the enclave cannot be launched; the hint is the nearest that could be.
        """
        used = frozenset(cpus_in_use)
        problems = self._problems(request, used)
        if problems and 0 <= time.time() - last_end < LAG_WITHIN_S:
            time.sleep(LAG_PAUSE_S)
            problems = self._problems(request, used)
        if problems:
            raise HostError(
                f"{request.name}: does not fit on this host now: "
                + "; ".join(problem.message for problem in problems),
                hint="; ".join(dict.fromkeys(problem.nearest for problem in problems)),
                code=problems[0].code,
            )

    def _problems(self, request: CapacityRequest, used: frozenset[int]) -> list[Problem]:
        try:
            cpus, memory = read_cpus(self._tree), read_memory(self._tree)
            limits = read_page_limits(self._tree)
            can_grow = self._can_grow()
        except HostError:
            return []
        if cpus.pool is None:
            return []
        wanted = Demand(
            memory_mib=request.memory_mib,
            cpus=request.cpus,
            eif=EifFacts(path=request.image, size=request.image_size, arch=""),
        )
        plain = {"cpus-free"}
        if cpus.siblings_of:
            plain.add("split-core")
        if _is_forbidden(limits, memory, wanted.needed_mib) or (
            not can_grow and _fits_no_node(limits, memory, wanted.needed_mib)
        ):
            plain.add("memory-free")
        plan = make_plan(wanted, _supply(cpus, memory, used, limits))
        return [problem for problem in plan.problems if problem.code in plain]

    def _can_grow(self) -> bool:
        """Return whether the kernel makes more huge pages on demand than sysfs shows."""
        names = self._tree.names(_POOLS)
        return any(self._tree.number(f"{_POOLS}/{name}/nr_overcommit_hugepages") != 0 for name in names)


def _supply(cpus: Cpus, memory: Memory, used: frozenset[int], limits: PageLimits) -> Supply:
    running = RunningEnclaves(sockets=("in use",) if used else (), stale=(), pids=(), folder="")
    return Supply(machine="", cpus=cpus, memory=memory, running=running, used_cpus=used, limits=limits)


def _fits_no_node(limits: PageLimits, memory: Memory, needed_mib: int) -> bool:
    """Return whether no node has the memory, whichever node the CPU pool is on."""
    told = [node for node in memory.nodes if node.free]
    return bool(told) and all(take_pages(limits.cap(node.free), needed_mib) is None for node in told)


def _is_forbidden(limits: PageLimits, memory: Memory, needed_mib: int) -> bool:
    """Return whether the cgroup's limits are too low, however many pages the kernel may still make."""
    told = [node for node in memory.nodes if node.reserved]
    return bool(told) and all(limits.forbids(needed_mib, node.reserved) for node in told)
