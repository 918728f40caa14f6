"""Any bytes to a release port are frames that it answers or refuses; none makes it serve."""

from __future__ import annotations

import socket

from enclave_payload.card import load_card
from enclave_payload.nsm import Nsm, NsmError
from enclave_payload.receipt import ReceiptSigner
from enclave_payload.release import Hooks, ReleasePort, State
from enclave_payload.seal import generate_keys
from enclave_payload.sealed import SealedHeader, encode_header
from enclave_payload.wire import FrameType, encode_frame
from enclavectl.models.find import PACKAGED_DIR

_KEYS = generate_keys()
_SIGNER = ReceiptSigner(lambda _: (True, bytes(48)), is_device=False)
_DRAFT = SealedHeader(raw=b"", card=load_card(PACKAGED_DIR), size=5, file_id=bytes(16), release={})
_OFFER = encode_frame(FrameType.OFFER, encode_header(_DRAFT), bytes(32))
SEEDS: list[bytes] = [
    _OFFER,
    _OFFER + encode_frame(FrameType.STATUS) + encode_frame(FrameType.CHUNK, bytes(21)),
    _OFFER + encode_frame(FrameType.CHALLENGE, b"\0\1" + bytes(32)),
    _OFFER + encode_frame(FrameType.KMS_ANSWER, b"cms"),
    b"",
]


def _no_nsm(request: bytes) -> bytes:
    raise NsmError(f"no NSM for {len(request)} bytes")


def _no_sink(card: object) -> socket.socket:
    raise AssertionError(f"weights of {card} without their key")


def one(data: bytes) -> None:
    hooks = Hooks(pin=lambda _: None, receive=_no_sink, lease=lambda _: None, log=lambda _: None)
    port = ReleasePort(Nsm(_no_nsm), _KEYS, _SIGNER, hooks, wait_s=0)
    theirs, ours = socket.socketpair()
    with theirs:
        # What fits a socket's buffer at once; more would wait for its reader, which is this thread.
        theirs.sendall(data[: 64 * 1024])
        theirs.shutdown(socket.SHUT_WR)
        port.attend(ours)
    assert port.state in {State.EMPTY, State.MEASURED}
