"""What is inside a sealed request, a sealed answer and the key configuration (docs/protocol.md).

A request is written by whoever has our public key, so its header is fixed bytes. Answers and the key
configuration are written here and only read by clients, which check more than we do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from enclave_payload.card import ModelCard
from enclave_payload.cbor import encode
from enclave_payload.media import MAX_PICTURE_BYTES, MEDIA_CODES, MediaType
from enclave_payload.messages import PROTOCOL_VERSION
from enclave_payload.seal import REPLY_KEY_BYTES, SuiteId
from enclave_payload.verdict import Problem, Remark
from enclave_payload.wire import Buffer

# Of a request, for its receipt: nobody can guess it, so a receipt tells nobody which picture it is about.
REQUEST_SALT_BYTES = 32
REQUEST_HEADER_BYTES = 2 + REPLY_KEY_BYTES + REQUEST_SALT_BYTES
# As long as a session id: two sessions that draw the same salt for the same nonce are not to be expected.
SALT_BYTES = 16

_SALT_START = 2 + REPLY_KEY_BYTES
_MEDIA_TYPES = {code: media_type for media_type, code in MEDIA_CODES.items()}


class ContentError(Exception):
    """The opened content breaks the protocol."""


class Delivery(IntEnum):
    """Where the answer goes: back on the request's connection, or out to the parent's listener."""

    HERE = 1
    OUT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A picture, how to read it, and the fresh key for its answer (32 bytes, used for nothing else).

    ``salt`` blinds the statements of the answer's receipt; the client draws it for this request alone.
    """

    picture: Buffer = field(repr=False)
    media_type: MediaType
    reply_key: bytes = field(repr=False)
    salt: bytes = field(repr=False)
    delivery: Delivery = Delivery.HERE


def parse_request(content: Buffer) -> Request:
    """Read ``u8 media type | u8 delivery | 32 bytes reply key | 32 bytes salt | picture``.

    The seal gives the content's exact length, so that the picture is all that follows the header.

    Raises:
        ContentError: an unknown media type or delivery, or a length out of bounds.
    """
    picture_bytes = len(content) - REQUEST_HEADER_BYTES
    if not 0 <= picture_bytes <= MAX_PICTURE_BYTES:
        raise ContentError(f"a request has {REQUEST_HEADER_BYTES} bytes and a picture of at most 16 MiB")
    try:
        media_type, delivery = _MEDIA_TYPES[content[0]], Delivery(content[1])
    except (KeyError, ValueError) as exc:
        raise ContentError("an unknown media type or delivery") from exc
    return Request(
        picture=content[REQUEST_HEADER_BYTES:],
        media_type=media_type,
        reply_key=bytes(content[2:_SALT_START]),
        salt=bytes(content[_SALT_START:REQUEST_HEADER_BYTES]),
        delivery=delivery,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Whole microseconds that the enclave spent on a request, measured inside it.

    How much of the decoder's time is ``inference_us`` is the decoder's own word.
    """

    queue_us: int
    decode_us: int
    inference_us: int

    @property
    def decoder_us(self) -> int:
        """The time of the decoder as a whole, which it does not measure itself."""
        return self.decode_us + self.inference_us


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The enclave's word on a picture: the probabilities of all labels, those of some, or the problem.

    ``probabilities_ppb`` are by label code, in label order. ``top_ppb`` are by the label's index, the most
    probable first; ``rest_ppb`` is then the sum of the other labels, if it means something.
    """

    model_id: str
    model_sha256: str
    timings: Timings
    probabilities_ppb: Mapping[str, int] | None = None
    top_ppb: Mapping[int, int] | None = None
    rest_ppb: int = 0
    problem: Problem | None = None
    remarks: tuple[Remark, ...] = ()

    def to_cbor(self) -> bytes:
        """Encode the bytes that an answer has, and that its receipt commits to."""
        ppb, top = self.probabilities_ppb, self.top_ppb
        return encode(
            {
                "model": [self.model_id, self.model_sha256],
                "timings": [self.timings.queue_us, self.timings.decode_us, self.timings.inference_us],
                # Pairs and no map: a deterministic map is sorted, and the order of labels means something.
                "probabilities": None if ppb is None else [[code, parts] for code, parts in ppb.items()],
                "top": None if top is None else [[index, parts] for index, parts in top.items()],
                "rest": self.rest_ppb,
                "problem": None if self.problem is None else str(self.problem),
                "remarks": [str(remark) for remark in self.remarks],
            }
        )


def answer_of(
    card: ModelCard, timings: Timings, parts: Sequence[int], remarks: tuple[Remark, ...]
) -> Outcome:
    """Return the outcome for the probabilities of all labels, in label order; ``top`` of them if so carded.

    With an index for a label's code 64 of 1,024 labels fit the constant size of an answer.
    """
    top = card.output.top
    if top is None:
        codes = (label.code for label in card.labels)
        probabilities, best, rest = dict(zip(codes, parts, strict=True)), None, 0
    else:
        # Sorting is stable: of labels that are as probable, the first one comes first.
        ranked = sorted(range(len(parts)), key=lambda index: -parts[index])
        probabilities, best = None, {index: parts[index] for index in ranked[:top]}
        rest = sum(parts[index] for index in ranked[top:]) if card.output.scores.is_exclusive else 0
    return Outcome(
        model_id=card.model_id,
        model_sha256=card.sha256,
        timings=timings,
        probabilities_ppb=probabilities,
        top_ppb=best,
        rest_ppb=rest,
        remarks=remarks,
    )


def encode_answer(outcome: bytes, receipt: bytes | None) -> bytes:
    """Encode the content of a final ``Answer``: an encoded outcome, and its receipt unless it is a problem.

    The outcome travels as the bytes that were hashed, so that nobody needs to encode it again.
    """
    return encode({"outcome": outcome, "receipt": receipt})


def encode_key_config(public_keys: Mapping[SuiteId, bytes], card: ModelCard, salt: bytes) -> bytes:
    """Encode what the attestation document commits to: the public keys by suite, and the model.

    The card travels here so that the client knows, attested and before it sends anything, which model will
    see the picture, and how its labels read. ``salt`` is drawn for each session: with it no two sessions
    share a transcript, not even where documents repeat (an NSM without a signature and with a clock of whole
    seconds), and no answer key is used for two answers.
    """
    return encode(
        {
            "version": PROTOCOL_VERSION,
            "keys": {int(suite): key for suite, key in public_keys.items()},
            "card": card.to_json(),
            "salt": salt,
        }
    )


def key_config_digest(key_config: bytes) -> bytes:
    """Hash the key configuration to the document's ``user_data``: SHA-384 behind a label of its own."""
    return hashlib.sha384(b"enclavectl key configuration v1" + key_config).digest()
