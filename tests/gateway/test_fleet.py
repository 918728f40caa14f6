"""Several enclaves that attest, behind one gateway: releases, restarts and kills under real clients."""

from __future__ import annotations

import signal
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from enclave_payload.decoder import Finding
from enclave_payload.media import MediaType
from enclave_payload.wire import Buffer
from enclavectl.backends.local.pki import DevelopmentRoot
from enclavectl.client.batch import Losses, Reply, classify
from enclavectl.client.exchange import Expectation
from enclavectl.client.reconnection import Reconnections
from enclavectl.client.session import Client
from enclavectl.errors import AttestationError, EnclaveBusy, EnclaveError, StateError
from enclavectl.net.address import parse_address
from enclavectl.net.carriage import encode_challenge
from tests.gateway.process import GatewayProcess, free_port, gateway, wait_until
from tests.gateway.test_command import status_of
from tests.gateway.tunnel import Way
from tests.gateway.wire import record
from tests.in_process import PCRS, Brightness, InProcess, expect, gray, new_root, start_in_process

CLIENTS = 50
PICTURES = 12
OTHER_PCRS = {index: bytes([index + 100]) * 48 for index in PCRS}
SETTINGS = {"connections_per_address": 200, "requests_per_s": 10_000, "requests_burst": 10_000}


class NotingBrightness(Brightness):
    """Also says that a picture has come."""

    def __init__(self, gate: threading.Event, asked: threading.Event) -> None:
        super().__init__(gate)
        self._asked = asked

    def classify(
        self,
        picture: Buffer,
        media_type: MediaType,
        may_stay: Callable[[], bool],
        meanwhile: Callable[[], None] = lambda: None,
    ) -> Finding:
        self._asked.set()
        return super().classify(picture, media_type, may_stay, meanwhile)


@dataclass(slots=True)
class Enclave:
    """An enclave that can end and begin again at its address, as its host's supervisor would have it."""

    folder: Path
    root: DevelopmentRoot
    release: str = "skin-1"
    gate: threading.Event = field(default_factory=threading.Event)
    asked: threading.Event = field(default_factory=threading.Event)
    _stack: ExitStack = field(default_factory=ExitStack)

    def begin(self) -> InProcess:
        self.folder.mkdir(exist_ok=True)
        pcrs = PCRS if self.release == "skin-1" else OTHER_PCRS
        classifiers = [NotingBrightness(self.gate, self.asked) for _ in range(2)]
        found = start_in_process(self.folder, root=self.root, pcrs=pcrs, classifiers=classifiers)
        return self._stack.enter_context(found)

    def end(self) -> None:
        self._stack.close()

    @property
    def destination(self) -> str:
        return f"{self.release}@unix:{self.folder}/enclave.sock"


@contextmanager
def fleet(folder: Path, releases: Sequence[str]) -> Iterator[list[Enclave]]:
    root = new_root()
    enclaves = [Enclave(folder / f"e{number}", root, release) for number, release in enumerate(releases)]
    with ExitStack() as stack:
        for one in enclaves:
            one.gate.set()
            one.begin()
            stack.callback(one.end)
            stack.callback(one.gate.set)
        yield enclaves


@contextmanager
def relay(
    folder: Path, enclaves: Sequence[Enclave], *arguments: str, **more: int
) -> Iterator[GatewayProcess]:
    folder.mkdir(exist_ok=True)
    to, settings = [one.destination for one in enclaves], {**SETTINGS, **more}
    with gateway(folder / "g", to, *arguments, probe_s=1, **settings) as running:
        wait_until(lambda: running.notes.count(" answers") >= len(enclaves), "all enclaves answer")
        yield running


def ask(port: int, expectation: Expectation, values: Sequence[int], path: str = "/v1") -> list[Reply]:
    """Ask as the command does: after a loss by another session, within its bounds."""
    address = parse_address(f"ws://127.0.0.1:{port}{path}")
    left, clients = Reconnections(), list[Client]()

    def connect() -> Client:
        clients.append(Client.connect(address, expectation, timeout_s=60, reconnections=left))
        return clients[-1]

    def renew(error: EnclaveError) -> Client | None:
        pause_s = left.next_pause_s()
        if pause_s is None:
            raise error
        threading.Event().wait(pause_s)
        return connect()

    replies = []
    for reply in classify(
        connect(), [gray(value) for value in values], timeout_s=60, in_flight=2, renew=renew,
        losses=Losses(per_picture=4),
    ):  # fmt: skip
        left.answered()
        replies.append(reply)
    for client in clients:
        client.close()
    return replies


def light(reply: Reply) -> int:
    assert reply.outcome is not None, reply.error
    assert reply.outcome.probabilities_ppb is not None
    return round(reply.outcome.probabilities_ppb["light"] / 1_000_000_000 * 255)


def test_a_rolling_restart_of_four_enclaves_under_fifty_clients_fails_no_picture(tmp_path: Path) -> None:
    values = [5 * number for number in range(PICTURES)]
    rounds = [0] * CLIENTS
    done = threading.Event()

    def work(number: int) -> None:
        while not done.is_set():
            replies = ask(running.port, expectation, values)
            assert {reply.index: light(reply) for reply in replies} == dict(enumerate(values))
            assert len(replies) == PICTURES, "each picture has one answer"
            rounds[number] += 1

    with fleet(tmp_path, ["skin-1"] * 4) as enclaves, relay(tmp_path, enclaves) as running:
        expectation = expect(enclaves[0].root)
        with ThreadPoolExecutor(CLIENTS) as threads:
            working = [threads.submit(work, number) for number in range(CLIENTS)]
            try:
                for number, one in enumerate(enclaves):
                    one.end()
                    one.begin()
                    wait_until(lambda said=5 + number: running.notes.count(" answers") >= said, "it is back")
            finally:
                done.set()
            for one_client in working:
                one_client.result(120)
        assert min(rounds) >= 1
        assert "enclave_ended" in {entry["outcome"] for entry in running.records}, "restarts did hit sessions"


def test_sigterm_under_fifty_clients_loses_and_repeats_no_request(tmp_path: Path) -> None:
    """Two gateways behind a balancer that asks /readyz for each connection; the first one is stopped."""
    values = [5 * number for number in range(6)]

    def dial() -> socket.socket:
        is_first = _listens(first.port) and status_of(first.port, "/readyz") == 200
        return socket.create_connection(("127.0.0.1", (first if is_first else second).port))

    with fleet(tmp_path, ["skin-1"] * 2) as enclaves, ExitStack() as stack:
        metrics = free_port()
        first = stack.enter_context(
            relay(tmp_path / "1", enclaves, "--metrics", f"127.0.0.1:{metrics}", drain_accept_s=5)
        )
        second = stack.enter_context(relay(tmp_path / "2", enclaves))
        balancer = socket.create_server(("127.0.0.1", 0), backlog=CLIENTS)
        address = balancer.getsockname()[1]
        stack.enter_context(record(balancer, dial))
        expectation = expect(enclaves[0].root)
        for one in enclaves:
            one.gate.clear()
        with ThreadPoolExecutor(CLIENTS) as threads:
            asking = [threads.submit(ask, address, expectation, values) for _ in range(CLIENTS)]
            try:
                wait_until(lambda: in_flight(metrics) == 2 * CLIENTS, "each client has two under way")
                first.process.send_signal(signal.SIGTERM)
                wait_until(lambda: status_of(first.port, "/readyz") == 503, "it says that it is not ready")
                late = Way(port=first.port, websocket=False).open()
                late.send(encode_challenge(bytes(32)))
                assert late.receive(), "it goes on, since a balancer takes a while to notice"
                late.close()
                wait_until(lambda: not _listens(first.port), "the drain begins")
            finally:
                for one in enclaves:
                    one.gate.set()
            for one_client in asking:
                replies = one_client.result(120)
                assert {reply.index: light(reply) for reply in replies} == dict(enumerate(values))
        assert first.process.wait(60) == 0
        assert second.stop() == 0
        sessions = [entry for entry in first.records if entry["requests"]]
        assert {entry["outcome"] for entry in sessions} == {"stopping"}
        assert len(sessions) == CLIENTS
        # What the gateways passed on was answered, and nothing was asked twice.
        asked = sum(entry["requests"] for entry in (*sessions, *second.records))
        assert asked == CLIENTS * len(values)


def in_flight(metrics_port: int) -> float:
    """The requests without an answer, of all enclaves."""
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/metrics", timeout=60) as page:
        lines = page.read().decode().splitlines()
    wanted = "enclavectl_gateway_requests_in_flight{"
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(wanted))


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def test_a_client_that_pins_a_release_gets_no_other(tmp_path: Path) -> None:
    with fleet(tmp_path, ["skin-1", "skin-1", "skin-2", "skin-2"]) as enclaves:
        root = enclaves[0].root
        old, new = expect(root), expect(root, OTHER_PCRS)
        with relay(tmp_path, enclaves) as running:
            for expectation, path in ((old, "/v1/skin-1"), (new, "/v1/skin-2")):
                for _ in range(4):
                    assert light(ask(running.port, expectation, [255], path)[0]) == 255
            with pytest.raises(AttestationError) as caught:
                ask(running.port, old, [255], "/v1/skin-2")
            assert caught.value.code == "pcr-mismatch"
            for one in enclaves[:2]:
                one.end()
            wait_until(lambda: running.notes.count("skin-1 ") > 4 or _is_refused(running.port, old), "gone")
            with pytest.raises((EnclaveBusy, StateError)):
                ask(running.port, old, [255], "/v1/skin-1")
            assert light(ask(running.port, new, [255], "/v1/skin-2")[0]) == 255
            sessions = {entry["release"] for entry in running.records if entry["requests"]}
    assert sessions == {"skin-1", "skin-2"}


def _is_refused(port: int, expectation: Expectation) -> bool:
    try:
        ask(port, expectation, [255], "/v1/skin-1")
    except (EnclaveError, StateError):
        return True
    return False


def test_an_enclave_that_ends_in_the_middle_of_a_request_costs_no_picture(tmp_path: Path) -> None:
    with fleet(tmp_path, ["skin-1", "skin-1"]) as enclaves, relay(tmp_path, enclaves) as running:
        for one in enclaves:
            one.gate.clear()
        expectation = expect(enclaves[0].root)
        with ThreadPoolExecutor(1) as threads:
            asking = threads.submit(ask, running.port, expectation, [0, 255, 51])
            wait_until(lambda: _serving(enclaves) is not None, "a request is under way")
            first = _serving(enclaves)
            assert first is not None
            other = enclaves[1 - enclaves.index(first)]
            other.gate.set()
            ending = threading.Thread(target=first.end)
            ending.start()
            replies = asking.result(60)
            first.gate.set()
            ending.join()
        assert sorted(light(reply) for reply in replies) == [0, 51, 255]
        assert len(replies) == 3
        assert {reply.session for reply in replies} == {1}


def _serving(enclaves: Sequence[Enclave]) -> Enclave | None:
    """The enclave whose classifier holds a picture."""
    return next((one for one in enclaves if one.asked.is_set()), None)
