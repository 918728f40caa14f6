"""The client's writer of requests: the content to seal, and the frame around the ciphertext."""

from __future__ import annotations

from enclave_payload.contents import REQUEST_SALT_BYTES, Delivery, Request
from enclave_payload.media import MEDIA_CODES
from enclave_payload.messages import REQUEST_ID_BYTES, SESSION_ID_BYTES, Sealed, request_id
from enclave_payload.seal import REPLY_KEY_BYTES
from enclave_payload.wire import Buffer, FrameType, frame_header

__all__ = [
    "REPLY_KEY_BYTES",
    "REQUEST_ID_BYTES",
    "REQUEST_SALT_BYTES",
    "Delivery",
    "Request",
    "Sealed",
    "request_content",
    "request_counter",
    "request_id",
    "sealed_frame",
    "sealed_parts",
]


def request_counter(request_id: bytes) -> int:
    """Return the counter in a request id."""
    return int.from_bytes(request_id[SESSION_ID_BYTES:], "big")


def request_content(request: Request) -> tuple[bytes, Buffer]:
    """Write ``u8 media type | u8 delivery | 32 bytes reply key | 32 bytes salt``, and the picture, apart."""
    head = bytes([MEDIA_CODES[request.media_type], request.delivery])
    return head + request.reply_key + request.salt, request.picture


def sealed_parts(sealed: Sealed) -> tuple[bytes, Buffer]:
    """Write the frame as two parts, before and from the ciphertext, so that the picture is not copied."""
    fields = sealed.counter.to_bytes(8, "big") + sealed.suite.to_bytes(2, "big")
    size = len(fields) + len(sealed.ciphertext)
    return frame_header(FrameType.SEALED, size) + fields, sealed.ciphertext


def sealed_frame(sealed: Sealed) -> bytes:
    """Write the whole frame: its header, then ``u64 counter | u16 suite | HPKE enc and ciphertext``."""
    return b"".join(sealed_parts(sealed))
