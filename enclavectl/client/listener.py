"""The parent's listening role: enclaves dial in, prove themselves, and deliver sealed answers.

The listener can read only the answers whose keys are in the pending store.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial

from enclavectl.client.exchange import Expectation, VerifiedEnclave
from enclavectl.client.session import request_evidence
from enclavectl.errors import EnclavectlError, PeerProtocolError
from enclavectl.net.frames import FrameStream, FrameType, WireError
from enclavectl.net.refusal import REFUSAL_BYTES
from enclavectl.protocol.answers import ANSWER_BYTES, Answer, parse_answer, taken_frame

# An enclave has its evidence in milliseconds; under load, or over a relay, in a second.
_EVIDENCE_S = 10.0
# A listener may wait for hours: the end of a connection ends the wait, not silence.
_SILENCE_S = 7 * 24 * 3600.0
# Of each kind, verified or not, a thread each. Over that the oldest gives way: an enclave dials in again.
_MAX_PEERS = 64


@dataclass(frozen=True, slots=True)
class Arrived:
    """An enclave dialed in and its evidence passed."""

    enclave: VerifiedEnclave


@dataclass(frozen=True, slots=True)
class Delivered:
    """A sealed answer from a verified enclave. Until ``confirm`` the enclave offers it to every listener.

    ``expectation`` is what the enclave was held to when it dialed in. Only its evidence is proven to come
    from it: a relay can put the answer of another enclave on its connection.
    """

    answer: Answer
    enclave: VerifiedEnclave
    expectation: Expectation
    confirm: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Failed:
    """A connection ended: its evidence was refused, it broke the protocol, or it was closed."""

    error: EnclavectlError


ListenerEvent = Arrived | Delivered | Failed


class Listener:
    """A server for enclaves that dial in, with a thread for each; ``events`` yields their events in turn."""

    def __init__(self, listening: socket.socket, expect: Callable[[], Expectation]) -> None:
        """``expect`` is asked anew for each connection: enclaves start while we listen."""
        self._listening = listening
        self._expect = expect
        self._queue: queue.Queue[ListenerEvent] = queue.Queue(maxsize=256)
        self._strangers = _Peers()
        self._verified = _Peers()

    def events(self, timeout_s: float | None) -> Generator[ListenerEvent]:
        """Yield events, until none but failures came for ``timeout_s`` seconds (None: until the caller
        stops).

        A failure is told but buys no time: an enclave that is refused dials in again every second.
        """
        threading.Thread(target=self._accept, daemon=True).start()
        left_s = timeout_s
        last_news = time.monotonic()
        try:
            while left_s is None or left_s > 0:  # also where one failure follows the other without a pause
                try:
                    happening = self._queue.get(timeout=left_s)
                except queue.Empty:
                    return
                yield happening
                if not isinstance(happening, Failed):
                    last_news = time.monotonic()
                left_s = None if timeout_s is None else last_news + timeout_s - time.monotonic()
        finally:
            # So that the enclaves dial the next listener.
            self._strangers.shut_down()
            self._verified.shut_down()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listening.accept()
            except OSError:
                return  # closed: the command is over
            self._strangers.add(sock)
            threading.Thread(target=self._converse, args=(sock,), daemon=True).start()

    def _converse(self, sock: socket.socket) -> None:
        stream = FrameStream(sock, "the enclave that dialed in")
        try:
            expectation = self._expect()
            enclave = request_evidence(stream, expectation, time.monotonic() + _EVIDENCE_S)
            self._strangers.remove(sock)
            self._verified.add(sock)
            self._queue.put(Arrived(enclave))
            stream.accept({FrameType.ANSWER: ANSWER_BYTES, FrameType.REFUSAL: REFUSAL_BYTES})
            while True:
                frame = stream.receive(time.monotonic() + _SILENCE_S)
                if frame.type is FrameType.REFUSAL:
                    raise stream.refusal_in(frame)
                answer = parse_answer(frame.body)
                confirm = partial(_confirm, sock, answer.request_id)
                self._queue.put(Delivered(answer, enclave, expectation, confirm))
        except EnclavectlError as error:
            self._queue.put(Failed(error))
        except WireError as error:
            self._queue.put(Failed(PeerProtocolError(f"the enclave that dialed in: {error}")))
        finally:
            self._strangers.remove(sock)
            self._verified.remove(sock)
            stream.close()


class _Peers:
    """Sockets, the oldest first. Over ``_MAX_PEERS`` the oldest is shut down, which its thread notices."""

    def __init__(self) -> None:
        self._sockets: dict[socket.socket, None] = {}
        self._lock = threading.Lock()

    def add(self, sock: socket.socket) -> None:
        with self._lock:
            self._sockets[sock] = None
            if len(self._sockets) > _MAX_PEERS:
                self._shut_down(next(iter(self._sockets)))

    def remove(self, sock: socket.socket) -> None:
        with self._lock:
            self._sockets.pop(sock, None)

    def shut_down(self) -> None:
        with self._lock:
            for sock in list(self._sockets):
                self._shut_down(sock)

    def _shut_down(self, sock: socket.socket) -> None:
        del self._sockets[sock]
        with contextlib.suppress(OSError):  # its peer has left already
            sock.shutdown(socket.SHUT_RDWR)


def _confirm(sock: socket.socket, request_id: bytes) -> None:
    # Not through the stream, whose time-outs are its reader's. 29 bytes always fit into an idle send buffer;
    # where the connection is gone, the next listener gets the answer again and knows no key to it.
    with contextlib.suppress(OSError):
        sock.send(taken_frame(request_id), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
