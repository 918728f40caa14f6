"""The parent's side of an enclave's release port: offer a sealed model, relay for its owner, bring chunks."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from enclave_payload.release import State
from enclave_payload.wire import encode_frame
from enclavectl.errors import EnclaveError, PeerProtocolError, StateError
from enclavectl.net.address import Address, HybridVsockAddress, UnixAddress, VsockAddress
from enclavectl.net.frames import Frame, FrameStream, FrameType
from enclavectl.net.refusal import REFUSAL_BYTES
from enclavectl.net.stream import ByteStream
from enclavectl.net.transport import open_stream
from enclavectl.weights.sealed_file import SealedFile

PORT = 5007
_MAX_STATUS_BYTES = 64
_MAX_DOCUMENT_BYTES = 32 * 1024
_RELAY_BYTES = 64 * 1024
# Neither side of a relay says when it has something: each is asked in turn for so long.
_RELAY_TURN_S = 0.02


@dataclass(frozen=True, slots=True)
class Status:
    """What the enclave says of itself: unproven words, good for waiting and for showing."""

    state: State
    reason: str


def release_address(address: Address) -> Address:
    """Return the release port beside an enclave's port for pictures.

    Raises:
        StateError: the address is a gateway's, which leads to pictures' ports only.
    """
    match address:
        case UnixAddress(path):
            return UnixAddress(path.with_name("release.sock"))
        case VsockAddress(cid, _):
            return VsockAddress(cid, PORT)
        case HybridVsockAddress(path, _):
            return HybridVsockAddress(path, PORT)
    raise StateError(f"{address}: expected an enclave of this host, found a gateway")


class ReleaseConnection:
    """One connection to a release port."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        """Connect.

        Raises:
            StateError: nothing listens there.
            EnclaveLost: nobody answered in time.
        """
        self._timeout_s = timeout_s
        self._stream = FrameStream(open_stream(address, timeout_s), f"the enclave at {address}")
        self._stream.accept(
            {
                FrameType.STATUS: _MAX_STATUS_BYTES,
                FrameType.RECIPIENT: _MAX_DOCUMENT_BYTES,
                FrameType.REFUSAL: REFUSAL_BYTES,
            }
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def status(self) -> Status:
        """Ask for the enclave's state."""
        return self._status(self._ask(encode_frame(FrameType.STATUS)))

    def offer(self, sealed: SealedFile) -> None:
        """Offer the sealed model, which the enclave measures. Only once in its life.

        Raises:
            StateError: it was offered another model before.
            EnclaveError: it refuses the header.
        """
        status = self._status(self._ask(encode_frame(FrameType.OFFER, sealed.header.raw, sealed.check)))
        if status.state is not State.MEASURED:
            raise EnclaveError(
                f"{sealed.path}: expected that the enclave measures this model, found that it refuses the "
                f"header ({status.reason or 'no reason'})",
                hint="is the enclave's image of this release? enclavectl model show FILE reads the header",
                code="offer-refused",
            )

    def recipient(self) -> bytes:
        """Return the document that KMS is to encrypt the key to."""
        frame = self._ask(encode_frame(FrameType.RECIPIENT))
        if frame.type is not FrameType.RECIPIENT:
            raise PeerProtocolError("the enclave answered with something else than its document")
        return bytes(frame.body)

    def bring_kms_answer(self, answer: bytes) -> None:
        """Hand KMS's answer in.

        Raises:
            EnclaveError: the enclave cannot use it.
        """
        status = self._status(self._ask(encode_frame(FrameType.KMS_ANSWER, answer)))
        if status.state is not State.KEYED:
            raise EnclaveError(
                "the enclave cannot use what KMS answered: it is no key of this file",
                hint="was the file sealed under this key and context? enclavectl model show says which",
                code="not-for-us",
            )

    def bring_chunks(self, chunks: Iterable[bytes]) -> None:
        """Bring the sealed weights; return when the enclave serves.

        Raises:
            EnclaveError: the enclave could not open them, and has ended.
        """
        for chunk in chunks:
            self._stream.send(encode_frame(FrameType.CHUNK, chunk), deadline=self._deadline())
        status = self._status(self._stream.receive(self._deadline()))
        if status.state is not State.SERVING:
            raise EnclaveError("the enclave has the weights and does not serve", code="not-serving")

    def _ask(self, frame: bytes) -> Frame:
        deadline = self._deadline()
        self._stream.send(frame, deadline=deadline)
        return self._stream.receive(deadline)

    def _status(self, frame: Frame) -> Status:
        if frame.type is FrameType.REFUSAL:
            raise self._stream.refusal_in(frame)
        if frame.type is not FrameType.STATUS or not frame.body or frame.body[0] not in set(State):
            raise PeerProtocolError("the enclave's release port said something that is no state")
        return Status(State(frame.body[0]), bytes(frame.body[1:]).decode("ascii", errors="replace"))

    def _deadline(self) -> float:
        return time.monotonic() + self._timeout_s


def relay(owner: ByteStream, enclave: ByteStream, timeout_s: float) -> None:
    """Copy bytes between the model's owner and the enclave until one of them ends.

    Nothing is read here that could be opened here.

    Raises:
        OSError: a stream broke.
    """
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < timeout_s:
        for source, sink in ((owner, enclave), (enclave, owner)):
            source.settimeout(_RELAY_TURN_S)
            try:
                data = source.recv(_RELAY_BYTES)
            except (TimeoutError, BlockingIOError):
                continue
            if not data:
                return
            quiet_since = time.monotonic()
            sink.settimeout(timeout_s)
            view = memoryview(data)
            while view:
                view = view[sink.sendmsg([view]) :]
