"""What the gateways of a fleet say of themselves: their metrics, read over HTTP, and their sum."""

from __future__ import annotations

import http.client
import re
import socket
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass

from enclavectl.errors import NetworkError, UsageError

# A page has about 40 KiB for four enclaves.
_MAX_PAGE = 4 << 20
_TIMEOUT_S = 5.0
# For a whole page: each byte of one that drips comes within the time-out.
_PAGE_S = 10.0
_TOO_SLOW = "it did not give its page in time"
# The whole numbers that a float has: Prometheus counts in floats.
_MAX_COUNT = 1 << 53
# A fleet of more gateways is read through Prometheus.
_MAX_GATEWAYS = 512
# No label of a name is empty or longer than 63: Python's resolver raises UnicodeError for those.
_ADDRESS = re.compile(
    r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9][A-Za-z0-9-]{0,62}(?:\.[A-Za-z0-9-]{1,63}){0,126}\.?))"
    r":([0-9]{1,5})",
    re.ASCII,
)
_SAMPLE = re.compile(r"^enclavectl_gateway_([a-z_]+)(?:\{([^}]*)\})? ([0-9.e+-]+)$", re.ASCII)
_LABEL = re.compile(r'([a-z_]+)="([^"\\]*)"', re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnclaveStatus:
    """One enclave of a gateway."""

    name: str
    release: str
    is_up: bool
    sessions: int
    in_flight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayStatus:
    """One gateway. ``error`` says why it did not answer."""

    address: str
    connections: int = 0
    enclaves: tuple[EnclaveStatus, ...] = ()
    error: str | None = None

    def to_json(self) -> dict[str, object]:
        """Return the gateway as JSON values."""
        return asdict(self)


def parse_metrics(text: str, address: str) -> GatewayStatus:
    """Read a gateway's page of metrics; other lines, and those without a count, are passed over."""
    samples = [match for line in text.splitlines() if (match := _SAMPLE.match(line)) is not None]
    if not samples:
        return GatewayStatus(address=address, error="expected a gateway's metrics, found other text")
    connections = 0.0
    releases: dict[str, str] = {}
    counts: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for name, within, count in (match.groups() for match in samples):
        labels = dict(_LABEL.findall(within or ""))
        if (number := _count(count)) is None:
            continue
        if name == "connections":
            connections += number
        elif "enclave" in labels:
            counts[labels["enclave"]][name] = number
            if name == "enclave_up":
                releases[labels["enclave"]] = labels.get("release", "")
    enclaves = tuple(
        EnclaveStatus(
            name=name,
            release=releases.get(name, ""),
            is_up=found.get("enclave_up", 0) > 0,
            sessions=int(found.get("enclave_connections", 0)),
            in_flight=int(found.get("requests_in_flight", 0)),
        )
        for name, found in sorted(counts.items())
    )
    return GatewayStatus(address=address, connections=int(connections), enclaves=enclaves)


def _count(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 <= number <= _MAX_COUNT else None


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def find_gateways(targets: Sequence[str]) -> list[tuple[str, int]]:
    """Return every address that the targets lead to; a headless Service has one for each pod.

    Raises:
        UsageError: a target is no HOST:PORT, or there are too many.
        NetworkError: a name leads nowhere.
    """
    found = dict.fromkeys(one for target in targets for one in _resolve(target))
    if len(found) > _MAX_GATEWAYS:
        raise UsageError(f"expected at most {_MAX_GATEWAYS} gateways, found {len(found)}")
    return list(found)


def _resolve(target: str) -> Iterator[tuple[str, int]]:
    match = _ADDRESS.fullmatch(target)
    if match is None or int(match[3]) > 65_535:
        raise UsageError(
            f"expected HOST:PORT of metrics, found {target!r:.100}", hint="such as 10.0.0.1:9100"
        )
    try:
        answers = socket.getaddrinfo(match[1] or match[2], int(match[3]), type=socket.SOCK_STREAM)
    except OSError as exc:
        raise NetworkError(
            f"{target}: no such host ({exc.strerror or exc})",
            hint="kubectl port-forward reaches a pod from outside of its cluster",
        ) from exc
    for *_, address in answers:
        yield str(address[0]), int(address[1])


def read_gateway(host: str, port: int, *, page_s: float = _PAGE_S) -> GatewayStatus:
    """Read one gateway; one that does not answer has an error in place of facts."""
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        sock = socket.create_connection((host, port), _TIMEOUT_S)
    except OSError as exc:
        return GatewayStatus(address=address, error=_why(exc))
    with sock, _closing_after(page_s, sock) as is_over:
        connection = http.client.HTTPConnection(host, port)
        connection.sock = sock
        try:
            connection.request("GET", "/metrics")
            response = connection.getresponse()
            body = response.read(_MAX_PAGE)
        except (OSError, http.client.HTTPException) as exc:
            return GatewayStatus(address=address, error=_TOO_SLOW if is_over() else _why(exc))
        if is_over():
            return GatewayStatus(address=address, error=_TOO_SLOW)
    if response.status != http.client.OK:
        return GatewayStatus(address=address, error=f"expected metrics, found HTTP {response.status}")
    return parse_metrics(body.decode("utf-8", errors="replace"), address)


@contextmanager
def _closing_after(seconds: float, sock: socket.socket) -> Iterator[Callable[[], bool]]:
    """End the stream when the time is up; the function that is yielded says whether it was."""
    was_up = threading.Event()

    def end() -> None:
        was_up.set()
        with suppress(OSError):  # the peer was faster
            sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield was_up.is_set
    finally:
        timer.cancel()
