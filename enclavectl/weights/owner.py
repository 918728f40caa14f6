"""The model owner as a client of an enclave: challenge, verify, then the key, sealed to that session."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from enclave_payload.release import MODEL_KEY
from enclavectl.client.exchange import Expectation, VerifiedEnclave, new_challenge, verify_evidence
from enclavectl.client.session import receive_evidence
from enclavectl.errors import AttestationError, EnclavectlError, EnclaveError, PeerProtocolError
from enclavectl.net.frames import FrameStream, FrameType, WireError
from enclavectl.net.refusal import REFUSAL_BYTES
from enclavectl.protocol.answers import ANSWER_BYTES, AnswerKind, parse_answer
from enclavectl.protocol.cbor import CborError, decode, encode
from enclavectl.protocol.evidence import Evidence
from enclavectl.protocol.key_config import MODEL_PCR
from enclavectl.protocol.requests import REPLY_KEY_BYTES, Delivery, Sealed, request_id, sealed_frame
from enclavectl.protocol.sealing import SealError, open_answer, request_info, seal_request
from enclavectl.weights.key_file import ModelKey
from enclavectl.weights.log import ReleaseLog, Try


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseTerms:
    """What the owner demands, and for how long a released key counts. ``lease_s`` None: until the end."""

    expectation: Expectation
    lease_s: int | None


def release_key(
    stream: FrameStream,
    key: ModelKey,
    read_terms: Callable[[], ReleaseTerms],
    log: ReleaseLog,
    deadline: float,
) -> VerifiedEnclave:
    """Release the key to the enclave at the other end if its evidence passes; the log has each try.

    ``read_terms`` is asked when the evidence is here: a program that waits for weeks must know of a
    revocation of today. The line in the log is on the disk before the key goes. What cannot be logged is not
    released.

    Raises:
        AttestationError: the evidence was refused, and nothing was sent.
        UsageError: the terms cannot be read any more.
        EnclaveError: the enclave was lost, or refuses the key.
        StateError: the log's limits are reached.
        HostError: the log cannot be written.
    """
    evidence: Evidence | None = None
    try:
        challenge, requested_at = new_challenge(), datetime.now(UTC)
        evidence = receive_evidence(stream, challenge, deadline)
        terms = read_terms()
        enclave = verify_evidence(
            challenge, evidence, terms.expectation, datetime.now(UTC), requested_at=requested_at
        )
        _require_model(enclave, key)
        log.write(Try.allowed(key, enclave, terms.lease_s))
    except EnclavectlError as error:
        log.write(Try.refused(key, evidence, error))
        raise
    _send_key(stream, enclave, key, terms.lease_s, deadline)
    return enclave


def _require_model(enclave: VerifiedEnclave, key: ModelKey) -> None:
    """Check that the enclave measured this very model, whatever else the policy lets through."""
    found = enclave.document.pcrs.get(MODEL_PCR)
    if found != key.register:
        raise AttestationError(
            f"PCR{MODEL_PCR}: expected {key.register.hex()[:16]}... of {key.model_id}, found "
            + ("none" if found is None else f"{found.hex()[:16]}...")
            + ": the enclave has measured another model",
            hint="the operator offered another file, or the file was sealed anew; the key stays here",
            code="model-register",
        )


def _send_key(
    stream: FrameStream, enclave: VerifiedEnclave, key: ModelKey, lease_s: int | None, deadline: float
) -> None:
    reply_key, this_id = os.urandom(REPLY_KEY_BYTES), request_id(enclave.session_id, 0)
    body = encode({"file": key.file_id, "key": key.key, "lease_s": lease_s})
    content = (bytes([MODEL_KEY, Delivery.HERE]) + reply_key, body)
    suite = enclave.suite()
    info = request_info(suite, this_id, enclave.transcript)
    try:
        ciphertext = seal_request(suite, enclave.config.public_keys[suite], content, info)
    except SealError as exc:
        raise AttestationError(
            f"suite {suite}: the attested public key is no key", code="key-config"
        ) from exc
    stream.accept({FrameType.ANSWER: ANSWER_BYTES, FrameType.REFUSAL: REFUSAL_BYTES})
    stream.send(sealed_frame(Sealed(0, suite, ciphertext)), deadline=deadline)
    frame = stream.receive(deadline)
    if frame.type is FrameType.REFUSAL:
        raise stream.refusal_in(frame)
    try:
        answer = parse_answer(frame.body)
        value = decode(
            open_answer(reply_key, this_id, AnswerKind.FINAL, answer.ciphertext), max_bytes=ANSWER_BYTES
        )
    except (WireError, SealError, CborError) as exc:
        raise PeerProtocolError("the enclave's answer to the key is not one of this session") from exc
    match value:
        case {"accepted": True, "reason": None}:
            return
        case {"accepted": False, "reason": str(reason)}:
            raise EnclaveError(
                f"{key.model_id}: the enclave refuses the key ({reason})",
                hint="other-file: another file of the same model was offered; wrong-key: it was damaged",
                code=reason if reason in {"wrong-key", "other-file"} else "key-refused",
            )
    raise PeerProtocolError("the enclave's answer to the key is none")
