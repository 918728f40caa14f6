"""Huge pages by NUMA node: the reserved ones, the free ones, and nitro-cli's choice among them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from enclavectl.host.tree import Tree

NODE_DIR = "/sys/devices/system/node"
_PAGES = re.compile(r"hugepages-([0-9]{1,12})kB", re.ASCII)
_MEMORY = re.compile(r"^(?:Node [0-9]+ )?(\w+): +([0-9]+) kB$", re.ASCII | re.MULTILINE)
# The sizes that nitro-cli 1.5 looks for, in MiB (resource_manager.rs): 16 GiB to 2 MiB.
NITRO_CLI_SIZES_MIB = (16384, 2048, 1024, 512, 256, 32, 16, 8, 2)
# A region of an enclave's memory is a multiple of this (drivers/virt/nitro_enclaves/ne_misc_dev.c).
REGION_MIB = 2

Pages = Mapping[int, int]  # number of pages by size in MiB


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One NUMA node. Page sizes that are no whole number of MiB, such as arm64's 64 KiB, are omitted."""

    index: int
    total_mib: int
    reserved: Pages
    free: Pages

    @property
    def reserved_mib(self) -> int:
        """The memory in huge pages, in MiB."""
        return mib_of(self.reserved)

    @property
    def free_mib(self) -> int:
        """The unused memory in huge pages, in MiB."""
        return mib_of(self.free)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The host's memory in MiB. ``available_mib`` is the part usable without swapping."""

    total_mib: int
    available_mib: int
    nodes: tuple[Node, ...]

    def node(self, index: int) -> Node:
        """Return the node of that number, empty if there is none."""
        return next(
            (node for node in self.nodes if node.index == index),
            Node(index=index, total_mib=0, reserved={}, free={}),
        )

    @property
    def reserved_mib(self) -> int:
        """The memory in huge pages of all nodes, in MiB."""
        return sum(node.reserved_mib for node in self.nodes)

    @property
    def free_mib(self) -> int:
        """The unused memory in huge pages of all nodes, in MiB."""
        return sum(node.free_mib for node in self.nodes)


def mib_of(pages: Pages) -> int:
    """Return the total size of these pages in MiB."""
    return sum(size * count for size, count in pages.items())


def read_memory(tree: Tree) -> Memory:
    """Read the memory of a host; absent files of sysfs and /proc count as zeros.

    Raises:
        HostError: a file exists and cannot be read.
    """
    whole = _meminfo(tree, "/proc/meminfo")
    total = whole.get("MemTotal", 0) // 1024
    nodes = []
    for name in tree.names(NODE_DIR):
        if name.startswith("node") and name[4:].isdigit():
            own = _meminfo(tree, f"{NODE_DIR}/{name}/meminfo").get("MemTotal")
            nodes.append(
                Node(
                    index=int(name[4:]),
                    total_mib=total if own is None else own // 1024,
                    reserved=_pages(tree, name, "nr_hugepages"),
                    free=_pages(tree, name, "free_hugepages"),
                )
            )
    nodes.sort(key=lambda node: node.index)
    available = whole.get("MemAvailable", 0) // 1024
    return Memory(total_mib=total, available_mib=available, nodes=tuple(nodes))


def _meminfo(tree: Tree, name: str) -> dict[str, int]:
    return {key: int(value) for key, value in _MEMORY.findall(tree.text(name) or "")}


def _pages(tree: Tree, node: str, counter: str) -> dict[int, int]:
    found = {}
    folder = f"{NODE_DIR}/{node}/hugepages"
    for name in tree.names(folder):
        match = _PAGES.fullmatch(name)
        count = tree.number(f"{folder}/{name}/{counter}")
        if match and int(match[1]) % 1024 == 0 and count is not None:
            found[int(match[1]) // 1024] = count
    return found


def take_pages(free: Pages, wanted_mib: int) -> Pages | None:
    """Return the pages that nitro-cli takes for an enclave of this size, or None if there are too few.

    nitro-cli takes the largest pages that do not exceed the size, then the smallest of the rest, and then
    returns surplus small pages. The total may exceed the size: 256 MiB in pages of 1 GiB takes 1 GiB.
    """
    taken: dict[int, int] = {}
    missing = wanted_mib
    sizes = [size for size in NITRO_CLI_SIZES_MIB if free.get(size, 0) > 0]
    for size in sizes:
        count = min(free[size], missing // size)
        taken[size] = count
        missing -= size * count
    for size in reversed(sizes):
        count = min(free[size] - taken[size], max(0, -(-missing // size)))
        taken[size] += count
        missing -= size * count
    if missing > 0:
        return None
    for size in reversed(sizes):
        surplus = min(taken[size], -missing // size)
        taken[size] -= surplus
        missing += size * surplus
    return {size: count for size, count in taken.items() if count}


def reserve_pages(sizes_mib: frozenset[int], wanted_mib: int) -> Pages:
    """Return the pages that AWS's allocator reserves on a node with enough unfragmented memory.

    It takes the largest sizes first and does not exceed ``wanted_mib`` except with the smallest size.
    """
    reserved: dict[int, int] = {}
    ordered = sorted(sizes_mib, reverse=True)
    missing = wanted_mib
    for size in ordered:
        count = missing // size if size != ordered[-1] else -(-missing // size)
        if count:
            reserved[size] = count
        missing -= size * count
    return reserved
