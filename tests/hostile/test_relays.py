"""A relay, or an enclave, that holds the client, fills its memory, or lies about which request it answers.

The time-out that the user names is met in each phase, whatever the peer does meanwhile. The goal is one
second; ``in_time`` tells it from "when the peer leaves" on a machine that does other things.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from enclave_payload.contents import SALT_BYTES, encode_key_config
from enclave_payload.messages import REQUEST_ID_BYTES, AnswerKind, RefusalCode, answer_frame, refusal_frame
from enclave_payload.seal import generate_keys
from enclave_payload.session import ChallengeReceived, EnclaveSession
from enclave_payload.wire import FrameType, encode_frame
from enclavectl.client.batch import classify
from enclavectl.client.listener import Listener
from enclavectl.client.pictures import Picture
from enclavectl.client.session import Client
from enclavectl.errors import EnclaveBusy, EnclavectlError, EnclaveLost, PeerProtocolError
from enclavectl.net.address import Address, HybridVsockAddress, UnixAddress
from enclavectl.net.transport import listening
from enclavectl.protocol.media import MediaType
from tests.evil import Lies, Script, enclave_script, start_evil
from tests.in_process import CARD, attest, expect, gray, new_root, simulated_nsm
from tests.in_time import in_time

TIMEOUT_S = 0.5
# Of who answers: to fail for the reason of its own, on a busy machine, too.
PATIENCE_S = 10.0
ROOT = new_root()
KEYS = generate_keys()
# More than the buffers of two sockets, so that sending it needs a peer that reads.
LARGE = Picture("large.png", MediaType.PNG, os.urandom(8 * 1024 * 1024))
DRIP_S = 0.0005  # below a millisecond, which a wait that was too lenient would grant anew each time

Say = Callable[[socket.socket], None]


def drip(data: bytes) -> Say:
    """Say it a byte at a time, then nothing."""

    def say(sock: socket.socket) -> None:
        for byte in data:
            sock.sendall(bytes([byte]))
            time.sleep(DRIP_S)

    return say


def flood(frame: bytes) -> Say:
    """Say it without end."""

    def say(sock: socket.socket) -> None:
        while True:
            sock.sendall(frame * 100)

    return say


def silence(sock: socket.socket) -> None:
    """Say nothing until the client has gone; what it sent stays unread."""
    while True:
        with contextlib.suppress(BlockingIOError):
            if not sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
                return
        try:
            sock.send(b"", socket.MSG_DONTWAIT)
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                return
        except OSError:
            return
        time.sleep(0.02)


def attesting(then: Say) -> Script:
    """Genuine evidence, then ``then``."""

    def script(sock: socket.socket) -> None:
        session = EnclaveSession()
        [challenge] = session.receive(sock.recv(65536))
        assert isinstance(challenge, ChallengeReceived)
        config = encode_key_config(KEYS.public, CARD, bytes(SALT_BYTES))
        document = attest(ROOT, challenge.nonce, config)
        sock.sendall(session.evidence(document, config))
        then(sock)

    return script


@contextmanager
def connected(address: Address) -> Iterator[Client]:
    """A verified session with the time-out of these tests, at the first try that the machine has time for."""
    while True:
        with contextlib.suppress(EnclaveLost):
            client = Client.connect(address, expect(ROOT), timeout_s=TIMEOUT_S)
            break
    with client:
        yield client


NOT_OURS = answer_frame(bytes(REQUEST_ID_BYTES), AnswerKind.FINAL, bytes(4112))
EVIDENCE_AT_LENGTH = (50_000).to_bytes(4, "big") + bytes([FrameType.EVIDENCE]) + bytes(49_000)
ANSWER_AT_LENGTH = encode_frame(FrameType.ANSWER, bytes(4137))[:-1]


class TestConnect:
    """Nobody takes the connection."""

    def test_where_nobody_accepts(self, tmp_path: Path) -> None:
        address = UnixAddress(tmp_path / "s")
        with socket.socket(socket.AF_UNIX) as full, socket.socket(socket.AF_UNIX) as waiting:
            full.bind(str(address.path))
            full.listen(0)
            waiting.connect(str(address.path))
            self.assert_lost(address)

    def test_where_a_relay_of_vsock_drips(self, tmp_path: Path) -> None:
        with start_evil(UnixAddress(tmp_path / "s"), drip(b"OK 1234567890123456789012345678")):
            self.assert_lost(HybridVsockAddress(tmp_path / "s", 5005))

    def test_where_a_relay_of_vsock_is_silent(self, tmp_path: Path) -> None:
        with start_evil(UnixAddress(tmp_path / "s"), silence):
            self.assert_lost(HybridVsockAddress(tmp_path / "s", 5005))

    @staticmethod
    def assert_lost(address: Address) -> None:
        with in_time(TIMEOUT_S), pytest.raises(EnclavectlError):
            Client.connect(address, expect(ROOT), timeout_s=TIMEOUT_S)


class TestChallenge:
    """The connection is taken and no evidence comes."""

    @pytest.mark.parametrize(
        ("script", "error", "timeout_s"),
        [
            (silence, EnclaveLost, TIMEOUT_S),
            (drip(EVIDENCE_AT_LENGTH), EnclaveLost, TIMEOUT_S),
            # It is asked again for half of this.
            (flood(refusal_frame(RefusalCode.BUSY)), EnclaveBusy, 3.0),
            (flood(bytes(1000)), PeerProtocolError, PATIENCE_S),
        ],
    )
    def test_in_time(
        self, tmp_path: Path, script: Script, error: type[EnclavectlError], timeout_s: float
    ) -> None:
        address = UnixAddress(tmp_path / "s")
        with start_evil(address, script), in_time(timeout_s), pytest.raises(error):
            Client.connect(address, expect(ROOT), timeout_s=timeout_s)


class TestSending:
    """Genuine evidence; then a peer that does not read the picture."""

    @pytest.mark.parametrize(
        "then",
        [
            silence,
            flood(NOT_OURS),
            flood(refusal_frame(RefusalCode.BUSY, bytes([1]) * REQUEST_ID_BYTES)),
            drip(ANSWER_AT_LENGTH),
        ],
    )
    def test_in_time_and_in_little_memory(self, tmp_path: Path, then: Say) -> None:
        address = UnixAddress(tmp_path / "s")
        with start_evil(address, attesting(then)), connected(address) as client:
            pending = client.prepare(LARGE)
            tracemalloc.start()
            try:
                with in_time(TIMEOUT_S), pytest.raises(EnclavectlError):
                    client.submit(LARGE, pending)
                _, most = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
        assert most < 4 * len(LARGE.data)  # the picture, padded and sealed


class TestWaiting:
    """Genuine evidence, and the picture is read; then no answer to it."""

    @pytest.mark.parametrize(
        "then",
        [
            drip(ANSWER_AT_LENGTH),
            flood(NOT_OURS),
            lambda _: None,
        ],
        ids=["drip", "flood", "silence"],
    )
    def test_in_time(self, tmp_path: Path, then: Say) -> None:
        def read_then(sock: socket.socket) -> None:
            sock.recv(65536)
            then(sock)

        address = UnixAddress(tmp_path / "s")
        with start_evil(address, attesting(read_then)), connected(address) as client, in_time(TIMEOUT_S):
            [reply] = classify(client, [gray(0)], timeout_s=TIMEOUT_S)
        assert isinstance(reply.error, EnclavectlError)


class TestListening:
    """A peer that dials in and fails, again and again, and one that proves nothing."""

    @pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n", b""])
    def test_in_time(self, tmp_path: Path, data: bytes) -> None:
        address, over = UnixAddress(tmp_path / "s"), threading.Event()

        def dial() -> None:
            while not over.is_set():
                with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
                    sock.connect(str(address.path))
                    sock.send(data)
                    if not data:
                        over.wait(10)

        dialing = threading.Thread(target=dial)
        with listening(address) as sock:
            dialing.start()
            try:
                with in_time(TIMEOUT_S):
                    for _ in Listener(sock, lambda: expect(ROOT)).events(TIMEOUT_S):
                        pass
            finally:
                over.set()
                sock.shutdown(socket.SHUT_RDWR)
                dialing.join()


def test_an_enclave_that_is_busy_at_first_is_asked_again(tmp_path: Path) -> None:
    honest, refusals = enclave_script(simulated_nsm(ROOT), Lies()), iter(range(3))

    def script(sock: socket.socket) -> None:
        if next(refusals, None) is None:
            honest(sock)
        else:
            # Before the challenge, as an enclave without a place does.
            sock.sendall(refusal_frame(RefusalCode.BUSY))
            sock.shutdown(socket.SHUT_RDWR)

    address = UnixAddress(tmp_path / "s")
    with start_evil(address, script), Client.connect(address, expect(ROOT), timeout_s=20) as client:
        assert client.enclave.document.release == "test"
    assert next(refusals, None) is None


def test_answers_that_came_before_the_enclave_stopped_reading_are_kept(tmp_path: Path) -> None:
    """A hundred answers of other requests would be one too many: only what is under way is taken."""
    address = UnixAddress(tmp_path / "s")
    script = enclave_script(simulated_nsm(ROOT), Lies(answers=2))
    with start_evil(address, script), Client.connect(address, expect(ROOT), timeout_s=10) as client:
        pictures = [gray(0), gray(1), LARGE, gray(2)]
        replies = list(classify(client, pictures, timeout_s=10, in_flight=4))
    assert sorted(reply.index for reply in replies if reply.outcome is not None) == [0, 1]
    assert all(isinstance(reply.error, EnclaveLost) for reply in replies if reply.outcome is None)
