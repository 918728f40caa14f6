"""The code against tests/vectors/protocol-v1.json, read the way a stranger's client would read it."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, mlkem, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from enclave_payload.contents import (
    ContentError,
    Delivery,
    Request,
    encode_answer,
    encode_key_config,
    key_config_digest,
    parse_request,
)
from enclave_payload.media import MEDIA_CODES, MediaType
from enclave_payload.messages import (
    AnswerKind,
    Challenge,
    RefusalCode,
    answer_frame,
    parse_challenge,
    parse_sealed,
    parse_taken,
    refusal_frame,
    request_id,
    session_id,
    transcript_hash,
)
from enclave_payload.receipt import Claim, sign_claims
from enclave_payload.seal import combine_keys, pad, request_info, seal_answer, unpad
from enclave_payload.sealed import ChunkOpener, parse_header
from enclave_payload.wire import Frame, FrameReader, FrameType, WireError
from enclavectl.evidence import (
    answer_salt,
    answer_statement,
    check_outcome,
    check_statements,
    parse_receipt,
    request_statement,
)
from enclavectl.evidence.air import check_signature
from enclavectl.net.refusal import parse_refusal
from enclavectl.protocol.answers import parse_answer, parse_answer_content, parse_outcome, taken_frame
from enclavectl.protocol.evidence import challenge_body, challenge_frame, parse_evidence
from enclavectl.protocol.key_config import parse_key_config
from enclavectl.protocol.padding import padme
from enclavectl.protocol.requests import request_content
from enclavectl.protocol.sealing import open_answer
from tools import protocol_vectors

Fields: TypeAlias = Mapping[str, Any]

PATH = Path(__file__).parents[1] / "vectors" / "protocol-v1.json"
VECTORS = json.loads(PATH.read_text())
SESSION: Fields = VECTORS["session"]
PARSERS: dict[str, Callable[[bytes], object]] = {
    "challenge": parse_challenge,
    "evidence": parse_evidence,
    "sealed": parse_sealed,
    "answer": parse_answer,
    "refusal": parse_refusal,
    "request": parse_request,
}


def hexed(fields: Fields, name: str) -> bytes:
    return bytes.fromhex(fields[name])


def frame_of(data: bytes) -> Frame:
    reader = FrameReader(dict.fromkeys(FrameType, 1 << 20))
    reader.feed(data)
    frame = reader.next_frame()
    assert frame is not None
    assert not reader.is_mid_frame
    return frame


def test_the_session_opens_as_recorded() -> None:
    challenge = parse_challenge(frame_of(hexed(SESSION, "challenge_frame")).body)
    assert challenge == Challenge(hexed(SESSION, "nonce"), VECTORS["protocol_version"])
    assert challenge_frame(challenge) == hexed(SESSION, "challenge_frame")
    evidence = parse_evidence(frame_of(hexed(SESSION, "evidence_frame")).body)
    assert evidence.document == hexed(SESSION, "document")
    assert evidence.key_config == hexed(VECTORS["key_configuration"], "cbor")
    assert evidence.to_body() == hexed(SESSION, "evidence_frame")[5:]
    transcript = transcript_hash(challenge_body(challenge), evidence.to_body())
    assert transcript == hexed(SESSION, "transcript")
    assert session_id(transcript) == hexed(SESSION, "session_id")


def test_the_key_configuration_reads_as_recorded() -> None:
    recorded = VECTORS["key_configuration"]
    config = parse_key_config(hexed(recorded, "cbor"))
    assert {str(int(suite)): key.hex() for suite, key in config.public_keys.items()} == recorded[
        "public_keys"
    ]
    assert config.card.to_json() == hexed(recorded, "card_json")
    again = encode_key_config(config.public_keys, config.card, hexed(recorded, "salt"))
    assert again == hexed(recorded, "cbor")
    assert key_config_digest(hexed(recorded, "cbor")) == hexed(recorded, "user_data")


@pytest.mark.parametrize("recorded", VECTORS["requests"], ids=lambda recorded: recorded["suite_name"])
def test_a_sealed_request_opens_with_the_recorded_keys(recorded: Fields) -> None:
    private: Fields = VECTORS["private_keys"]
    keys = combine_keys(
        mlkem.MLKEM768PrivateKey.from_seed_bytes(hexed(private, "mlkem768_seed")),
        x25519.X25519PrivateKey.from_private_bytes(hexed(private, "x25519_of_hybrid")),
        x25519.X25519PrivateKey.from_private_bytes(hexed(private, "x25519")),
    )
    recorded_keys = VECTORS["key_configuration"]["public_keys"]
    assert {str(int(suite)): key.hex() for suite, key in keys.public.items()} == recorded_keys
    sealed = parse_sealed(frame_of(hexed(recorded, "frame")).body)
    assert (sealed.counter, sealed.suite) == (recorded["counter"], recorded["suite"])
    assert sealed.ciphertext == hexed(recorded, "ciphertext")
    this_id = request_id(hexed(SESSION, "session_id"), sealed.counter)
    assert this_id == hexed(recorded, "request_id")
    info = request_info(sealed.suite, this_id, hexed(SESSION, "transcript"))
    assert info == hexed(recorded, "info")
    content = keys.open(sealed.suite, sealed.ciphertext, info)
    assert content == hexed(recorded, "content")
    request = Request(
        picture=hexed(recorded, "picture"),
        media_type=MediaType(recorded["media_type"]),
        reply_key=hexed(recorded, "reply_key"),
        salt=hexed(recorded, "salt"),
        delivery=Delivery[recorded["delivery"].upper()],
    )
    assert parse_request(content) == request
    assert b"".join(request_content(request)) == content
    assert (content[0], content[1]) == (MEDIA_CODES[request.media_type], request.delivery)


@pytest.mark.parametrize("recorded", VECTORS["answers"], ids=lambda recorded: recorded["name"])
def test_an_answer_opens_and_is_sealed_to_the_same_bytes(recorded: Fields) -> None:
    answer = parse_answer(frame_of(hexed(recorded, "frame")).body)
    assert answer.request_id == hexed(recorded, "request_id")
    assert answer.kind == recorded["kind"]
    reply_key, content = hexed(recorded, "reply_key"), hexed(recorded, "cbor")
    assert open_answer(reply_key, answer.request_id, answer.kind, answer.ciphertext) == content
    assert seal_answer(reply_key, answer.request_id, answer.kind, content) == answer.ciphertext
    assert answer_frame(answer.request_id, answer.kind, answer.ciphertext) == hexed(recorded, "frame")
    if answer.kind is AnswerKind.FINAL:
        parts = parse_answer_content(content)
        outcome = parse_outcome(parts.outcome)
        assert encode_answer(outcome.to_cbor(), parts.receipt) == content
        assert (parts.receipt is None) == (outcome.problem is not None)


def test_the_receipt_reads_and_is_signed_to_the_same_bytes() -> None:
    recorded, asked = VECTORS["receipt"], VECTORS["requests"][0]
    receipt = parse_receipt(hexed(recorded, "receipt"))
    check_signature(receipt, hexed(recorded, "public_key"))
    key = ed25519.Ed25519PrivateKey.from_private_bytes(hexed(VECTORS["private_keys"], "receipt"))
    claims = cbor2.loads(receipt.payload)
    claims[Claim.ENCLAVE_MEASUREMENTS] = dict(claims[Claim.ENCLAVE_MEASUREMENTS])
    assert sign_claims(key, claims) == receipt.raw
    assert receipt.eat_nonce == hexed(SESSION, "nonce")
    assert receipt.attestation_doc_hash == hashlib.sha256(hexed(SESSION, "document")).digest()
    salt, picture = hexed(asked, "salt"), hashlib.sha256(hexed(asked, "picture")).digest()
    assert request_statement(salt, picture, asked["media_type"]) == hexed(recorded, "request_statement")
    content = parse_answer_content(hexed(VECTORS["answers"][0], "cbor"))
    assert content.receipt == receipt.raw
    assert answer_statement(answer_salt(salt), content.outcome) == hexed(recorded, "answer_statement")
    _, answered = check_statements(
        receipt, request=hexed(recorded, "request_statement"), answer=hexed(recorded, "answer_statement")
    )
    assert answered is not None
    assert check_outcome(receipt, answered) == parse_outcome(content.outcome)


def test_every_refusal_is_recorded_and_reads() -> None:
    seen = set()
    for recorded in VECTORS["refusals"]:
        refusal = parse_refusal(frame_of(hexed(recorded, "frame")).body)
        assert refusal.code.name == recorded["name"]
        assert refusal.request_id == hexed(recorded, "request_id")
        assert refusal_frame(refusal.code, refusal.request_id) == hexed(recorded, "frame")
        seen.add(refusal.code)
    assert seen == set(RefusalCode)


def test_taken_is_recorded_and_reads() -> None:
    recorded = VECTORS["taken"]
    taken = parse_taken(frame_of(hexed(recorded, "frame")).body)
    assert taken == hexed(recorded, "request_id")
    assert taken_frame(taken) == hexed(recorded, "frame")


def test_padding_is_as_recorded() -> None:
    for length, padded_length in VECTORS["padded_lengths"]:
        assert padme(length) == padded_length
    for recorded in VECTORS["padding"]:
        padded = pad(recorded["size"], hexed(recorded, "content"))
        assert padded == hexed(recorded, "padded")
        assert unpad(padded) == hexed(recorded, "content")


@pytest.mark.parametrize(
    "recorded", VECTORS["refused"], ids=lambda recorded: f"{recorded['message']}: {recorded['why']}"
)
def test_what_must_be_refused_is_refused(recorded: Fields) -> None:
    with pytest.raises((WireError, ContentError)):
        PARSERS[recorded["message"]](hexed(recorded, "body"))


def test_the_tool_writes_the_file_that_is_here() -> None:
    sealed = {request["suite_name"]: hexed(request, "ciphertext") for request in VECTORS["requests"]}
    assert json.loads(json.dumps(protocol_vectors.vectors(sealed))) == VECTORS


def test_the_sealed_model_opens_as_recorded() -> None:
    """With the library alone, as docs/protocol.md says it; and then with the payload's reader."""
    recorded: Fields = VECTORS["sealed_model"]
    header = hexed(recorded, "header")
    salt = hashlib.sha384(header).digest()
    both = HKDF(SHA256(), 64, salt, b"enclavectl sealed model keys v1").derive(hexed(recorded, "key"))
    assert both == hexed(recorded, "chunk_key") + hexed(recorded, "check")
    weights = bytes.fromhex(recorded["weights"]["piece"]) * recorded["weights"]["times"]
    cipher = AESGCM(both[:32])
    first = cipher.encrypt(bytes(12), weights[:65_536], None)
    assert first[:32] == hexed(recorded, "first_chunk_begins")
    last = cipher.encrypt(bytes(10) + b"\1\1", weights[65_536:], None)
    assert last == hexed(recorded, "last_chunk")
    file = (
        b"enclavectl sealed model v1\n" + len(header).to_bytes(4, "big") + header + both[32:] + first + last
    )
    assert (len(file), hashlib.sha256(file).hexdigest()) == (recorded["file_bytes"], recorded["file_sha256"])
    parsed = parse_header(header)
    opener = ChunkOpener(hexed(recorded, "key"), parsed, both[32:])
    assert opener.open(first) + opener.open(last) == weights
    card = parsed.card.to_json()
    commitment = hashlib.sha384(b"enclavectl model v1" + card).digest()
    assert commitment == hexed(recorded, "commitment")
    assert hashlib.sha384(bytes(48) + commitment).digest() == hexed(recorded, "pcr16")
