"""The metrics page: what the gateway counts, in the format of Prometheus. Needs the extra ``gateway``."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from enclavectl.gateway.gateway import Gateway
from enclavectl.gateway.routing import Health
from enclavectl.gateway.tally import Carrier, Histogram

_PREFIX = "enclavectl_gateway"
# A scraper's request has a few hundred bytes, and comes at once.
_MAX_REQUEST_BYTES = 8 * 1024
_REQUEST_S = 5.0
# One scraper and a person; more is a mistake, or worse.
_MAX_SCRAPES = 8


class GatewayCollector(Collector):
    """Turns a gateway's counts into metrics when somebody asks."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def collect(self) -> Iterator[Metric]:
        """Yield each metric."""
        yield from self._connections()
        yield from self._traffic()
        yield from self._enclaves()
        tally = self._gateway.tally
        yield _histograms(
            "request_seconds",
            "From a sealed request to an answer. Answers are matched in order, so the sum is exact.",
            "release",
            tally.request_seconds,
        )
        handshakes = {str(carrier): found for carrier, found in tally.handshake_seconds.items()}
        yield _histograms("handshake_seconds", "TLS and HTTP.", "transport", handshakes)
        yield HistogramMetricFamily(
            f"{_PREFIX}_session_seconds",
            "Length of sessions.",
            buckets=_buckets(tally.session_seconds),
            sum_value=tally.session_seconds.sum,
        )

    def _connections(self) -> Iterator[Metric]:
        tally, waiting = self._gateway.tally, len(self._gateway.openings)
        now = GaugeMetricFamily(f"{_PREFIX}_connections", "Open sessions.", labels=["transport"])
        for carrier in Carrier:
            now.add_metric([carrier], tally.open[carrier])
        yield now
        ends = tally.ended.items()
        yield _counts("connections", "Connections that ended, and how.", ["transport", "outcome"], ends)
        yield GaugeMetricFamily(f"{_PREFIX}_openings", "Connections without a challenge yet.", value=waiting)
        yield CounterMetricFamily(
            f"{_PREFIX}_lost_records", "Lines that the log did not take.", value=tally.lost_records
        )
        clients = (([name], count) for name, count in tally.client_requests.items())
        yield _counts("client_requests", "Requests by name.", ["client"], clients)

    def _traffic(self) -> Iterator[Metric]:
        tally = self._gateway.tally
        frames, carried = tally.frames.copy(), tally.bytes.copy()
        for session in self._gateway.sessions:
            for direction, follower in (("up", session.up), ("down", session.down)):
                carried[direction] += follower.bytes
                for kind, count in follower.frames.items():
                    frames[direction, kind.name.lower()] += count
        yield _counts("frames", "Whole frames.", ["direction", "type"], frames.items())
        sizes = (([direction], count) for direction, count in carried.items())
        yield _counts("bytes", "Bytes that were relayed.", ["direction"], sizes)
        yield _counts("refusals", "Refusals.", ["from", "code"], tally.refusals.items())

    def _enclaves(self) -> Iterator[Metric]:
        up = GaugeMetricFamily(f"{_PREFIX}_enclave_up", "1 if it answers.", labels=["enclave", "release"])
        sessions = GaugeMetricFamily(f"{_PREFIX}_enclave_connections", "Sessions.", labels=["enclave"])
        flight = GaugeMetricFamily(
            f"{_PREFIX}_requests_in_flight", "Requests without an answer.", labels=["enclave"]
        )
        probes = GaugeMetricFamily(f"{_PREFIX}_probe_seconds", "The last challenge.", labels=["enclave"])
        for enclave in self._gateway.routes.enclaves:
            name = enclave.destination.name
            up.add_metric([name, enclave.destination.release], enclave.health is Health.UP)
            sessions.add_metric([name], enclave.sessions)
            flight.add_metric([name], enclave.in_flight)
            if enclave.probe_seconds is not None:
                probes.add_metric([name], enclave.probe_seconds)
        yield from (up, sessions, flight, probes)


def _counts(
    name: str, about: str, labels: Sequence[str], found: Iterable[tuple[Sequence[str], int]]
) -> CounterMetricFamily:
    metric = CounterMetricFamily(f"{_PREFIX}_{name}", about, labels=labels)
    for values, count in found:
        metric.add_metric(values, count)
    return metric


def _histograms(name: str, about: str, label: str, found: dict[str, Histogram]) -> Metric:
    metric = HistogramMetricFamily(f"{_PREFIX}_{name}", about, labels=[label])
    for value, histogram in found.items():
        metric.add_metric([value], _buckets(histogram), histogram.sum)
    return metric


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    total, buckets = 0, []
    for bound, count in zip((*map(str, histogram.bounds), "+Inf"), histogram.counts, strict=True):
        total += count
        buckets.append((bound, float(total)))
    return buckets


async def serve_metrics(gateway: Gateway, sock: socket.socket) -> asyncio.Server:
    """Serve ``/metrics`` on a socket of its own, to whoever can reach that."""
    registry = CollectorRegistry()
    registry.register(GatewayCollector(gateway))
    scrapes = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal scrapes
        scrapes += 1
        try:
            if scrapes <= _MAX_SCRAPES:
                async with asyncio.timeout(_REQUEST_S):
                    request = await reader.readuntil(b"\r\n\r\n")
                    writer.write(_reply(request, registry))
                    await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            writer.transport.abort()
        finally:
            scrapes -= 1
            writer.close()

    return await asyncio.start_server(answer, sock=sock, limit=_MAX_REQUEST_BYTES)


def _reply(request: bytes, registry: CollectorRegistry) -> bytes:
    is_asked = request.startswith(b"GET /metrics ")
    status = "200 OK" if is_asked else "404 Not Found"
    body = generate_latest(registry) if is_asked else b"there is /metrics\n"
    kind = CONTENT_TYPE_LATEST if is_asked else "text/plain"
    lines = (
        f"HTTP/1.1 {status}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        "Connection: close",
    )
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode() + body
