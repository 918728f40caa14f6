"""An enclave that speaks the real protocol from the real pieces, and lies where it is told to.

It counts what it receives: after refused evidence that must be the challenge and nothing more.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from enclave_payload.contents import (
    SALT_BYTES,
    Outcome,
    Timings,
    encode_answer,
    encode_key_config,
    key_config_digest,
)
from enclave_payload.messages import CHALLENGE_BYTES, AnswerKind, answer_frame
from enclave_payload.nsm import Attester
from enclave_payload.seal import EnclaveKeys, generate_keys, seal_answer
from enclave_payload.session import ChallengeReceived, EnclaveSession, SealedReceived, open_request
from enclave_payload.wire import HEADER_BYTES
from enclavectl.net.address import UnixAddress
from enclavectl.net.transport import listen
from tests.in_process import CARD, SIGNER

CHALLENGE_FRAME_BYTES = HEADER_BYTES + CHALLENGE_BYTES
ANSWER_PPB = {"dark": 250_000_000, "light": 750_000_000}

Script = Callable[[socket.socket], None]


@dataclass(slots=True)
class Evil:
    """One that listens. ``received`` is every byte that any peer sent, of all connections."""

    address: UnixAddress
    received: bytearray = field(default_factory=bytearray)


class _Counting(socket.socket):
    """A socket that keeps what it receives."""

    received: bytearray

    def recv(self, size: int, flags: int = 0) -> bytes:
        data = super().recv(size, flags)
        self.received += data
        return data


@contextmanager
def start_evil(address: UnixAddress, script: Script) -> Iterator[Evil]:
    """Each connection gets ``script``; at the end of the block all of them are over."""
    evil = Evil(address)
    threads: list[threading.Thread] = []
    connected: list[socket.socket] = []

    def converse(sock: socket.socket) -> None:
        with sock, suppress(OSError):
            script(sock)
            while sock.recv(65536):
                pass  # a refused client closes; count what it says until then

    def accept(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                plain, _ = listener.accept()
                sock = _Counting(fileno=plain.detach())
                sock.received = evil.received
                connected.append(sock)
                threads.append(threading.Thread(target=converse, args=(sock,)))
                threads[-1].start()

    with listen(address) as listener:
        acceptor = threading.Thread(target=accept, args=(listener,))
        acceptor.start()
        try:
            yield evil
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            acceptor.join()
            for sock in connected:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lies:
    """What differs from an honest enclave; functions take the truth and return what is said instead.

    It answers ``answers`` requests, with ``frame`` if there is one, and hangs up at the next, and at a
    picture of the bytes ``dies_of``. With no answers, it hears its peer out.
    """

    nonce: Callable[[bytes], bytes] = lambda nonce: nonce
    document: Callable[[bytes], bytes] = lambda document: document
    key_config: Callable[[bytes], bytes] = lambda config: config
    receipt_key: bytes = SIGNER.public_key
    receipt: Callable[[bytes], bytes | None] = lambda receipt: receipt
    answers: int = 0
    frame: bytes | None = None
    dies_of: bytes | None = None


def other_key_config(_true: bytes) -> bytes:
    """A well-formed key configuration whose keys the enclave never attested."""
    return encode_key_config(generate_keys().public, CARD, os.urandom(SALT_BYTES))


def enclave_script(attester: Attester, lies: Lies) -> Script:
    """An enclave that attests with ``attester`` and otherwise does as ``lies`` says."""
    keys = generate_keys()
    key_config = encode_key_config(keys.public, CARD, os.urandom(SALT_BYTES))

    def is_deadly(sealed: SealedReceived) -> bool:
        return lies.dies_of is not None and bytes(open_request(keys, sealed).picture) == lies.dies_of

    def script(sock: socket.socket) -> None:
        session = EnclaveSession()
        answered = 0
        while data := sock.recv(65536):
            for event in session.receive(data):
                match event:
                    case ChallengeReceived(nonce):
                        document = attester.attest(
                            nonce=lies.nonce(nonce),
                            user_data=key_config_digest(key_config),
                            public_key=lies.receipt_key,
                        )
                        sock.sendall(session.evidence(lies.document(document), lies.key_config(key_config)))
                        if not lies.answers:
                            return
                    case SealedReceived() as sealed:
                        if answered == lies.answers or is_deadly(sealed):
                            sock.shutdown(socket.SHUT_RDWR)
                            return
                        sock.sendall(_answer(keys, sealed, lies) if lies.frame is None else lies.frame)
                        answered += 1

    return script


def _answer(keys: EnclaveKeys, sealed: SealedReceived, lies: Lies) -> bytes:
    request = open_request(keys, sealed)
    outcome = Outcome(
        model_id=CARD.model_id,
        model_sha256=CARD.sha256,
        timings=Timings(queue_us=0, decode_us=0, inference_us=0),
        probabilities_ppb=ANSWER_PPB,
    )
    encoded = outcome.to_cbor()
    receipt = lies.receipt(SIGNER.sign(SIGNER.draft(sealed.session, request, CARD), outcome, encoded))
    content = encode_answer(encoded, receipt)
    sealed_answer = seal_answer(request.reply_key, sealed.request_id, AnswerKind.FINAL, content)
    return answer_frame(sealed.request_id, AnswerKind.FINAL, sealed_answer)


def raw_script(reply: bytes, *, hang_up: bool) -> Script:
    """Whoever is not an enclave: answers the first bytes with ``reply``, then leaves or says no more."""

    def script(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(reply)
        if hang_up:
            sock.shutdown(socket.SHUT_RDWR)

    return script
