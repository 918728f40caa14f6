"""Checks of the allocator: whether the CPUs and huge pages of allocator.yaml are reserved."""

from __future__ import annotations

from enclavectl.host.checks.base import Check, Scope, State, Verdict, fail, fix_with, ok, skip, warn
from enclavectl.host.checks.facts import Facts
from enclavectl.host.cpu_list import format_cpu_list
from enclavectl.host.memory import Node, mib_of
from enclavectl.host.plan import Supply, make_plan, read_pod
from enclavectl.host.pod import pod_cpus
from enclavectl.host.requirements import Demand, round_to_region
from enclavectl.host.reservation import ALLOCATOR_FILE, SERVICE, AllocatorError, Reservation

_RESTART = f"sudo systemctl restart {SERVICE}"
_JOURNAL = "journalctl -u nitro-enclaves-allocator"
_BUDDY_TOP = 10  # the largest block that /proc/buddyinfo counts: 2**10 pages of 4 KiB
_BUDDY_TOP_MIB = 4


def _file(facts: Facts) -> Verdict:
    found = facts.reservation
    if found is None:
        return fail(f"no {ALLOCATOR_FILE}", "enclavectl setup")
    if isinstance(found, AllocatorError):
        return fail(found.message, "enclavectl setup: it rewrites the file and keeps its comments")
    return ok(", ".join(found.lines.values()))


def _service(facts: Facts) -> Verdict:
    probe = facts.host.probe
    active = probe.run("systemctl", "is-active", SERVICE)
    enabled = probe.run("systemctl", "is-enabled", SERVICE)
    if active is None or enabled is None:
        return skip("no systemctl here")
    is_active, is_enabled = active.text.strip(), enabled.text.strip()
    if is_active == "failed":
        return fail("the service failed", f"{_JOURNAL}; enclavectl setup when the cause is gone")
    if is_enabled != "enabled":
        return fix_with(
            State.WARN,
            f"the service is {is_enabled or 'unknown'}: nothing is reserved at the next boot",
            *("systemctl", "enable", SERVICE),
        )
    return ok(f"{is_active}, enabled")


def _wanted(facts: Facts) -> Reservation | None:
    found = facts.reservation
    return None if isinstance(found, AllocatorError) else found


def _pool(facts: Facts) -> Verdict:
    pool = facts.cpus.pool
    if pool is None:
        return fail("no pool: the driver is not loaded", "sudo modprobe nitro_enclaves")
    wanted = _wanted(facts)
    if not pool:
        return fail("the pool is empty: the allocator has not run, or failed", f"{_RESTART}; {_JOURNAL}")
    shown = format_cpu_list(pool)
    if facts.is_pod:
        own = pod_cpus(facts.host.environ)
        mine = "no count of its own (NITRO_ENCLAVES_CPUS)" if own is None else f"{own} of them"
        return ok(f"CPUs {shown} are the node's pool; this pod has {mine}")
    if wanted is None:
        return warn(f"the pool is {shown}, and no readable {ALLOCATOR_FILE} says why", "enclavectl setup")
    if len(pool) != wanted.cpus or (wanted.cpu_pool is not None and pool != wanted.cpu_pool):
        asked = wanted.lines.get("cpu_pool") or wanted.lines["cpu_count"]
        return fail(f"the pool is {shown}, the file says {asked}: it was edited later", _RESTART)
    return ok(f"CPUs {shown}")


def _node(facts: Facts) -> Node:
    nodes = facts.cpus.nodes_of(facts.cpus.pool or frozenset())
    return facts.memory.node(min(nodes, default=0))


def _memory(facts: Facts) -> Verdict:
    wanted, node = _wanted(facts), _node(facts)
    if wanted is None:
        return skip(f"{node.reserved_mib} MiB are reserved, and no readable {ALLOCATOR_FILE} says how many")
    if node.reserved_mib < wanted.memory_mib:
        return fail(
            f"{node.reserved_mib} MiB of huge pages on NUMA node {node.index}, "
            f"the file says {wanted.memory_mib}",
            f"{_RESTART}; if that fails, sudo reboot: after a boot memory is not fragmented",
        )
    return ok(f"{node.reserved_mib} MiB on NUMA node {node.index}, {node.free_mib} free")


def _cgroup(facts: Facts) -> Verdict:
    limits, node, needed = facts.page_limits, _node(facts), round_to_region(facts.settings.memory_mib)
    if not limits.by_size:
        return ok("no cgroup limits the huge pages of this process")
    allowed_mib = mib_of(limits.cap(node.reserved, is_fresh=True))
    shown = ", ".join(
        f"{one.limit_mib} MiB in pages of {size} MiB" for size, one in sorted(limits.by_size.items())
    )
    if allowed_mib < min(needed, node.reserved_mib):
        return fail(
            f"of {node.reserved_mib} MiB of huge pages this process may use {allowed_mib}: "
            f"its cgroup allows {shown}",
            limits.remedy(node.reserved, needed),
        )
    return ok(f"the cgroup of this process allows {shown}")


def _page_sizes(facts: Facts) -> Verdict:
    node = _node(facts)
    mix = " + ".join(f"{count} x {size} MiB" for size, count in sorted(node.reserved.items()) if count)
    if not mix:
        return skip("no huge pages are reserved")
    small = node.reserved.get(2, 0)
    if small * 2 >= 1024 and 1024 in node.reserved:
        return warn(
            f"{mix}: small pages in place of ones of 1 GiB",
            f"sudo reboot, with {SERVICE} enabled: right after a boot there are pages of 1 GiB",
        )
    return ok(mix)


def _fragmentation(facts: Facts) -> Verdict:
    wanted, node = _wanted(facts), _node(facts)
    if wanted is None or node.reserved_mib >= wanted.memory_mib:
        return ok("what is wanted is reserved already")
    free, top = _buddy(facts, node.index)
    missing = wanted.memory_mib - node.reserved_mib
    if free == 0:
        return skip("/proc/buddyinfo tells nothing of this node")
    if top < missing <= free:
        return fail(
            f"{missing} MiB are missing, {free} are free, but only {top} in blocks of {_BUDDY_TOP_MIB} MiB",
            "sudo reboot: memory is fragmented, and a boot is what ends that",
        )
    return ok(f"{top} of {free} free MiB are in blocks of {_BUDDY_TOP_MIB} MiB or more")


def _buddy(facts: Facts, node: int) -> tuple[int, int]:
    """Return a node's free memory in MiB, and the part of it in the table's largest blocks."""
    free = top = 0
    for line in (facts.tree.text("/proc/buddyinfo") or "").splitlines():
        words = line.replace(",", " ").split()
        if len(words) > 4 and words[0] == "Node" and words[1] == str(node):
            counts = [int(word) for word in words[4:] if word.isdigit()]
            free += sum(count * 4096 << order for order, count in enumerate(counts))
            top += sum(count * 4096 << order for order, count in enumerate(counts) if order >= _BUDDY_TOP)
    return free >> 20, top >> 20


def _numa(facts: Facts) -> Verdict:
    node = _node(facts)
    nodes = facts.cpus.nodes_of(facts.cpus.pool or frozenset())
    if len(nodes) > 1:
        return fail(
            f"the pool is on NUMA nodes {', '.join(map(str, sorted(nodes)))}, an enclave must be on one",
            "enclavectl setup --cpus N: the allocator then chooses CPUs of one node",
        )
    foreign = {other.index: mib_of(other.free) for other in facts.memory.nodes if other.index != node.index}
    if any(foreign.values()):
        return warn(
            f"node {node.index} has the pool, but node "
            f"{', '.join(str(index) for index, mib in foreign.items() if mib)} has free huge pages too",
            f"numactl --membind={node.index} enclavectl run ...: the driver refuses pages of other nodes",
        )
    return ok(f"pool and pages on NUMA node {node.index}")


def _fits(facts: Facts) -> Verdict:
    settings = facts.settings
    supply = Supply(
        machine=facts.host.machine,
        cpus=facts.cpus,
        memory=facts.memory,
        running=facts.running,
        used_cpus=None if facts.running.any else frozenset(),
        limits=facts.page_limits,
        pod=read_pod(facts.host),
    )
    plan = make_plan(Demand(memory_mib=settings.memory_mib, cpus=settings.cpus), supply)
    size = f"the configured enclave ({settings.memory_mib} MiB, {settings.cpus} CPUs)"
    if plan.fits:
        return ok(f"{size} fits")
    if facts.running.any:
        return warn(f"{size} does not fit beside those that run", "enclavectl plan")
    return fail(f"{size} does not fit: {plan.problems[0].message}", plan.problems[0].nearest)


def _whole_cores(facts: Facts) -> Verdict:
    threads, pool = facts.cpus.threads_per_core, facts.cpus.pool or frozenset()
    if len(pool) % threads:
        return fail(
            f"{len(pool)} CPUs in the pool, but a core has {threads}",
            f"enclavectl setup --cpus {len(pool) + threads - len(pool) % threads}",
        )
    return ok(f"{threads} CPU{'s' if threads > 1 else ''} a core, {len(pool)} in the pool")


def _configured_cores(facts: Facts) -> Verdict:
    threads, cpus = facts.cpus.threads_per_core, facts.settings.cpus
    if cpus % threads:
        return fail(
            f"the configuration gives an enclave {cpus} CPUs, but a core has {threads}",
            f"set enclave.cpus to {cpus + threads - cpus % threads}; enclavectl config path names the file",
        )
    return ok(f"the configuration gives an enclave {cpus} CPUs, {cpus // threads} cores")


def _parent(facts: Facts) -> Verdict:
    cpus = facts.cpus
    if (cpus.pool or frozenset()) & cpus.first_core:
        return fail(
            "CPU 0 or its sibling is in the pool", "enclavectl setup: CPU 0's core stays with the parent"
        )
    left = len(cpus.online)
    if left <= cpus.threads_per_core:
        return warn(
            f"{left} CPUs are left to this host, where Docker and the relay run",
            "enclavectl setup --cpus N with a smaller N",
        )
    return ok(f"{left} of {len(cpus.present)} CPUs are left to this host")


CHECKS = (
    Check(
        id="allocator.file",
        scope=Scope.NODE,
        why="AWS's allocator reads lines, not YAML, and is silent about some that it drops",
        examine=_file,
    ),
    Check(
        id="allocator.service",
        scope=Scope.NODE,
        why="it reserves memory and CPUs at boot, when memory is not fragmented yet",
        examine=_service,
    ),
    Check(
        id="allocator.pool",
        scope=Scope.NITRO,
        why="enclaves get CPUs from this pool only, and an active service does not prove that it is there",
        examine=_pool,
    ),
    Check(
        id="allocator.memory",
        scope=Scope.NITRO,
        why="enclaves get their memory from huge pages; too few give E27, or E35 that speaks of the image",
        examine=_memory,
    ),
    Check(
        id="allocator.cgroup",
        scope=Scope.NITRO,
        why="a pod sees its node's huge pages and may use none of them unless its limits name them (E35)",
        examine=_cgroup,
    ),
    Check(
        id="allocator.page-sizes",
        scope=Scope.NODE,
        why="every page is a region of its own: many small ones slow the launch and can reach a limit",
        examine=_page_sizes,
    ),
    Check(
        id="allocator.fragmentation",
        scope=Scope.NODE,
        why="huge pages need memory in one piece, which a host that has run for hours rarely has",
        examine=_fragmentation,
    ),
    Check(
        id="allocator.numa",
        scope=Scope.NITRO,
        why="the driver refuses an enclave whose memory and CPUs are on different nodes (E29)",
        examine=_numa,
    ),
    Check(
        id="allocator.fits",
        scope=Scope.NITRO,
        why="enclavectl run starts an enclave of this size unless it is told another",
        examine=_fits,
    ),
    Check(
        id="cpus.whole-cores",
        scope=Scope.NITRO,
        why="an enclave gets whole cores, so that it shares none with the parent (E29)",
        examine=_whole_cores,
    ),
    Check(
        id="cpus.configured",
        scope=Scope.NITRO,
        why="an enclave with half a core does not start (E29: full CPU cores have not been set)",
        examine=_configured_cores,
    ),
    Check(
        id="cpus.parent",
        scope=Scope.NODE,
        why="CPU 0's core stays with the parent by the driver's rule, and Docker and the relay need some too",
        examine=_parent,
    ),
)
