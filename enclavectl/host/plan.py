"""A plan: an enclave's needs compared with the host's reserved, free and possible resources.

This is pure arithmetic over the values that ``read_supply`` reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from enclavectl.host.cgroup import PageLimits, read_page_limits
from enclavectl.host.cpu_list import format_cpu_list
from enclavectl.host.cpus import Cpus, read_cpus
from enclavectl.host.enclaves import RunningEnclaves, find_running
from enclavectl.host.host import Host
from enclavectl.host.memory import Memory, Node, Pages, mib_of, read_memory, take_pages
from enclavectl.host.pod import is_pod, memory_limit_mib, pod_cpus
from enclavectl.host.requirements import IMAGE_SLACK_MIB, MAX_ENCLAVES, Demand
from enclavectl.host.reservation import Reservation
from enclavectl.nitro_cli.limits import MIN_MEMORY_MIB, boot_bound_s

# The memory that we leave to the host's own system; AWS names no figure. The image's size is added, because
# nitro-cli reads each section into ordinary memory to hash it (https://github.com/aws/aws-nitro-enclaves-cli,
# commands.rs).
PARENT_MIB = 1024
_GIB_PAGE = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSupply:
    """What a pod has beside its huge pages; None where nothing says it."""

    cpus: int | None
    memory_mib: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """The resources of a host. ``used_cpus`` are the pool's CPUs in use, None if unknown.

    ``limits`` are those of this process's cgroups, which nitro-cli inherits.
    """

    machine: str
    cpus: Cpus
    memory: Memory
    running: RunningEnclaves
    used_cpus: frozenset[int] | None
    limits: PageLimits = field(default_factory=PageLimits)
    pod: PodSupply | None = None

    @property
    def usable(self) -> Pages:
        """The free pages of the node that this process may use."""
        return self.limits.cap(self.node.free)

    @property
    def node(self) -> Node:
        """The node of the pool; without a pool, the node that could give the most CPUs."""
        nodes = self.cpus.nodes_of(self.cpus.pool or frozenset())
        if nodes:
            return self.memory.node(min(nodes))
        capacity = self.cpus.capacity()
        return self.memory.node(max(capacity, key=lambda index: (capacity[index], -index), default=0))

    @property
    def free_cpus(self) -> frozenset[int] | None:
        """The unused CPUs of the pool, or None if unknown."""
        pool = self.cpus.pool or frozenset()
        # Without a pool no CPU is in use, even if the usage is unknown.
        return pool - self.used_cpus if self.used_cpus is not None else None if pool else pool

    @property
    def capacity(self) -> int:
        """The number of CPUs that the node could give."""
        return self.cpus.capacity().get(self.node.index, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A reason why the enclave does not fit, with a stable code, and the nearest that would fit."""

    code: str
    message: str
    nearest: str

    def to_json(self) -> dict[str, object]:
        """Return the problem as JSON values."""
        return {"code": self.code, "message": self.message, "nearest": self.nearest}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The result. ``pages`` are those that nitro-cli would take, None if the free pages do not suffice."""

    wanted: Demand
    supply: Supply
    pages: Pages | None
    allocator: Reservation
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """True if the enclave can be started now."""
        return not self.problems

    @property
    def boot_bound_s(self) -> int:
        """nitro-cli's timeout of the boot in seconds; without an image, for the largest that fits."""
        memory = mib_of(self.pages) if self.pages else self.wanted.needed_mib
        size = self.wanted.eif.size if self.wanted.eif else (self.wanted.needed_mib << 20) // 4
        return boot_bound_s(size, memory)


def read_supply(host: Host, *, used_cpus: frozenset[int] | None = None) -> Supply:
    """Read the resources of a host. If no enclave runs, no CPU is in use.

    Raises:
        HostError: sysfs or /proc cannot be read.
    """
    running = find_running(host)
    return Supply(
        machine=host.machine,
        cpus=read_cpus(host.tree),
        memory=read_memory(host.tree),
        running=running,
        used_cpus=used_cpus if used_cpus is not None or running.any else frozenset(),
        limits=read_page_limits(host.tree),
        pod=read_pod(host),
    )


def read_pod(host: Host) -> PodSupply | None:
    """Read what this pod has; None if this is no pod.

    Raises:
        HostError: a file exists and cannot be read.
    """
    if not is_pod(host.tree, host.environ):
        return None
    return PodSupply(cpus=pod_cpus(host.environ), memory_mib=memory_limit_mib(host.tree))


def make_plan(wanted: Demand, supply: Supply) -> Plan:
    """Decide whether the enclave fits, and find the nearest that would."""
    pages = take_pages(supply.usable, wanted.needed_mib)
    return Plan(
        wanted=wanted,
        supply=supply,
        pages=pages,
        allocator=_allocator(wanted, supply),
        problems=tuple(_problems(wanted, supply, pages)),
        notes=tuple(_notes(supply, wanted, pages)),
    )


def _allocator(wanted: Demand, supply: Supply) -> Reservation:
    """Return the reservation for this enclave beside the running ones."""
    used_mib = supply.node.reserved_mib - supply.node.free_mib if supply.running.any else 0
    # With 1 GiB pages, an enclave beside others may need one page more than its size.
    slack = _GIB_PAGE if used_mib and supply.node.reserved.get(_GIB_PAGE) else 0
    threads = supply.cpus.threads_per_core
    pool = supply.cpus.pool or frozenset()
    used = len(pool if supply.used_cpus is None else supply.used_cpus)
    cpus = used + -(-wanted.cpus // threads) * threads
    return Reservation(memory_mib=used_mib + wanted.needed_mib + slack, cpu_count=cpus)


def _problems(wanted: Demand, supply: Supply, pages: Pages | None) -> Iterator[Problem]:
    yield from _impossible(wanted, supply)
    yield from _cpu_problems(wanted, supply)
    if supply.pod is not None:
        yield from _pod_problems(wanted, supply.pod)
    if supply.cpus.pool is None:
        yield Problem(
            code="no-driver",
            message="the driver nitro_enclaves is not loaded here",
            nearest="an EC2 instance with enclaves enabled; enclavectl doctor says what is missing",
        )
        most_mib, most_cpus = largest(supply, wanted)
        if wanted.needed_mib > most_mib or wanted.cpus > most_cpus:
            yield Problem(
                code="host-too-small",
                message=f"{wanted.needed_mib} MiB and {wanted.cpus} CPUs are needed for the enclave alone",
                nearest=_grow(wanted, supply),
            )
    elif pages is None:
        yield _memory_problem(wanted, supply)


def _memory_problem(wanted: Demand, supply: Supply) -> Problem:
    node, usable_mib = supply.node, mib_of(supply.usable)
    if take_pages(node.free, wanted.needed_mib) is not None:
        # The pages exist, but the limits deny them to this process.
        return Problem(
            code="memory-free",
            message=f"{wanted.needed_mib} MiB of huge pages are needed, of {node.free_mib} free ones on NUMA "
            f"node {node.index} this process's cgroup may have {usable_mib} MiB: "
            f"{supply.limits.words(node.free)}",
            nearest=supply.limits.remedy(node.free, wanted.needed_mib) + _smaller_now(wanted, usable_mib),
        )
    return Problem(
        code="memory-free",
        message=f"{wanted.needed_mib} MiB of huge pages are needed on NUMA node {node.index}, "
        f"{node.free_mib} of {node.reserved_mib} MiB are free",
        nearest=_grow(wanted, supply, room_mib=usable_mib) + _smaller_now(wanted, usable_mib),
    )


def _impossible(wanted: Demand, supply: Supply) -> Iterator[Problem]:
    if wanted.eif and wanted.is_exact and wanted.memory_mib < wanted.min_memory_mib:
        yield Problem(
            code="memory-below-minimum",
            message=f"{wanted.memory_mib} MiB were asked for, nitro-cli wants 4 times the image: "
            f"{wanted.min_memory_mib} MiB",
            nearest=f"--memory {wanted.min_memory_mib}, or an image of at most {wanted.memory_mib // 4} MiB",
        )
    machine = wanted.eif.machine if wanted.eif else None
    if machine and machine != supply.machine:
        yield Problem(
            code="architecture",
            message=f"the image is for {machine}, this host is {supply.machine}",
            nearest=f"build it on an image for {supply.machine}, or use an instance with {machine} CPUs",
        )
    if len(supply.running.sockets) >= MAX_ENCLAVES:
        yield Problem(
            code="too-many-enclaves",
            message=f"{len(supply.running.sockets)} enclaves run here, an instance takes {MAX_ENCLAVES}",
            nearest="enclavectl terminate one of them",
        )


def _pod_problems(wanted: Demand, pod: PodSupply) -> Iterator[Problem]:
    if pod.cpus is not None and wanted.cpus > pod.cpus:
        yield Problem(
            code="pod-cpus",
            message=f"{wanted.cpus} CPUs are needed, and this pod was given {pod.cpus} (NITRO_ENCLAVES_CPUS)",
            nearest=f'resources.limits aws.ec2.nitro/nitro_enclaves_cpus: "{wanted.cpus}"; '
            f"or --cpus {pod.cpus}",
        )
    if wanted.eif is not None and pod.memory_mib is not None:
        needed_mib = (-(-wanted.eif.size >> 20)) + IMAGE_SLACK_MIB
        if pod.memory_mib < needed_mib:
            yield Problem(
                code="pod-memory",
                message=f"nitro-cli reads the image into ordinary memory: {needed_mib} MiB are needed beside "
                f"the huge pages, and this pod's limit is {pod.memory_mib}",
                nearest=f"resources.limits memory: {needed_mib}Mi",
            )


def _cpu_problems(wanted: Demand, supply: Supply) -> Iterator[Problem]:
    threads, pool = supply.cpus.threads_per_core, supply.cpus.pool
    if odd := wanted.cpus % threads:
        more, fewer = wanted.cpus - odd + threads, wanted.cpus - odd
        room = pool if supply.free_cpus is None else supply.free_cpus
        has_more = not room or more <= len(room) or fewer == 0
        yield Problem(
            code="split-core",
            message=f"{wanted.cpus} CPUs are no whole number of cores: a core has {threads} here",
            nearest=f"--cpus {more if has_more else fewer}",
        )
    if pool is None:
        return
    nodes = supply.cpus.nodes_of(pool)
    if len(nodes) > 1:
        yield Problem(
            code="pool-nodes",
            message=f"the pool {format_cpu_list(pool)} is on {len(nodes)} NUMA nodes, an enclave is on one",
            nearest="let the allocator choose: enclavectl setup --cpus N",
        )
    free = pool if supply.free_cpus is None else supply.free_cpus
    if wanted.cpus > len(free):
        yield Problem(
            code="cpus-free",
            message=f"{wanted.cpus} CPUs are needed, {len(free)} of the pool's {len(pool)} are free",
            nearest=_grow(wanted, supply, room_cpus=len(free))
            + (f"; or --cpus {len(free) - len(free) % threads} now" if len(free) >= threads else ""),
        )


def _smaller_now(wanted: Demand, free_mib: int) -> str:
    """Return the largest enclave of the image for which the free pages suffice, if there is any."""
    least = max(wanted.min_memory_mib, MIN_MEMORY_MIB)
    return f"; or --memory {free_mib} now" if free_mib >= least else ""


def largest(supply: Supply, wanted: Demand) -> tuple[int, int]:
    """Return the maximum memory, in MiB, and CPUs that the node could reserve for enclaves."""
    image = -(-wanted.eif.size >> 20) if wanted.eif else 0
    return max(0, supply.node.total_mib - PARENT_MIB - image) // 2 * 2, supply.capacity


def _grow(wanted: Demand, supply: Supply, *, room_mib: int = 0, room_cpus: int = 0) -> str:
    """Name the reservation that would suffice if the host can have it, else the largest possible enclave."""
    memory, cpus = largest(supply, wanted)
    need = _allocator(wanted, supply)
    if need.memory_mib <= memory and need.cpus <= cpus:
        first = "end the enclaves that run, then " if supply.running.any else ""
        return f"{first}enclavectl setup --memory {need.memory_mib} --cpus {need.cpus}"
    parts = [f"this host can keep {memory} MiB and {_cpus(cpus)} for enclaves at most"]
    if room_mib:
        parts.append(f"{room_mib} MiB free now")
    if room_cpus:
        parts.append(f"{_cpus(room_cpus)} free now")
    parts.append("take a smaller enclave or a larger instance")
    return "; ".join(parts)


def _cpus(count: int) -> str:
    return f"{count} CPU" if count == 1 else f"{count} CPUs"


def _notes(supply: Supply, wanted: Demand, pages: Pages | None) -> Iterator[str]:
    if pages and mib_of(pages) > wanted.needed_mib:
        yield (
            f"nitro-cli will take {mib_of(pages)} MiB for {wanted.needed_mib}: whole pages of "
            f"{', '.join(f'{size} MiB' for size in pages)}"
        )
    if pages and supply.memory.free_mib > supply.node.free_mib:
        yield (
            "other NUMA nodes have free huge pages, which nitro-cli may take and the driver then refuses: "
            f"run it under numactl --membind={supply.node.index}"
        )
    if supply.used_cpus is None and supply.cpus.pool:
        yield "enclaves run here whose CPUs are not known; the pool may have fewer free CPUs than shown"
    if supply.pod is not None:
        yield "this is a pod: the pool is the node's, and other pods' enclaves are not seen here"
    if supply.running.stale:
        yield f"{len(supply.running.stale)} sockets are left of enclaves that ended uncleanly"
