"""What an enclave that runs is measured for, over its own address."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from enclavectl.attestation import Policy, TrustRoot
from enclavectl.client.batch import classify
from enclavectl.client.exchange import Expectation
from enclavectl.client.pictures import read_picture
from enclavectl.client.session import Client
from enclavectl.net.address import parse_host_address
from enclavectl.net.transport import connect

_TIMEOUT_S = 60.0
_ROUND_TRIPS = 200
_REQUESTS = 100
_IN_FLIGHT = 16


def measure(address_text: str, policy: Policy, root: TrustRoot, picture: Path) -> dict[str, object]:
    """Medians: a connection of vsock, a warm request one at a time; and pictures a second, in flight.

    Raises:
        EnclavectlError: the enclave does not answer as it must.
    """
    address = parse_host_address(address_text)
    connected_s = []
    for _ in range(_ROUND_TRIPS):
        started = time.perf_counter()
        connect(address, _TIMEOUT_S).close()
        connected_s.append(time.perf_counter() - started)
    expectation = Expectation(policy=policy, root=root)
    one = read_picture(str(picture), lambda _: b"")
    started = time.perf_counter()
    with Client.connect(address, expectation, timeout_s=_TIMEOUT_S) as client:
        session_s = time.perf_counter() - started
        request_s = []
        for _ in range(_REQUESTS):
            started = time.perf_counter()
            client.submit(one, client.prepare(one))
            client.next_answer(time.monotonic() + _TIMEOUT_S)
            request_s.append(time.perf_counter() - started)
        started = time.perf_counter()
        replies = list(classify(client, [one] * _REQUESTS, timeout_s=_TIMEOUT_S, in_flight=_IN_FLIGHT))
        in_flight_s = time.perf_counter() - started
    if failed := [reply.error for reply in replies if reply.error is not None]:
        raise failed[0]
    return {
        "vsock_connection_ms": round(statistics.median(connected_s) * 1e3, 3),
        "verified_session_ms": round(session_s * 1e3, 3),
        "warm_request_ms": round(statistics.median(request_s) * 1e3, 3),
        "pictures_per_s": round(_REQUESTS / in_flight_s, 1),
        "picture_bytes_per_s": round(_REQUESTS * picture.stat().st_size / in_flight_s),
        "requests": _REQUESTS,
        "in_flight": _IN_FLIGHT,
    }
