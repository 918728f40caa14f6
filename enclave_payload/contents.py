"""What is inside a sealed request and a sealed answer: CBOR maps, read strictly (docs/protocol.md).

Probabilities travel as whole parts per billion and times as whole microseconds, so that no reader has
to agree with another on floating point.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import cbor2

from enclave_payload.card import CardError, ModelCard, parse_card
from enclave_payload.cbor import CborError, Value, decode
from enclave_payload.media import MAX_PICTURE_BYTES, MediaType
from enclave_payload.messages import MAX_KEY_CONFIG_BYTES, PROTOCOL_VERSION
from enclave_payload.seal import REPLY_KEY_BYTES, SuiteId
from enclave_payload.wire import Buffer

PARTS_PER_BILLION = 1_000_000_000
_MAX_HEADER_BYTES = 1024


class ContentError(Exception):
    """The opened content breaks the protocol."""


class Delivery(StrEnum):
    """Where the answer goes: back on the request's connection, or out to the parent's listener."""

    HERE = "here"
    OUT = "out"


class Problem(StrEnum):
    """Why a picture got no answer. Typed, because no exception text leaves the enclave."""

    EMPTY = "empty"
    UNREADABLE = "unreadable"
    TOO_MANY_PIXELS = "too-many-pixels"
    MORE_THAN_ONE_FRAME = "more-than-one-frame"
    UNSUPPORTED_PIXELS = "unsupported-pixels"
    NOTHING_VISIBLE = "nothing-visible"
    MODEL_FAILED = "model-failed"
    TOO_LATE = "too-late"
    OUTBOX_FULL = "outbox-full"


class Remark(StrEnum):
    """What makes an answer about a picture worth less, though it is one."""

    ONE_COLOR = "one-color"
    FEW_PIXELS = "few-pixels"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A picture, how to read it, and the fresh key for its answer (32 bytes, used for nothing else)."""

    picture: bytes = field(repr=False)
    media_type: MediaType
    reply_key: bytes = field(repr=False)
    delivery: Delivery = Delivery.HERE

    def to_parts(self) -> tuple[bytes, bytes, bytes]:
        """The content of a ``Sealed``, to be joined: ``u16 size | header | picture``; the header is CBOR."""
        header = cbor2.dumps(
            {
                "media_type": str(self.media_type),
                "reply_key": self.reply_key,
                "delivery": str(self.delivery),
            }
        )
        return len(header).to_bytes(2, "big"), header, self.picture


def parse_request(content: Buffer) -> Request:
    """Read what ``Request.to_parts`` made.

    Raises:
        ContentError: anything but that, with values in bounds.
    """
    end = 2 + int.from_bytes(content[:2], "big")
    if not 2 < end <= len(content) or len(content) - end > MAX_PICTURE_BYTES:
        raise ContentError("header or picture")
    fields = _fields(bytes(content[2:end]), {"media_type", "reply_key", "delivery"}, _MAX_HEADER_BYTES)
    reply_key = fields["reply_key"]
    if not isinstance(reply_key, bytes) or len(reply_key) != REPLY_KEY_BYTES:
        raise ContentError("reply_key")
    try:
        media_type, delivery = MediaType(fields["media_type"]), Delivery(fields["delivery"])  # type: ignore[arg-type]
    except ValueError as exc:
        raise ContentError("media_type or delivery") from exc
    return Request(
        picture=bytes(content[end:]), media_type=media_type, reply_key=reply_key, delivery=delivery
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Whole microseconds that the enclave spent on a request, measured inside it."""

    queue_us: int
    decode_us: int
    inference_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The enclave's word on a picture: probabilities in label order, or the problem; never both."""

    model_id: str
    model_sha256: str
    timings: Timings
    probabilities_ppb: Mapping[str, int] | None = None
    problem: Problem | None = None
    remarks: tuple[Remark, ...] = ()

    def to_cbor(self) -> bytes:
        """The content of a final ``Answer``."""
        return cbor2.dumps(
            {
                "model": [self.model_id, self.model_sha256],
                "timings": [self.timings.queue_us, self.timings.decode_us, self.timings.inference_us],
                "probabilities": None if self.probabilities_ppb is None else dict(self.probabilities_ppb),
                "problem": None if self.problem is None else str(self.problem),
                "remarks": [str(remark) for remark in self.remarks],
            }
        )


def parse_outcome(content: bytes) -> Outcome:
    """Read ``Outcome.to_cbor``.

    Raises:
        ContentError: anything but that map with values in bounds.
    """
    fields = _fields(content, {"model", "timings", "probabilities", "problem", "remarks"}, len(content))
    match fields:
        case {
            "model": [str(model_id), str(model_sha256)],
            "timings": [int(queue), int(decoded), int(inference)],
        }:
            timings = Timings(queue_us=queue, decode_us=decoded, inference_us=inference)
        case _:
            raise ContentError("model or timings")
    if not all(type(time_us) is int and time_us >= 0 for time_us in (queue, decoded, inference)):
        raise ContentError("timings")
    problem = fields["problem"]
    probabilities = None if fields["probabilities"] is None else _probabilities(fields["probabilities"])
    if (problem is None) is (probabilities is None):
        raise ContentError("an outcome has probabilities or a problem")
    try:
        return Outcome(
            model_id=model_id,
            model_sha256=model_sha256,
            timings=timings,
            probabilities_ppb=probabilities,
            problem=None if problem is None else Problem(problem),  # type: ignore[arg-type]
            remarks=_remarks(fields["remarks"]),
        )
    except ValueError as exc:
        raise ContentError("problem or remarks") from exc


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyConfig:
    """What the attestation document commits to: the suites with their public keys, and the model.

    The model's public part travels here so that the client knows, attested and before it sends
    anything, which model will see the picture, and how its labels read.
    """

    public_keys: Mapping[SuiteId, bytes]
    card: ModelCard

    def to_cbor(self) -> bytes:
        """The canonical encoding. Verifiers hash the bytes they receive and never encode again."""
        return cbor2.dumps(
            {
                "version": PROTOCOL_VERSION,
                "keys": {int(suite): key for suite, key in self.public_keys.items()},
                "card": self.card.to_json(),
            },
            canonical=True,
        )


def key_config_digest(key_config: bytes) -> bytes:
    """What stands in the document's ``user_data``: SHA-384, 48 bytes, domain-separated."""
    return hashlib.sha384(b"enclavectl key configuration v1" + key_config).digest()


def parse_key_config(data: bytes) -> KeyConfig:
    """Read ``KeyConfig.to_cbor``.

    Raises:
        ContentError: anything but that map with values in bounds.
    """
    fields = _fields(data, {"version", "keys", "card"}, MAX_KEY_CONFIG_BYTES)
    keys, card = fields["keys"], fields["card"]
    if fields["version"] != PROTOCOL_VERSION:
        raise ContentError("version")
    if not isinstance(keys, dict) or not isinstance(card, bytes):
        raise ContentError("keys or card")
    public_keys = {
        SuiteId(suite): key for suite, key in keys.items() if suite in set(SuiteId) and isinstance(key, bytes)
    }
    if len(public_keys) != len(keys) or not keys:
        raise ContentError("keys")
    try:
        return KeyConfig(public_keys=public_keys, card=parse_card(card))
    except CardError as exc:
        raise ContentError("card") from exc


def _fields(data: bytes, keys: set[str], limit: int) -> dict[int | str, Value]:
    try:
        value = decode(data, max_depth=4, max_bytes=limit, shortest=True)
    except CborError as exc:
        raise ContentError("not CBOR in the strict form") from exc
    if not isinstance(value, dict) or set(value) != keys:
        raise ContentError(f"expected a map of {sorted(keys)}")
    return value


def _remarks(value: Value) -> tuple[Remark, ...]:
    if not isinstance(value, list) or len(set(map(str, value))) != len(value):
        raise ContentError("remarks")
    return tuple(Remark(remark) for remark in value)  # type: ignore[arg-type]


def _probabilities(value: Value) -> dict[str, int]:
    if not isinstance(value, dict) or not value:
        raise ContentError("probabilities")
    result: dict[str, int] = {}
    for code, parts in value.items():
        # `type() is int`, because True is an int in Python and is not one in CBOR.
        if not isinstance(code, str) or type(parts) is not int or not 0 <= parts <= PARTS_PER_BILLION:
            raise ContentError("probabilities")
        result[code] = parts
    return result
