"""The CPUs of a host, as far as enclaves need them: cores, NUMA nodes, and the pool for enclaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from enclavectl.errors import HostError
from enclavectl.host.cpu_list import parse_cpu_list
from enclavectl.host.tree import Tree

CPU_DIR = "/sys/devices/system/cpu"
POOL_FILE = "/sys/module/nitro_enclaves/parameters/ne_cpus"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpus:
    """The CPUs of a host. ``pool`` is None without the driver. ``node_of`` has every CPU that is present.

    The CPUs of the pool are offline for this host, so their cores are unknown; CPU 0's core is always known.
    """

    present: frozenset[int]
    online: frozenset[int]
    pool: frozenset[int] | None
    node_of: Mapping[int, int]
    siblings_of: Mapping[int, frozenset[int]]

    @property
    def first_core(self) -> frozenset[int]:
        """CPU 0 and its siblings, which the host always keeps."""
        return self.siblings_of.get(0, frozenset({0}))

    @property
    def threads_per_core(self) -> int:
        """2 with simultaneous multithreading, 1 without."""
        return max((len(siblings) for siblings in self.siblings_of.values()), default=1)

    def nodes_of(self, cpus: frozenset[int]) -> frozenset[int]:
        """Return the NUMA nodes that these CPUs are on."""
        return frozenset(self.node_of[cpu] for cpu in cpus if cpu in self.node_of)

    def capacity(self) -> dict[int, int]:
        """Return the number of CPUs that each node could give to enclaves: whole cores, without CPU 0's."""
        threads = self.threads_per_core
        found = dict.fromkeys(sorted(set(self.node_of.values())), 0)
        for cpu, node in self.node_of.items():
            found[node] += cpu not in self.first_core
        return {node: count - count % threads for node, count in found.items()}

    def split_cores(self, cpus: frozenset[int]) -> frozenset[int]:
        """Return the CPUs whose siblings are not all in ``cpus``, as far as their cores are known."""
        seen = cpus & self.siblings_of.keys()
        return frozenset(cpu for cpu in seen if not self.siblings_of[cpu] <= cpus)


def read_cpus(tree: Tree) -> Cpus:
    """Read the CPUs of a host.

    Raises:
        HostError: sysfs is missing or inconsistent.
    """
    present = _list(tree, f"{CPU_DIR}/present")
    if not present:
        raise HostError(f"{CPU_DIR}/present: expected the CPUs of this host, found none", code="no-sysfs")
    online = _list(tree, f"{CPU_DIR}/online") or present
    pool = _list(tree, POOL_FILE) if tree.exists(POOL_FILE) else None
    siblings = {}
    for cpu in sorted(online):
        found = _list(tree, f"{CPU_DIR}/cpu{cpu}/topology/thread_siblings_list")
        if found:
            siblings[cpu] = found
    return Cpus(
        present=present,
        online=online,
        pool=pool,
        node_of={cpu: _node(tree, cpu) for cpu in sorted(present)},
        siblings_of=siblings,
    )


def _node(tree: Tree, cpu: int) -> int:
    # This link also exists for offline CPUs, which the nodes' lists omit.
    for name in tree.names(f"{CPU_DIR}/cpu{cpu}"):
        if name.startswith("node") and name[4:].isdigit():
            return int(name[4:])
    return 0  # a kernel without NUMA


def _list(tree: Tree, name: str) -> frozenset[int]:
    try:
        return parse_cpu_list(tree.word(name) or "")
    except ValueError as exc:
        raise HostError(f"{name}: {exc}", code="no-sysfs") from exc
