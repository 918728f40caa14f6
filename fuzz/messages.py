"""Any body is the one valid form of a message, which writes the same bytes again, or a WireError."""

from collections.abc import Callable

from enclave_payload.messages import (
    AnswerKind,
    Challenge,
    RefusalCode,
    Sealed,
    answer_frame,
    parse_challenge,
    parse_sealed,
    parse_taken,
    refusal_frame,
)
from enclave_payload.wire import HEADER_BYTES, WireError
from enclavectl.net.refusal import parse_refusal
from enclavectl.protocol.answers import parse_answer, taken_frame
from enclavectl.protocol.evidence import Evidence, challenge_body, parse_evidence
from enclavectl.protocol.requests import sealed_frame


def _answer(body: bytes) -> bytes:
    answer = parse_answer(body)
    return answer_frame(answer.request_id, answer.kind, answer.ciphertext)[HEADER_BYTES:]


def _refusal(body: bytes) -> bytes:
    refusal = parse_refusal(body)
    return refusal_frame(refusal.code, refusal.request_id)[HEADER_BYTES:]


# Each reads a body and writes it again.
_AGAIN: tuple[Callable[[bytes], bytes], ...] = (
    lambda body: challenge_body(parse_challenge(body)),
    lambda body: parse_evidence(body).to_body(),
    lambda body: sealed_frame(parse_sealed(body))[HEADER_BYTES:],
    _answer,
    _refusal,
    lambda body: taken_frame(parse_taken(body))[HEADER_BYTES:],
)
_BODIES = (
    challenge_body(Challenge(bytes(32))),
    Evidence(b"document", b"key configuration").to_body(),
    sealed_frame(Sealed(7, 1, b"ciphertext"))[HEADER_BYTES:],
    answer_frame(bytes(24), AnswerKind.FINAL, bytes(4112))[HEADER_BYTES:],
    refusal_frame(RefusalCode.BUSY)[HEADER_BYTES:],
    bytes(24),
)

# The first byte chooses the parser.
SEEDS: list[bytes] = [b"", *(bytes([number]) + body for number, body in enumerate(_BODIES))]


def one(data: bytes) -> None:
    if not data:
        return
    body = data[1:]
    try:
        again = _AGAIN[data[0] % len(_AGAIN)](body)
    except WireError:
        return
    assert again == body
