"""Any body is the one valid form of a message, which writes the same bytes again, or a WireError."""

from collections.abc import Callable
from typing import TypeAlias

from enclave_payload.messages import (
    Answer,
    AnswerKind,
    Challenge,
    Evidence,
    Refusal,
    RefusalCode,
    Sealed,
    Taken,
    parse_answer,
    parse_challenge,
    parse_evidence,
    parse_refusal,
    parse_sealed,
    parse_taken,
)
from enclave_payload.wire import HEADER_BYTES, WireError

Message: TypeAlias = Challenge | Evidence | Sealed | Answer | Refusal | Taken

_PARSERS: tuple[Callable[[bytes], Message], ...] = (
    parse_challenge,
    parse_evidence,
    parse_sealed,
    parse_answer,
    parse_refusal,
    parse_taken,
)
_MESSAGES: tuple[Message, ...] = (
    Challenge(bytes(32)),
    Evidence(bytes(16), b"document", b"key configuration"),
    Sealed(7, 1, b"ciphertext"),
    Answer(bytes(24), AnswerKind.FINAL, bytes(4112)),
    Refusal(RefusalCode.BUSY),
    Taken(bytes(24)),
)

# The first byte chooses the parser.
SEEDS: list[bytes] = [
    b"",
    *(bytes([number]) + message.to_frame()[HEADER_BYTES:] for number, message in enumerate(_MESSAGES)),
]


def one(data: bytes) -> None:
    if not data:
        return
    body = data[1:]
    try:
        message = _PARSERS[data[0] % len(_PARSERS)](body)
    except WireError:
        return
    assert message.to_frame()[HEADER_BYTES:] == body
