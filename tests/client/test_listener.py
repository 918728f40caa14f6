"""The listener with real enclaves that dial in, and with peers that are none."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from enclave_payload.contents import Delivery
from enclavectl.attestation import Policy, Release
from enclavectl.client.exchange import Expectation, PendingAnswer, SessionEvidence, open_reply
from enclavectl.client.listener import Arrived, Delivered, Failed, Listener, ListenerEvent
from enclavectl.client.session import Client
from enclavectl.errors import AttestationError, EnclaveLost, PeerProtocolError
from enclavectl.net.address import UnixAddress
from enclavectl.net.transport import connect, listening
from tests.in_process import InProcess, expect, gray, new_root, start_in_process
from tests.in_time import in_time

PATIENCE_S = 10.0


@pytest.fixture
def outbound(tmp_path: Path) -> UnixAddress:
    return UnixAddress(tmp_path / "out.sock")


@contextmanager
def started(address: UnixAddress, expectation: Expectation) -> Iterator[Generator[ListenerEvent]]:
    with listening(address) as sock:
        yield Listener(sock, lambda: expectation).events(PATIENCE_S)
        sock.shutdown(socket.SHUT_RDWR)


Waiting = dict[bytes, tuple[PendingAnswer, SessionEvidence]]


def hand_in(enclave: InProcess, values: list[int]) -> Waiting:
    """Send pictures whose answers go out; each is said to be ready."""
    waiting = {}
    with Client.connect(enclave.address, enclave.expectation, timeout_s=PATIENCE_S) as client:
        for value in values:
            pending = client.prepare(gray(value))
            client.submit(gray(value), pending, Delivery.OUT)
            assert client.next_answer(time.monotonic() + PATIENCE_S) == (pending.request_id, None)
            waiting[pending.request_id] = pending, client.enclave.session_evidence
    return waiting


def lights(waiting: Waiting, events: list[ListenerEvent]) -> list[int]:
    found = []
    for happening in events:
        assert isinstance(happening, Delivered)
        pending, session = waiting[happening.answer.request_id]
        answer = open_reply(pending, happening.answer, session)
        assert answer is not None
        assert answer.receipted is not None
        assert answer.outcome.probabilities_ppb is not None
        found.append(answer.outcome.probabilities_ppb["light"])
    return found


def test_answers_come_to_who_listens_already(tmp_path: Path, outbound: UnixAddress) -> None:
    with (
        start_in_process(tmp_path, outbound=outbound) as enclave,
        started(outbound, enclave.expectation) as events,
    ):
        assert isinstance(next(events), Arrived)
        waiting = hand_in(enclave, [0, 255])
        assert lights(waiting, list(islice(events, 2))) == [0, 1_000_000_000]


def test_answers_wait_for_who_listens_later(tmp_path: Path, outbound: UnixAddress) -> None:
    with start_in_process(tmp_path, outbound=outbound) as enclave:
        waiting = hand_in(enclave, [255, 0, 255])
        with started(outbound, enclave.expectation) as events:
            assert isinstance(next(events), Arrived)
            assert lights(waiting, list(islice(events, 3))) == [1_000_000_000, 0, 1_000_000_000]


def test_an_enclave_that_does_not_prove_itself_delivers_nothing(
    tmp_path: Path, outbound: UnixAddress
) -> None:
    other = Release(name="other", pcrs=dict.fromkeys((0, 1, 2), b"\xaa" * 48))
    with start_in_process(tmp_path, outbound=outbound) as enclave:
        hand_in(enclave, [0])
        honest = enclave.expectation
        strict = replace(honest, policy=Policy(accept=honest.policy.accept, releases=(other,)))
        with started(outbound, strict) as events:
            for happening in islice(events, 2):  # it keeps dialing
                assert isinstance(happening, Failed)
                assert isinstance(happening.error, AttestationError)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", PeerProtocolError),
        (b"\xff\xff\xff\xff\x02", PeerProtocolError),
        (b"", EnclaveLost),
    ],
)
def test_a_stranger_that_dials_in_disturbs_nobody(
    tmp_path: Path, outbound: UnixAddress, data: bytes, error: type[Exception]
) -> None:
    root = new_root()
    with started(outbound, expect(root)) as events, connect(outbound, 5) as stranger:
        stranger.sendall(data)
        stranger.shutdown(socket.SHUT_WR)
        failed = next(events)
        assert isinstance(failed, Failed)
        assert isinstance(failed.error, error)
        assert failed.error.message.startswith("the enclave that dialed in")
    with (
        start_in_process(tmp_path, outbound=outbound) as enclave,
        started(outbound, enclave.expectation) as events,
    ):
        assert isinstance(next(events), Arrived)


def test_peers_that_dial_in_and_say_nothing_hold_up_no_answer(tmp_path: Path, outbound: UnixAddress) -> None:
    with listening(outbound) as sock, ExitStack() as stack:
        for _ in range(200):  # several times the places
            stack.enter_context(connect(outbound, 5))
        with start_in_process(tmp_path, outbound=outbound) as enclave:
            waiting = hand_in(enclave, [255])
            events = Listener(sock, lambda: enclave.expectation).events(PATIENCE_S)
            delivered = next(happening for happening in events if isinstance(happening, Delivered))
            assert lights(waiting, [delivered]) == [1_000_000_000]
            sock.shutdown(socket.SHUT_RDWR)


def test_once_it_has_ended_the_enclave_dials_the_next(tmp_path: Path, outbound: UnixAddress) -> None:
    with start_in_process(tmp_path, outbound=outbound) as enclave:
        for _ in range(2):
            with started(outbound, enclave.expectation) as events:
                assert isinstance(next(events), Arrived)
                events.close()


def several_events(address: UnixAddress, expectation: Expectation) -> list[ListenerEvent]:
    """Listen until the end, which must come in time; for longer where it brought less than two events."""
    for timeout_s in (0.5, 5.0, 30.0):
        with listening(address) as sock, in_time(timeout_s):
            events = list(Listener(sock, lambda: expectation).events(timeout_s))
            sock.shutdown(socket.SHUT_RDWR)
        if len(events) > 1:
            return events
    raise AssertionError(events)


def test_failures_without_a_pause_do_not_hold_up_the_end(outbound: UnixAddress) -> None:
    over = threading.Event()

    def crowd() -> None:
        while not over.is_set():
            with suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(outbound.path))
                sock.send(b"GET / HTTP/1.1\r\n")

    threads = [threading.Thread(target=crowd) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        assert all(isinstance(one, Failed) for one in several_events(outbound, expect(new_root())))
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_without_news_it_ends(outbound: UnixAddress) -> None:
    with listening(outbound) as sock:
        assert list(Listener(sock, lambda: expect(new_root())).events(0.05)) == []
        sock.shutdown(socket.SHUT_RDWR)


def test_one_that_is_refused_again_and_again_is_no_news(tmp_path: Path, outbound: UnixAddress) -> None:
    with start_in_process(tmp_path, outbound=outbound):
        events = several_events(outbound, expect(new_root()))
    assert all(isinstance(happening, Failed) for happening in events)
