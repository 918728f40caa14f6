"""The parent's listening role: enclaves dial in, prove themselves, and deliver sealed answers.

The listener learns of an answer only what the keys in the pending store open.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from enclavectl.client.exchange import Expectation, VerifiedEnclave
from enclavectl.client.session import request_evidence
from enclavectl.errors import EnclavectlError, PeerProtocolError
from enclavectl.net.frames import FrameStream, FrameType, WireError
from enclavectl.net.refusal import REFUSAL_BYTES
from enclavectl.protocol.answers import ANSWER_BYTES, Answer, parse_answer, taken_frame

_EVIDENCE_S = 30.0
# A listener may wait for hours; the connection's end is what it notices, not silence.
_SILENCE_S = 7 * 24 * 3600.0
_MAX_ENCLAVES = 64


@dataclass(frozen=True, slots=True)
class Arrived:
    """An enclave dialed in and its evidence passed."""

    enclave: VerifiedEnclave


@dataclass(frozen=True, slots=True)
class Delivered:
    """A sealed answer from a verified enclave. Until ``confirm`` the enclave offers it to every listener."""

    answer: Answer
    enclave: VerifiedEnclave
    confirm: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Failed:
    """A connection ended: its evidence was refused, it broke the protocol, or it was closed."""

    error: EnclavectlError


ListenerEvent = Arrived | Delivered | Failed


class Listener:
    """Accepts enclaves in threads of its own; ``events`` yields what they bring, one after the other."""

    def __init__(self, listening: socket.socket, expect: Callable[[], Expectation]) -> None:
        """``expect`` is asked anew for each connection: enclaves start while we listen."""
        self._listening = listening
        self._expect = expect
        self._queue: queue.Queue[ListenerEvent] = queue.Queue(maxsize=256)
        self._places = threading.BoundedSemaphore(_MAX_ENCLAVES)

    def events(self, timeout_s: float | None) -> Iterator[ListenerEvent]:
        """What happens, until nothing good has for ``timeout_s`` seconds (None: until the caller stops).

        A failure is told but buys no time: an enclave that is refused dials in again every second.
        """
        threading.Thread(target=self._accept, daemon=True).start()
        last_news = time.monotonic()
        while True:
            left_s = None if timeout_s is None else max(last_news + timeout_s - time.monotonic(), 0)
            try:
                happening = self._queue.get(timeout=left_s)
            except queue.Empty:
                return
            yield happening
            if not isinstance(happening, Failed):
                last_news = time.monotonic()

    def _accept(self) -> None:
        while True:
            self._places.acquire()
            try:
                sock, _ = self._listening.accept()
            except OSError:
                return  # closed: the command is over
            threading.Thread(target=self._converse, args=(sock,), daemon=True).start()

    def _converse(self, sock: socket.socket) -> None:
        stream = FrameStream(sock, "the enclave that dialed in")
        try:
            enclave = request_evidence(stream, self._expect(), _EVIDENCE_S)
            self._queue.put(Arrived(enclave))
            stream.accept({FrameType.ANSWER: ANSWER_BYTES, FrameType.REFUSAL: REFUSAL_BYTES})
            while True:
                frame = stream.receive(time.monotonic() + _SILENCE_S)
                if frame.type is FrameType.REFUSAL:
                    raise stream.refusal_in(frame)
                answer = parse_answer(frame.body)
                self._queue.put(Delivered(answer, enclave, partial(_confirm, sock, answer.request_id)))
        except EnclavectlError as error:
            self._queue.put(Failed(error))
        except WireError as error:
            self._queue.put(Failed(PeerProtocolError(f"the enclave that dialed in: {error}")))
        finally:
            stream.close()
            with contextlib.suppress(ValueError):
                self._places.release()


def _confirm(sock: socket.socket, request_id: bytes) -> None:
    # Not through the stream, whose time-outs are its reader's. 29 bytes always fit into an idle send buffer;
    # where the connection is gone, the next listener gets the answer again and knows no key to it.
    with contextlib.suppress(OSError):
        sock.send(taken_frame(request_id), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
