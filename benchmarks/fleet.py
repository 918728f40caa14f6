"""Pictures a second of simulated fleets, the time that a node's death costs, and a plan on paper.

``python -m benchmarks fleet`` measures; it needs root, haproxy and iproute2 for its network namespaces.
``python -m benchmarks.fleet`` prints the plan for 1,000,000 pictures an hour, by arithmetic alone.
"""

from __future__ import annotations

import math
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common import Row
from enclavectl.client.batch import classify
from enclavectl.client.session import Client
from enclavectl.net.address import Address
from tests.cluster.simulated import Fleet, fleet, has_parts
from tests.gateway.visitors import PICTURE, visitors

_CLIENTS = 8
_PICTURES = 12
_ROUNDS = 3
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
    """Compare fleets with their own enclaves asked directly, and measure a failover."""
    reason = has_parts()
    if reason is not None:
        print(f"fleet: left out: {reason}")
        return []
    rows = [_throughput(nodes, enclaves) for nodes, enclaves in ((1, 1), (1, 2), (1, 4), (3, 1))]
    return [*rows, _failover()]


def _throughput(nodes: int, enclaves: int) -> Row:
    """Take turns between the gateways and the enclaves' own sockets; the same clients and pictures."""
    with _folder() as folder, fleet(folder, nodes=nodes, enclaves=enclaves) as made:
        direct = [one.address for one in made.backend.enclaves()]
        ours: list[float] = []
        base: list[float] = []
        relay_s = 0.0
        for number in range(_ROUNDS + 1):
            before = _relay_cpu_s(made)
            through_s = _crowd(made, lambda _: made.address)
            relay = _relay_cpu_s(made) - before
            direct_s = _crowd(made, lambda index: direct[index % len(direct)])
            if number:  # the first round warms up
                ours.append(through_s)
                base.append(direct_s)
                relay_s += relay
    pictures = _CLIENTS * _PICTURES
    cores = os.cpu_count() or 1
    # The relays run on the same cores as the enclaves here, which on Nitro they do not.
    left_s = sum(ours) - relay_s / cores
    return Row(
        what=f"{nodes * enclaves} enclaves behind {nodes} gateways: pictures a second, less the relays' CPU",
        ours=f"{pictures * _ROUNDS / sum(ours):.1f}/s, less {relay_s:.2f} CPU s: "
        f"{pictures * _ROUNDS / left_s:.1f}/s",
        base=f"{pictures * _ROUNDS / sum(base):.1f}/s",
        ratio=sum(base) / left_s,
        limit=0.95,
        at_least=True,
    )


@contextmanager
def _folder() -> Iterator[Path]:
    """Make a folder whose sockets have short names."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="bf") as name:
        yield Path(name) / "f"


def _crowd(made: Fleet, address_of: Callable[[int], Address]) -> float:
    expectation = made.expectation()

    def ask(index: int) -> None:
        with Client.connect(address_of(index), expectation, timeout_s=60) as client:
            replies = list(classify(client, [PICTURE] * _PICTURES, timeout_s=60, in_flight=2))
        assert all(reply.outcome is not None for reply in replies)

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(_CLIENTS)]
    began_at = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began_at


def _relay_cpu_s(made: Fleet) -> float:
    return sum(_cpu_s(pid) for pid in made.relays())


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _failover() -> Row:
    """Let a node of three vanish, and wait until each client has had another answer."""
    with _folder() as folder, fleet(folder, nodes=3, enclaves=1) as made:
        with visitors(made.address, made.expectation(), 30, pictures=12, pause_s=0.3) as found:
            while min(len(one.replies) for one in found) < 2:
                time.sleep(0.05)
            before = [len(one.replies) for one in found]
            died_at = time.monotonic()
            made.nodes[2].die()
            while any(len(one.replies) <= count for one, count in zip(found, before, strict=True)):
                time.sleep(0.02)
            took_s = time.monotonic() - died_at
        wrong: Sequence[str] = [text for one in found for text in one.wrong]
    return Row(
        what="a node of three vanishes: until the last of 30 clients has its next answer",
        ours=f"{took_s:.2f} s, {len(wrong)} pictures lost",
        base="",
        ratio=took_s,
        limit=10.0,
    )


if __name__ == "__main__":
    for words, number in plan_on_paper(Need()).items():
        print(f"{words:40} {number:12,.3f}".rstrip("0").rstrip("."))
