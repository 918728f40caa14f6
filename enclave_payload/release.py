"""The release port: how a runtime without weights gets them. One connection at a time.

::

    EMPTY --offer--> MEASURED --key--> KEYED --chunks--> (weights loaded) --> SERVING

The parent brings the offer (header and check) and the chunks, and need not be trusted with either. The key
comes from the model's owner, sealed to this session as a picture would be, or from AWS KMS, encrypted to a
key in this enclave's document. Anything but the right key is refused and costs the next try a wait. After
KEYED the first failure of a chunk ends the enclave.
"""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from enclave_payload.card import ModelCard
from enclave_payload.cbor import CborError, decode, encode
from enclave_payload.cms import MAX_CMS_BYTES, NotForUsError, open_cms
from enclave_payload.connection import SEND_BYTES
from enclave_payload.evidence import EvidenceParts
from enclave_payload.messages import (
    CHALLENGE_BYTES,
    AnswerKind,
    RefusalCode,
    answer_frame,
    refusal_frame,
)
from enclave_payload.nsm import Nsm, NsmError
from enclave_payload.receipt import ReceiptSigner
from enclave_payload.seal import REPLY_KEY_BYTES, EnclaveKeys, SealError, seal_answer
from enclave_payload.sealed import (
    CHECK_BYTES,
    CHUNK_BYTES,
    MAX_HEADER_BYTES,
    TAG_BYTES,
    ChunkOpener,
    SealedError,
    SealedHeader,
    is_lease,
    parse_header,
)
from enclave_payload.session import ChallengeReceived, EnclaveSession, SealedReceived, SessionError
from enclave_payload.wire import Buffer, Frame, FrameReader, FrameType, WireError, encode_frame

# The media type of a request that holds a model's key: no picture's (media), so that neither passes for one.
MODEL_KEY = 128
_KEY_HEADER_BYTES = 2 + REPLY_KEY_BYTES
_MAX_KEY_BODY_BYTES = 256
# An X-Wing or X25519 encapsulation (1,120 bytes at most), the padded content and a tag.
_MAX_SEALED_KEY_BYTES = 2048
# The owner's verification takes milliseconds; a person may look at the log first.
_QUIET_S = 60.0
# From the key to the last chunk: 64 MiB over vsock take seconds.
_CHUNKS_S = 600.0
# At most 16 false keys a minute. Nobody guesses 32 bytes; this bounds what the tries cost.
FALSE_KEY_WAIT_S = 60 / 16
_RECV_BYTES = 64 * 1024
_LIMITS = {
    FrameType.CHALLENGE: CHALLENGE_BYTES,
    FrameType.OFFER: MAX_HEADER_BYTES + CHECK_BYTES,
    FrameType.RECIPIENT: 0,
    FrameType.KMS_ANSWER: MAX_CMS_BYTES,
    FrameType.CHUNK: CHUNK_BYTES + TAG_BYTES,
    FrameType.STATUS: 0,
}


class State(IntEnum):
    """How far the enclave is."""

    EMPTY = 0
    MEASURED = 1
    KEYED = 2
    SERVING = 3


class ReleaseFailed(Exception):
    """A failure after the key was there, or of the NSM: the enclave must end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What the release causes outside. ``pin`` measures the card; ``receive`` returns what takes its weights.

    ``lease`` is told, once there is a key, after how many seconds the enclave must have ended.
    """

    pin: Callable[[ModelCard], None]
    receive: Callable[[ModelCard], socket.socket]
    lease: Callable[[int], None]
    log: Callable[[str], None]


class _Peer:
    """One connection to the release port."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(_QUIET_S)
        self._sock = sock
        self._reader = FrameReader(_LIMITS)

    def receive(self, limits: dict[FrameType, int] = _LIMITS) -> Frame | None:
        self._reader.limits = limits
        while (frame := self._reader.next_frame()) is None:
            data = self._sock.recv(_RECV_BYTES)
            if not data:
                return None
            self._reader.feed(data)
        return frame

    def send(self, frame: bytes) -> None:
        for start in range(0, len(frame), SEND_BYTES):
            self._sock.sendall(frame[start : start + SEND_BYTES])

    def close(self) -> None:
        self._sock.close()


class ReleasePort:
    """Serves the release port: first until the weights are there, then to say that they are."""

    def __init__(
        self,
        nsm: Nsm,
        keys: EnclaveKeys,
        signer: ReceiptSigner,
        hooks: Hooks,
        wait_s: float = FALSE_KEY_WAIT_S,
    ) -> None:
        self._nsm = nsm
        self._keys = keys
        self._signer = signer
        self._hooks = hooks
        self._wait_s = wait_s
        self._state = State.EMPTY
        self._header: SealedHeader | None = None
        self._check = b""
        self._opener: ChunkOpener | None = None
        self._recipient: rsa.RSAPrivateKey | None = None
        self._bringer: _Peer | None = None

    def wait_for_weights(self, listener: socket.socket) -> None:
        """Serve until the last chunk was opened and handed on. Its bringer waits for ``serve``.

        Raises:
            ReleaseFailed: the enclave must end.
        """
        while self._bringer is None:
            listener.settimeout(_CHUNKS_S if self._state is State.KEYED else None)
            try:
                sock, _ = listener.accept()
            except TimeoutError as exc:
                raise ReleaseFailed("no chunks came after the key") from exc
            self.attend(sock)

    def serve(self, listener: socket.socket) -> None:
        """Tell whoever brought the weights, and from now on whoever asks, that the enclave serves."""
        self._state = State.SERVING
        listener.settimeout(None)
        if self._bringer is not None:
            peer, self._bringer = self._bringer, None
            self._attend(peer, self._status())
        while True:
            sock, _ = listener.accept()
            self.attend(sock)

    @property
    def state(self) -> State:
        """How far the enclave is."""
        return self._state

    def attend(self, sock: socket.socket) -> None:
        """Serve one connection to its end.

        Raises:
            ReleaseFailed: the enclave must end.
        """
        self._attend(_Peer(sock))

    def _attend(self, peer: _Peer, first: bytes = b"") -> None:
        """Serve one connection to its end; a peer's mistake costs its connection."""
        try:
            peer.send(first)
            while (frame := peer.receive()) is not None:
                if not self._on_frame(peer, frame):
                    return  # the last chunk: `serve` goes on with it
        except (WireError, SessionError, SealError) as error:
            if self._state is State.KEYED and isinstance(error, WireError):
                peer.close()
                raise ReleaseFailed("what came after the key is no chunk") from error
            code = error.code if isinstance(error, SessionError) else RefusalCode.UNREADABLE
            self._refuse(peer, RefusalCode.PROTOCOL if isinstance(error, WireError) else code)
        except NsmError as error:
            self._hooks.log(f"no attestation document: {error}")
            self._refuse(peer, RefusalCode.NO_EVIDENCE)
        except ReleaseFailed:
            peer.close()
            raise
        except OSError as error:
            self._hooks.log(f"release: a connection was lost ({error.strerror or type(error).__name__})")
        peer.close()

    def _refuse(self, peer: _Peer, code: RefusalCode) -> None:
        self._hooks.log(f"release: refused, {code.name}")
        try:
            peer.send(refusal_frame(code))
        except OSError as error:
            self._hooks.log(f"release: the refusal did not arrive ({error.strerror})")

    def _on_frame(self, peer: _Peer, frame: Frame) -> bool:
        """Do what the frame asks for; False if the peer waits for `serve` from now on."""
        match frame.type, self._state:
            case FrameType.STATUS, _:
                peer.send(self._status())
            case FrameType.OFFER, State.EMPTY:
                peer.send(self._status(self._take_offer(frame.body)))
            case FrameType.CHALLENGE, State.MEASURED:
                self._converse(peer, frame.body)
            case FrameType.RECIPIENT, State.MEASURED:
                peer.send(encode_frame(FrameType.RECIPIENT, self._recipient_document()))
            case FrameType.KMS_ANSWER, State.MEASURED:
                peer.send(self._status(self._take_kms_answer(frame.body)))
            case FrameType.CHUNK, State.KEYED:
                self._take_chunks(peer, frame)
                self._bringer = peer
                return False
            case _:
                raise SessionError(RefusalCode.NOT_READY)
        return True

    def _status(self, reason: str = "") -> bytes:
        """Write ``u8 state | reason``; the reason is empty unless something was refused."""
        return encode_frame(FrameType.STATUS, bytes([self._state]), reason.encode())

    def _take_offer(self, body: Buffer) -> str:
        """Measure the card of the one offer. A bad one is refused before anything is measured."""
        raw, check = bytes(body[:-CHECK_BYTES]), bytes(body[-CHECK_BYTES:])
        try:
            header = parse_header(raw)
        except SealedError as error:
            return error.code
        self._hooks.pin(header.card)
        self._header, self._check = header, check
        self._state = State.MEASURED
        self._hooks.log(
            f"measured {header.card.model_id}; waiting for the key of file {header.file_id.hex()}"
        )
        return ""

    def _offered(self) -> SealedHeader:
        if self._header is None:
            raise SessionError(RefusalCode.NOT_READY)
        return self._header

    def _converse(self, peer: _Peer, challenge: Buffer) -> None:
        """Prove this enclave to the model's owner, and take the key that comes back."""
        session = EnclaveSession()
        parts = EvidenceParts(self._keys, self._signer, self._nsm, self._offered().card)
        for event in session.receive(encode_frame(FrameType.CHALLENGE, challenge)):
            if isinstance(event, ChallengeReceived):
                peer.send(parts.answer(session, event.nonce))
        frame = peer.receive({FrameType.SEALED: _MAX_SEALED_KEY_BYTES})
        if frame is None:
            return  # the owner refuses this enclave, and says so in the owner's log only
        for event in session.receive(encode_frame(FrameType.SEALED, frame.body)):
            if isinstance(event, SealedReceived):
                content = bytes(self._keys.open(event.suite, event.ciphertext, event.info))
                reply_key, reason = self._take_sealed_key(content)
                answer = encode({"accepted": not reason, "reason": reason or None})
                sealed = seal_answer(reply_key, event.request_id, AnswerKind.FINAL, answer)
                peer.send(answer_frame(event.request_id, AnswerKind.FINAL, sealed))

    def _take_sealed_key(self, content: bytes) -> tuple[bytes, str]:
        """Read ``u8 128 | u8 1 | 32 bytes reply key | CBOR``; return the reply key and why it is refused."""
        head, body = content[:_KEY_HEADER_BYTES], content[_KEY_HEADER_BYTES:]
        if len(head) != _KEY_HEADER_BYTES or head[:2] != bytes([MODEL_KEY, 1]):
            raise SessionError(RefusalCode.UNREADABLE)
        try:
            value = decode(body, max_bytes=_MAX_KEY_BODY_BYTES)
        except CborError as exc:
            raise SessionError(RefusalCode.UNREADABLE) from exc
        match value:
            case {"file": bytes(file_id), "key": bytes(key), "lease_s": lease_s} if is_lease(lease_s):
                # One encoding: with another key in it, or twice the same, these would be other bytes.
                if encode({"file": file_id, "key": key, "lease_s": lease_s}) == body:
                    is_ours = file_id == self._offered().file_id
                    lease = lease_s if isinstance(lease_s, int) else None
                    return head[2:], self._take_key(key, lease) if is_ours else "other-file"
        raise SessionError(RefusalCode.UNREADABLE)

    def _recipient_document(self) -> bytes:
        """Make the document that KMS encrypts to. Its RSA key is made once and used for this release only."""
        if self._recipient is None:
            self._recipient = rsa.generate_private_key(65537, 2048)
        public = self._recipient.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        header = hashlib.sha384(self._offered().raw).digest()
        digest = hashlib.sha384(b"enclavectl kms release v1" + header).digest()
        return self._nsm.attest(nonce=None, user_data=digest, public_key=public)

    def _take_kms_answer(self, body: Buffer) -> str:
        """Take the key in KMS's answer. One reason for all that can be wrong: no oracle for the parent."""
        if self._recipient is None:
            return "not-for-us"
        try:
            key = open_cms(bytes(body), self._recipient)
        except NotForUsError:
            key = b""
        return "not-for-us" if self._take_key(key, self._offered().lease_s) else ""

    def _take_key(self, key: bytes, lease_s: int | None) -> str:
        """Go on with the file's key; return why it is refused, after the wait that every false key costs."""
        try:
            self._opener = ChunkOpener(key, self._offered(), self._check)
        except SealedError as error:
            time.sleep(self._wait_s)
            return error.code
        self._recipient = None
        self._state = State.KEYED
        self._hooks.log("the key is there" + ("" if lease_s is None else f", for {lease_s} s"))
        if lease_s is not None:
            self._hooks.lease(lease_s)
        return ""

    def _take_chunks(self, peer: _Peer, frame: Frame) -> None:
        """Open chunk after chunk and hand the weights on: they are never whole in this process."""
        opener, self._opener = self._opener, None
        if opener is None:
            raise ReleaseFailed("chunks came twice")
        try:
            with self._hooks.receive(self._offered().card) as sink:
                sink.sendall(opener.open(frame.body))
                while not opener.is_done:
                    following = peer.receive({FrameType.CHUNK: CHUNK_BYTES + TAG_BYTES})
                    # The end of the stream is a chunk of no bytes, which no file has.
                    sink.sendall(opener.open(b"" if following is None else following.body))
        except (SealedError, WireError, OSError) as exc:
            raise ReleaseFailed(f"the weights cannot be opened: {exc}") from exc
