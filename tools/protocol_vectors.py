"""Write tests/vectors/protocol-v1.json again: ``python -m tools.protocol_vectors``.

Everything in it follows from the constants below, except for the sealed requests: HPKE is randomized, so
their ciphertexts are kept as long as they open to what they should, and made anew otherwise. A run that
changes nothing leaves the file as it is: ``git diff --exit-code tests/vectors`` proves it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ed25519, mlkem, x25519

from enclave_payload.card import (
    Filter,
    Fit,
    Label,
    ModelCard,
    ModelInput,
    ModelOutput,
    Scores,
    model_commitment,
    model_register,
)
from enclave_payload.cbor import Encodable
from enclave_payload.contents import (
    Delivery,
    Outcome,
    Request,
    Timings,
    encode_answer,
    encode_key_config,
    key_config_digest,
)
from enclave_payload.media import MediaType
from enclave_payload.messages import (
    NO_REQUEST,
    AnswerKind,
    Challenge,
    RefusalCode,
    Sealed,
    answer_frame,
    refusal_frame,
    request_id,
    session_id,
    transcript_hash,
)
from enclave_payload.receipt import (
    PROFILE,
    Claim,
    answer_salt,
    answer_statement,
    request_statement,
    sign_claims,
)
from enclave_payload.seal import (
    EnclaveKeys,
    SealError,
    SuiteId,
    combine_keys,
    pad,
    request_info,
    seal_answer,
)
from enclave_payload.sealed import MAGIC, SealedHeader, derive_keys, encode_header
from enclave_payload.verdict import Problem
from enclave_payload.wire import FrameType, encode_frame
from enclavectl.protocol.answers import taken_frame
from enclavectl.protocol.evidence import Evidence, challenge_body, challenge_frame
from enclavectl.protocol.padding import padme
from enclavectl.protocol.requests import request_content, sealed_frame
from enclavectl.protocol.sealing import seal_request
from enclavectl.weights.sealed_file import seal_chunks

PATH = Path(__file__).resolve().parents[1] / "tests" / "vectors" / "protocol-v1.json"


def stretched(name: str, size: int) -> bytes:
    """``size`` bytes that anyone can make again: SHAKE-256 of the name."""
    return hashlib.shake_256(f"enclavectl vector {name}".encode()).digest(size)


PRIVATE = {
    "mlkem768_seed": stretched("ML-KEM-768 seed", 64),
    "x25519_of_hybrid": stretched("X25519 of the hybrid", 32),
    "x25519": stretched("X25519", 32),
    "receipt": stretched("receipt key", 32),
}
RECEIPT_KEY = ed25519.Ed25519PrivateKey.from_private_bytes(PRIVATE["receipt"])
CARD = ModelCard(
    model_id="vector-model",
    sha256=stretched("weights", 32).hex(),
    input=ModelInput(
        width=224,
        height=224,
        fit=Fit.STRETCH,
        filter=Filter.BILINEAR,
        mean=("127.5",) * 3,
        std=("127.5",) * 3,
    ),
    output=ModelOutput(scores=Scores.SOFTMAX),
    labels=(Label(code="mel", name="Melanoma"), Label(code="nv", name="Nævus mélanocytaire")),
    notice="No diagnosis.",
)
CHALLENGE = Challenge(stretched("nonce", 32))
SALT = stretched("salt", 16)
DOCUMENT = stretched("stands for an attestation document", 100)
TIMINGS = Timings(queue_us=0, decode_us=23, inference_us=4_294_967_296)
SAID = Outcome(
    model_id=CARD.model_id,
    model_sha256=CARD.sha256,
    timings=TIMINGS,
    probabilities_ppb={"mel": 999_999_999, "nv": 1},
)


def private_keys(private: dict[str, bytes]) -> EnclaveKeys:
    """Rebuild the enclave's keys from their recorded private parts."""
    return combine_keys(
        mlkem.MLKEM768PrivateKey.from_seed_bytes(private["mlkem768_seed"]),
        x25519.X25519PrivateKey.from_private_bytes(private["x25519_of_hybrid"]),
        x25519.X25519PrivateKey.from_private_bytes(private["x25519"]),
    )


def vectors(sealed_before: dict[str, bytes]) -> dict[str, object]:
    """Make the whole file. ``sealed_before`` has ciphertexts by name; those that still open are kept."""
    keys = private_keys(PRIVATE)
    config = encode_key_config(keys.public, CARD, SALT)
    evidence = Evidence(DOCUMENT, config)
    transcript = transcript_hash(challenge_body(CHALLENGE), evidence.to_body())
    session = session_id(transcript)
    return {
        "schema": "enclavectl.protocol-vectors/1",
        "protocol_version": 1,
        "private_keys": {name: value.hex() for name, value in PRIVATE.items()},
        "key_configuration": {
            "public_keys": {str(int(suite)): key.hex() for suite, key in keys.public.items()},
            "card_json": CARD.to_json().hex(),
            "salt": SALT.hex(),
            "cbor": config.hex(),
            "user_data": key_config_digest(config).hex(),
        },
        "session": {
            "nonce": CHALLENGE.nonce.hex(),
            "challenge_frame": challenge_frame(CHALLENGE).hex(),
            "document": DOCUMENT.hex(),
            "evidence_frame": encode_frame(FrameType.EVIDENCE, evidence.to_body()).hex(),
            "transcript": transcript.hex(),
            "session_id": session.hex(),
        },
        "requests": [
            _request(keys, transcript, suite, counter, sealed_before)
            for counter, suite in ((0, SuiteId.MLKEM768_X25519), (7, SuiteId.X25519))
        ],
        "receipt": _receipt(),
        "answers": [_answer(session, *answer) for answer in _answers()],
        "refusals": [
            {
                "code": int(code),
                "name": code.name,
                "request_id": this.hex(),
                "frame": refusal_frame(code, this).hex(),
            }
            for code in RefusalCode
            for this in (
                [NO_REQUEST] if code is not RefusalCode.BUSY else [NO_REQUEST, request_id(session, 7)]
            )
        ],
        "taken": {
            "request_id": request_id(session, 7).hex(),
            "frame": taken_frame(request_id(session, 7)).hex(),
        },
        "padded_lengths": [
            [length, padme(length)] for length in (4, 5, 9, 127, 1000, 1025, 65_537, 10**6, 16 * 2**20)
        ],
        "padding": [
            {"content": content.hex(), "size": size, "padded": pad(size, content).hex()}
            for content, size in ((b"", 4), (b"", 7), (b"abc", 7), (b"abc", 12))
        ],
        "sealed_model": _sealed_model(),
        "refused": [
            {"message": message, "body": body.hex(), "why": why} for message, body, why in _refused(evidence)
        ],
    }


def _request(
    keys: EnclaveKeys, transcript: bytes, suite: SuiteId, counter: int, sealed_before: dict[str, bytes]
) -> dict[str, object]:
    this_id = request_id(session_id(transcript), counter)
    request = Request(
        picture=stretched("stands for a picture", 50),
        media_type=MediaType.JPEG if counter else MediaType.PNG,
        reply_key=stretched(f"reply key {counter}", 32),
        salt=stretched(f"salt {counter}", 32),
        delivery=Delivery.OUT if counter else Delivery.HERE,
    )
    info = request_info(suite, this_id, transcript)
    ciphertext = sealed_before.get(suite.name, b"")
    try:
        is_good = keys.open(suite, ciphertext, info) == b"".join(request_content(request))
    except SealError:
        is_good = False
    if not is_good:
        ciphertext = seal_request(suite, keys.public[suite], request_content(request), info)
    return {
        "suite": int(suite),
        "suite_name": suite.name,
        "counter": counter,
        "request_id": this_id.hex(),
        "info": info.hex(),
        "picture": request.picture.hex(),
        "media_type": str(request.media_type),
        "reply_key": request.reply_key.hex(),
        "salt": request.salt.hex(),
        "delivery": request.delivery.name.lower(),
        "content": b"".join(request_content(request)).hex(),
        "ciphertext": ciphertext.hex(),
        "frame": sealed_frame(Sealed(counter, suite, ciphertext)).hex(),
    }


def _receipt() -> dict[str, object]:
    """Return a receipt with what it commits to; its statements are of request 0 and of its answer."""
    salt, picture = stretched("salt 0", 32), stretched("stands for a picture", 50)
    asked = request_statement(salt, hashlib.sha256(picture).digest(), str(MediaType.PNG))
    answered = answer_statement(answer_salt(salt), SAID.to_cbor())
    claims: dict[int, Encodable] = {
        Claim.ISS: "enclavectl",
        Claim.IAT: 1_795_824_000,
        Claim.CTI: stretched("cti", 16),
        Claim.EAT_NONCE: CHALLENGE.nonce,
        Claim.EAT_PROFILE: PROFILE,
        Claim.MODEL_ID: CARD.model_id,
        Claim.MODEL_VERSION: "1",
        Claim.MODEL_HASH: bytes.fromhex(CARD.sha256),
        Claim.REQUEST_HASH: hashlib.sha256(asked).digest(),
        Claim.RESPONSE_HASH: hashlib.sha256(answered).digest(),
        Claim.ATTESTATION_DOC_HASH: hashlib.sha256(DOCUMENT).digest(),
        Claim.ENCLAVE_MEASUREMENTS: {
            "measurement_type": "nitro-pcr",
            **{f"pcr{index}": stretched(f"PCR{index}", 48) for index in (0, 1, 2, 8)},
        },
        Claim.POLICY_VERSION: "enclavectl protocol 1",
        Claim.SEQUENCE_NUMBER: 24,
        Claim.EXECUTION_TIME_MS: 4_294_968,
        Claim.MEMORY_PEAK_MB: 96,
        Claim.SECURITY_MODE: "evaluation",
        Claim.MODEL_HASH_SCHEME: "sha256-single",
    }
    return {
        "public_key": RECEIPT_KEY.public_key().public_bytes_raw().hex(),
        "request_statement": asked.hex(),
        "answer_statement": answered.hex(),
        "receipt": sign_claims(RECEIPT_KEY, claims).hex(),
    }


def _answers() -> list[tuple[str, int, AnswerKind, bytes]]:
    refused = Outcome(
        model_id=CARD.model_id, model_sha256=CARD.sha256, timings=TIMINGS, problem=Problem.MORE_THAN_ONE_FRAME
    )
    receipt = bytes.fromhex(str(_receipt()["receipt"]))
    return [
        ("probabilities", 0, AnswerKind.FINAL, encode_answer(SAID.to_cbor(), receipt)),
        ("a problem", 7, AnswerKind.FINAL, encode_answer(refused.to_cbor(), None)),
        ("a receipt", 7, AnswerKind.RECEIPT, b""),
    ]


def _answer(session: bytes, name: str, counter: int, kind: AnswerKind, content: bytes) -> dict[str, object]:
    this_id, reply_key = request_id(session, counter), stretched(f"reply key {counter}", 32)
    ciphertext = seal_answer(reply_key, this_id, kind, content)
    return {
        "name": name,
        "request_id": this_id.hex(),
        "kind": int(kind),
        "reply_key": reply_key.hex(),
        "cbor": content.hex(),
        "frame": answer_frame(this_id, kind, ciphertext).hex(),
    }


def _sealed_model() -> dict[str, object]:
    """Make a sealed model of two chunks, the second one short, with what opens it."""
    piece, times = bytes(range(256)), 257
    weights, key = piece * times, stretched("key of a sealed model", 32)
    card = replace(CARD, sha256=hashlib.sha256(weights).hexdigest())
    file_id = stretched("file of a sealed model", 16)
    draft = SealedHeader(
        raw=b"", card=card, size=len(weights), file_id=file_id, release={"owner": "tls:owner.example:7443"}
    )
    header = encode_header(draft)
    chunk_key, check = derive_keys(key, header)
    chunks = list(seal_chunks(weights, chunk_key))
    file = MAGIC + len(header).to_bytes(4, "big") + header + check + b"".join(chunks)
    return {
        "weights": {"piece": piece.hex(), "times": times},
        "key": key.hex(),
        "header": header.hex(),
        "chunk_key": chunk_key.hex(),
        "check": check.hex(),
        "first_chunk_begins": chunks[0][:32].hex(),
        "last_chunk": chunks[-1].hex(),
        "file_bytes": len(file),
        "file_sha256": hashlib.sha256(file).hexdigest(),
        "commitment": model_commitment(card.to_json()).hex(),
        "pcr16": model_register(card.to_json()).hex(),
    }


def _refused(evidence: Evidence) -> list[tuple[str, bytes, str]]:
    body = evidence.to_body()
    return [
        ("challenge", challenge_body(CHALLENGE)[:-1], "one byte short"),
        ("challenge", challenge_body(CHALLENGE) + b"\0", "one byte long"),
        ("evidence", body[:2], "no document"),
        ("evidence", b"\0\0" + evidence.key_config, "a document of no length"),
        ("evidence", body[: 2 + len(DOCUMENT)], "no key configuration"),
        ("evidence", b"\xff\xff" + DOCUMENT, "a document longer than the message"),
        ("sealed", bytes(10), "no ciphertext"),
        ("answer", bytes(24) + b"\2" + bytes(4112), "an unknown kind"),
        ("answer", bytes(24) + b"\0" + bytes(4111), "one byte short"),
        ("refusal", b"\0\0" + NO_REQUEST, "code 0"),
        ("refusal", bytes([0, max(RefusalCode) + 1]) + NO_REQUEST, "an unknown code"),
        ("refusal", b"\0\x02" + NO_REQUEST + b"\0", "one byte long"),
        ("request", b"\1\1" + bytes(63), "a salt cut short"),
        ("request", b"\0\1" + bytes(64), "media type 0"),
        ("request", b"\6\1" + bytes(64), "an unknown media type"),
        ("request", b"\1\0" + bytes(64), "delivery 0"),
        ("request", b"\1\3" + bytes(64), "an unknown delivery"),
    ]


def main() -> None:
    """Write the file."""
    before: dict[str, bytes] = {}
    if PATH.exists():
        requests = json.loads(PATH.read_text())["requests"]
        before = {request["suite_name"]: bytes.fromhex(request["ciphertext"]) for request in requests}
    PATH.write_text(json.dumps(vectors(before), indent=1) + "\n")
    print(PATH)


if __name__ == "__main__":
    main()
