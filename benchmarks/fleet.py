"""Pictures a second of simulated fleets, the time that a node's death costs, and a plan on paper.

``python -m benchmarks fleet`` measures; it needs root, haproxy and iproute2 for its network namespaces.
``python -m benchmarks.fleet`` prints the plan for 1,000,000 pictures an hour, by arithmetic alone; each
number of it has an option, such as ``--cpu-ms 18 --dollars-per-node-hour 1.2``.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks.common import Row, Subject, decoders_of, subjects
from benchmarks.pool import WORKERS
from benchmarks.requests import pool
from enclavectl.client.exchange import CheckedAnswer
from enclavectl.client.session import Client
from enclavectl.net.address import Address
from tests.cluster.simulated import Fleet, fleet, has_parts
from tests.gateway.visitors import visitors

_CLIENTS = 8
# A round takes about 2 s for each of the three; all of it takes nine minutes on an idle machine.
_ROUNDS = 2
_PROCESSES = 3
_IN_FLIGHT = 2
_SIDES = ("fleet", "direct", "pool")
_CROWD = 30
_TIMEOUT_S = 60.0
_CORES = os.cpu_count() or 1
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a fleet must do, and what its parts can. All of it is to be replaced by one's own numbers.

    ``cpu_ms`` is what a picture takes of an enclave's vCPU, ``relay_ms`` of the parent's; ``peak`` is the
    busiest hour's share over the mean; ``load`` is how much of a vCPU may be in use at the peak.
    """

    pictures_per_hour: int = 1_000_000
    peak: float = 1.5
    load: float = 0.7
    cpu_ms: float = 25.0
    relay_ms: float = 2.0
    cpus_per_enclave: int = 2
    enclaves_per_node: int = 4
    memory_mib: int = 3072
    picture_bytes: int = 2_000_000
    spare_nodes: int = 1
    zones: int = 3
    dollars_per_node_hour: float = 0.768
    dollars_per_balancer_hour: float = 0.0225


def plan_on_paper(need: Need) -> dict[str, float]:
    """Return nodes, enclaves, network and money; each line is one step of the arithmetic."""
    per_second = need.pictures_per_hour / 3600
    at_peak = per_second * need.peak
    per_enclave = need.cpus_per_enclave * 1000 / need.cpu_ms * need.load
    enclaves = math.ceil(at_peak / per_enclave)
    # A node may be lost, and a zone's share must fit into the others.
    working = math.ceil(enclaves / need.enclaves_per_node)
    nodes = max(working + need.spare_nodes, math.ceil(working * need.zones / (need.zones - 1)))
    return {
        "pictures a second": per_second,
        "pictures a second at the peak": at_peak,
        "pictures a second of an enclave": per_enclave,
        "enclaves": enclaves,
        "nodes that they fill": working,
        "nodes with a zone lost": nodes,
        "gateways": nodes * need.enclaves_per_node,
        "vCPUs of a node": 2 * need.enclaves_per_node * need.cpus_per_enclave,
        "vCPUs of all relays at the peak": at_peak * need.relay_ms / 1000,
        "huge pages of a node in GiB": need.enclaves_per_node * need.memory_mib / 1024,
        "Gbit/s at the peak": at_peak * need.picture_bytes * 8 / 1e9,
        "Gbit/s of a node": at_peak * need.picture_bytes * 8 / 1e9 / working,
        "dollars an hour": nodes * need.dollars_per_node_hour + need.dollars_per_balancer_hour,
        "dollars for 1,000 pictures": (nodes * need.dollars_per_node_hour + need.dollars_per_balancer_hour)
        / need.pictures_per_hour
        * 1000,
    }


def main() -> list[Row]:
    """Compare fleets with a bare pool on the same cores, and measure a failover."""
    reason = has_parts()
    if reason is not None:
        print(f"fleet: left out: {reason}")
        return []
    with subjects() as (small, photograph):
        found = [_throughput(nodes, enclaves, small) for nodes, enclaves in ((1, 1), (1, 2), (1, 4), (3, 1))]
        found += [_throughput(nodes, enclaves, photograph) for nodes, enclaves in ((1, 1), (1, 2), (3, 1))]
    costs = found[3]
    need = Need(cpu_ms=costs.enclave_ms, relay_ms=costs.relay_ms)
    print("the plan with the CPU time that a picture took here:")
    show_plan(need)
    return [*(one.row for one in found), _plan_row(costs), _failover()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """Pictures a second of a fleet, of its enclaves' own sockets and of the bare pool, which took turns.

    The ``_ms`` are CPU time for each picture, through the fleet and in the pool.
    """

    nodes: int
    enclaves: int
    subject: str
    fleet: float
    direct: float
    pool: float
    enclave_ms: float
    relay_ms: float
    client_ms: float
    pool_ms: float

    @property
    def without_relays(self) -> float:
        """Pictures a second if the relays had cores of their own, as on Nitro parents they have."""
        return 1 / (1 / self.fleet - self.relay_ms / 1000 / _CORES)

    @property
    def row(self) -> Row:
        """All three rates, and the share of the pool's that is left without the relays."""
        return Row(
            what=f"{self.nodes * self.enclaves} enclaves behind {self.nodes} gateways, {self.subject}, "
            f"against a bare pool "
            f"(CPU ms a picture: enclave {self.enclave_ms:.1f}, client {self.client_ms:.1f}, "
            f"relays {self.relay_ms:.1f}; pool {self.pool_ms:.1f})",
            ours=f"{self.fleet:.1f}/s; less the relays' CPU {self.without_relays:.1f}/s",
            base=f"{self.pool:.1f}/s (the enclaves' own sockets: {self.direct:.1f}/s)",
            ratio=self.without_relays / self.pool,
            limit=0.95,
            at_least=True,
        )


def _plan_row(costs: Throughput) -> Row:
    """Hold the plan's arithmetic to the simulation: all CPU time of a picture, on cores that are all busy."""
    planned = _CORES * 1000 / (costs.enclave_ms + costs.relay_ms + costs.client_ms)
    return Row(
        what="3 enclaves behind 3 gateways, against the plan's arithmetic with their costs",
        ours=f"{costs.fleet:.1f}/s",
        base=f"{planned:.1f}/s",
        ratio=costs.fleet / planned,
        limit=0.85,
        at_least=True,
    )


def _throughput(nodes: int, enclaves: int, subject: Subject) -> Throughput:
    """Take turns between the gateways, the enclaves' own sockets, and the pool; the same picture.

    With fresh processes several times: where the memory of one lies moves it by 5 %.
    """
    subject = replace(subject, rounds=subject.rounds // _CLIENTS * _CLIENTS)
    turns = [turn for _ in range(_PROCESSES) for turn in _turns(nodes, enclaves, subject)]
    rates = {
        name: subject.rounds / statistics.median(turn.seconds[name] for turn in turns) for name in _SIDES
    }
    each_ms = {
        f"{name}_ms": sum(turn.cpu_s[name] for turn in turns) * 1000 / (subject.rounds * len(turns))
        for name in ("enclave", "relay", "client", "pool")
    }
    return Throughput(nodes=nodes, enclaves=enclaves, subject=subject.name, **rates, **each_ms)


@dataclass(frozen=True, slots=True)
class _Turn:
    """The seconds that each side took, and the CPU seconds of each part of the fleet and of the pool."""

    seconds: dict[str, float]
    cpu_s: dict[str, float]


def _turns(nodes: int, enclaves: int, subject: Subject) -> list[_Turn]:
    # Those of an enclave with its share of the CPUs, and of a whole one at least.
    workers = decoders_of(max(1, WORKERS // (nodes * enclaves)))
    with _folder() as folder, ExitStack() as stack:
        run_pool = stack.enter_context(pool(subject.path, count=subject.rounds))
        made = stack.enter_context(fleet(folder, nodes=nodes, enclaves=enclaves, workers=workers))
        direct = [one.address for one in made.backend.enclaves()]
        found = []
        for _ in range(_ROUNDS + 1):
            with _crowd(made, [made.address] * _CLIENTS) as clients:
                before = _cpu_of(made)
                seconds = {"fleet": _timed(partial(_ask, clients, subject))}
                cpu_s = {name: value - before[name] for name, value in _cpu_of(made).items()}
            with _crowd(made, [direct[index % len(direct)] for index in range(_CLIENTS)]) as clients:
                seconds["direct"] = _timed(partial(_ask, clients, subject))
            before = _cpu_of(made)
            seconds["pool"] = _timed(run_pool)
            cpu_s["pool"] = _cpu_of(made)["pool"] - before["pool"]
            found.append(_Turn(seconds, cpu_s))
        return found[1:]  # the first one warms up


@contextmanager
def _folder() -> Iterator[Path]:
    """Make a folder whose sockets have short names."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="bf") as name:
        yield Path(name) / "f"


@contextmanager
def _crowd(made: Fleet, addresses: Sequence[Address]) -> Iterator[list[Client]]:
    """Open a session at each address. An enclave ends one that is idle while others have their turns."""
    expectation = made.expectation()
    with ExitStack() as stack:
        yield [
            stack.enter_context(Client.connect(address, expectation, timeout_s=_TIMEOUT_S))
            for address in addresses
        ]


def _ask(clients: Sequence[Client], subject: Subject) -> None:
    """Have the clients send the picture ``rounds`` times in all, each two at a time.

    From one thread, as if each client had a machine: threads would wait for the interpreter's lock and cost
    more than the sessions.
    """
    picture, each = subject.picture, subject.rounds // len(clients)
    for number in range(each + _IN_FLIGHT):
        for client in clients:
            if number >= _IN_FLIGHT:
                _, answer = client.next_answer(time.monotonic() + _TIMEOUT_S)
                assert isinstance(answer, CheckedAnswer)
                assert answer.outcome.problem is None
            if number < each:
                client.submit(picture, client.prepare(picture))


def _timed(call: Callable[[], object]) -> float:
    began_at = time.perf_counter()
    call()
    return time.perf_counter() - began_at


def _cpu_of(made: Fleet) -> dict[str, float]:
    """Return CPU seconds so far: of the enclaves with all their processes, the relays, us, the pool."""
    enclaves = [process.pid for node in made.nodes for process in node.enclaves.values()]
    return {
        "enclave": sum(_cpu_s(pid) for top in enclaves for pid in _with_children(top)),
        "relay": sum(_cpu_s(pid) for pid in made.relays()),
        "client": time.process_time(),
        "pool": sum(_cpu_s(pid) for pid in _children(os.getpid()) if _is_pool(pid)),
    }


def _is_pool(pid: int) -> bool:
    return b"benchmarks.pool" in Path(f"/proc/{pid}/cmdline").read_bytes()


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            found += map(int, (task / "children").read_text().split())
    return found


def _with_children(pid: int) -> list[int]:
    return [pid, *(found for child in _children(pid) for found in _with_children(child))]


def _cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process and of its children that have ended: enclaves replace decoders."""
    numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, numbers[11:15])) / _TICKS


def _failover() -> Row:
    """Let a node of three vanish, and wait until the last of its clients has another answer."""
    with _folder() as folder, fleet(folder, nodes=3, enclaves=1) as made:
        lost = {one.module_id for one in made.backend.enclaves() if one.name == "n3e0"}
        address, expectation = made.address, made.expectation()
        with visitors(address, expectation, _CROWD, pictures=12, pause_s=0.3) as found:
            while min(len(one.replies) for one in found) < 2:
                time.sleep(0.05)
            hit = [one for one in found if one.enclave in lost]
            before = [len(one.replies) for one in hit]
            died_at = time.monotonic()
            made.nodes[2].die()
            while any(len(one.replies) <= count for one, count in zip(hit, before, strict=True)):
                time.sleep(0.02)
            took_s = time.monotonic() - died_at
        wrong: Sequence[str] = [text for one in found for text in one.wrong]
    return Row(
        what=f"a node of three vanishes: until the last of its {len(hit)} clients has its next answer",
        ours=f"{took_s:.2f} s, {len(wrong)} pictures lost",
        base="",
        ratio=took_s,
        limit=10.0,
    )


def show_plan(need: Need) -> None:
    """Print the parameters and the steps of the plan."""
    for name, value in asdict(need).items():
        print(f"{name.replace('_', ' '):40} {value:12,}")
    print()
    for words, number in plan_on_paper(need).items():
        print(f"{words:40} {number:12,.3f}".rstrip("0").rstrip("."))


def parse_need(arguments: Sequence[str]) -> Need:
    """Read one's own numbers from a command line: an option for each field of ``Need``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet", description=__doc__)
    for name, value in asdict(Need()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    return Need(**vars(parser.parse_args(arguments)))


if __name__ == "__main__":
    show_plan(parse_need(sys.argv[1:]))
