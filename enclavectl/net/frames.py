"""Frames over a connected stream, with deadlines, and a client's errors for refusals."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping

from enclave_payload.wire import Buffer, Frame, FrameReader, FrameType, WireError
from enclavectl.errors import (
    AttestationError,
    EnclaveBusy,
    EnclavectlError,
    EnclaveLost,
    PeerProtocolError,
    StateError,
)
from enclavectl.net.refusal import Refusal, RefusalCode, parse_refusal
from enclavectl.net.stream import ByteStream

__all__ = ["Frame", "FrameStream", "FrameType", "WireError"]

# On the parent, vsock handles writes of this size well; inside the enclave the bound is 16 KiB. A Unix socket
# takes any size, and a larger one wakes the reader less often. A WebSocket's messages have 64 KiB at most.
_VSOCK_SEND_BYTES = 64 * 1024
_UNIX_SEND_BYTES = 1024 * 1024
_RECV_BYTES = 64 * 1024  # an answer or an attestation document fits in one call


class FrameStream:
    """Frames over a connected stream, with a deadline for each; any error is an ``EnclavectlError``."""

    def __init__(self, sock: ByteStream, name: str, *, is_remote: bool = False) -> None:
        """Wrap a connected stream; ``name`` names the peer in messages.

        With ``is_remote``, hints are for somebody who cannot look at the enclave's host.
        """
        self._sock = sock
        is_unix = isinstance(sock, socket.socket) and sock.family == socket.AF_UNIX
        self._send_bytes = _UNIX_SEND_BYTES if is_unix else _VSOCK_SEND_BYTES
        self._name = name
        self._is_remote = is_remote
        self._reader = FrameReader({})

    def accept(self, limits: Mapping[FrameType, int]) -> None:
        """Accept only these frame types from now on, each with its limit on the body in bytes."""
        self._reader.limits = limits

    def send(self, head: bytes, body: Buffer = b"", *, deadline: float) -> None:
        """Send all of ``head`` and ``body``, by ``deadline`` on the monotonic clock.

        Raises:
            EnclaveLost: the peer is gone or does not read. It may have sent a refusal: call ``receive`` for
                it.
        """
        try:
            parts = [memoryview(head), memoryview(body)]
            while parts[0] or parts[1]:
                # At the deadline no time is left to wait, but what the socket takes at once still goes.
                self._sock.settimeout(max(deadline - time.monotonic(), 0))
                sent = self._sock.sendmsg([parts[0], parts[1][: self._send_bytes - len(parts[0])]])
                in_head = min(sent, len(parts[0]))
                parts = [parts[0][in_head:], parts[1][sent - in_head :]]
        except OSError as exc:
            raise self._lost("stopped reading") from exc

    def receive(self, deadline: float) -> Frame:
        """Return the next frame, by ``deadline`` on the monotonic clock.

        After the deadline it returns only what has arrived.

        Raises:
            EnclaveLost: the stream ended, or the deadline passed.
            PeerProtocolError: the bytes are not an acceptable frame.
        """
        try:
            while (frame := self._reader.next_frame()) is None:
                # No minimum: a peer that sends a byte a millisecond must not stretch the deadline.
                self._sock.settimeout(max(deadline - time.monotonic(), 0))
                data = self._sock.recv(_RECV_BYTES)
                if not data:
                    cut = " in the middle of a message" if self._reader.is_mid_frame else ""
                    raise self._lost(f"closed the connection{cut}")
                self._reader.feed(data)
        except WireError as exc:
            raise PeerProtocolError(
                f"{self._name}: expected a message of enclavectl's protocol, found other bytes ({exc})",
                hint="is this the enclave's port, and does it run a payload of this release?",
            ) from exc
        except (TimeoutError, BlockingIOError) as exc:
            raise self._lost("did not answer in time") from exc
        except OSError as exc:
            raise self._lost(f"broke the connection ({exc.strerror or exc})") from exc
        return frame

    def refusal(self, refusal: Refusal) -> EnclavectlError:
        """Turn a refusal into the error for the user. It is unauthenticated: its reason may be a lie."""
        kind, text, hint = _REFUSALS[refusal.code]
        if self._is_remote:
            hint = _REMOTE_HINTS.get(refusal.code, hint)
        return kind(
            f"{self._name} {text}", hint=hint, code=f"refused-{refusal.code.name.lower().replace('_', '-')}"
        )

    def refusal_in(self, frame: Frame) -> EnclavectlError:
        """Parse the refusal in a frame and turn it into the error for the user."""
        try:
            return self.refusal(parse_refusal(frame.body))
        except WireError as exc:
            return PeerProtocolError(f"{self._name} sent a refusal that cannot be read ({exc})")

    def close(self) -> None:
        """End the connection."""
        self._sock.close()

    def _lost(self, what: str) -> EnclaveLost:
        hint = _REMOTE_LOST if self._is_remote else "enclavectl console shows its last output"
        return EnclaveLost(f"{self._name} {what}", hint=hint)


_PEER = "use a client and an enclave of the same release"
_REFUSALS: dict[RefusalCode, tuple[type[EnclavectlError], str, str]] = {
    RefusalCode.VERSION: (PeerProtocolError, "does not speak protocol version 1", _PEER),
    RefusalCode.BUSY: (EnclaveBusy, "is busy", "try again later, or with fewer pictures at a time"),
    RefusalCode.UNREADABLE: (PeerProtocolError, "could not open what we sealed", _PEER),
    RefusalCode.REPLAYED: (PeerProtocolError, "saw a request twice", "something between repeats traffic"),
    RefusalCode.STOPPING: (EnclaveLost, "is stopping", "enclavectl list shows what runs"),
    RefusalCode.PROTOCOL: (PeerProtocolError, "did not understand us", _PEER),
    RefusalCode.NO_EVIDENCE: (
        AttestationError,
        "could not get an attestation document from its NSM",
        "enclavectl console shows why",
    ),
    RefusalCode.SLOW: (EnclaveLost, "gave up waiting for us", "try again; is this machine overloaded?"),
    RefusalCode.NOT_READY: (
        StateError,
        "is not in a state for that: it has no offer yet, or has its key already",
        "enclavectl describe shows its state; a sealed model is offered once",
    ),
}
_REMOTE_LOST = "try again; enclavectl remote check NAME says how far it gets"
_REMOTE_HINTS = {
    # It says no more to a client that it does not know: frames over TLS have no place for a status.
    RefusalCode.PROTOCOL: "does its gateway demand --client-cert, or wss:// with --token-file?",
    RefusalCode.STOPPING: "try again: its gateway may have another",
    RefusalCode.NO_EVIDENCE: "try again; if it stays, its operator can see why",
    RefusalCode.SLOW: "try again; is the network slow, or this machine overloaded?",
}
