"""Attacks after the proof: on questions, answers and receipts, on kept files, and on the enclave's time."""

from __future__ import annotations

import io
import json
import socket
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from PIL import Image

from enclavectl.attestation import render_policy
from enclavectl.backends.local.backend import LocalBackend
from enclavectl.client.exchange import new_challenge, verify_evidence
from enclavectl.client.pictures import Picture
from enclavectl.evidence import (
    Case,
    EvidenceFile,
    RootName,
    Waiver,
    check_receipt,
    examine,
    parse_evidence_file,
    parse_receipt,
)
from enclavectl.evidence.file import content_sha256
from enclavectl.net.frames import FrameType
from enclavectl.protocol.cbor import decode, encode
from enclavectl.protocol.media import MediaType
from enclavectl.protocol.receipts import PROTECTED, TAG, Claim, to_be_signed
from enclavectl.selftest.arena import Arena
from enclavectl.selftest.attack import Attack, Defender, attack
from enclavectl.selftest.evidence_attacks import evidence_of
from enclavectl.selftest.relay import flipped

_REQUEST_ID_BYTES = 24
_IDLE_PEERS = 32
_BOMB_SIDE = 8_000  # 64 megapixels of one color, in 9 kB


@attack("flipped-question", "one bit of the sealed picture", Defender.ENCLAVE, "refused-unreadable")
def flipped_question(arena: Arena) -> None:
    """Change what was sealed on its way in."""
    arena.ask(change=flipped(FrameType.SEALED, -1))


@attack("flipped-answer", "one bit of the sealed answer", Defender.CLIENT, "peer-protocol")
def flipped_answer(arena: Arena) -> None:
    """Change what was sealed on its way out."""
    arena.ask(change=flipped(FrameType.ANSWER, -1))


@attack("exchanged-answers", "the answer to another picture", Defender.CLIENT, "peer-protocol")
def exchanged_answers(arena: Arena) -> str | None:
    """Give each of two pictures of a session the first one's answer."""
    first: list[bytes] = []

    def change(kind: FrameType, body: bytes) -> bytes:
        if kind is not FrameType.ANSWER:
            return body
        first.append(body[_REQUEST_ID_BYTES:])
        return body[:_REQUEST_ID_BYTES] + first[0]

    arena.ask([arena.picture, replace(arena.picture, name="another.png")], change=change)
    return None


@attack(
    "forged-receipt",
    "a receipt with another answer, signed by another key",
    Defender.CLIENT,
    "receipt-signature",
)
def forged_receipt(arena: Arena) -> None:
    """Sign a receipt anew after changing the hash of its answer."""
    challenge = new_challenge()
    evidence = evidence_of(arena.first, challenge)
    enclave = verify_evidence(challenge, evidence, arena.first.expectation, datetime.now(UTC))
    receipted = arena.ask()[0].receipted
    if receipted is None:
        raise TypeError("an answer without a receipt")
    claims = decode(parse_receipt(receipted.receipt).payload, max_bytes=len(receipted.receipt))
    if not isinstance(claims, dict):
        raise TypeError("a receipt without claims")
    claims[Claim.RESPONSE_HASH] = sha256(b"another answer").digest()
    claims[Claim.ATTESTATION_DOC_HASH] = sha256(evidence.document).digest()
    payload = encode(claims)
    signature = Ed25519PrivateKey.generate().sign(to_be_signed(payload))
    forged = parse_receipt(TAG + encode([PROTECTED, {}, payload, signature]))
    check_receipt(
        forged,
        document=enclave.document,
        document_bytes=evidence.document,
        key_config=evidence.key_config,
    )


@attack("edited-evidence", "a word of an evidence file", Defender.COMMAND, "evidence-file")
def edited_evidence(arena: Arena) -> None:
    """Change a word of a kept evidence file."""
    parse_evidence_file(_kept(arena).replace(b"accept", b"reject", 1))


@attack(
    "remade-evidence",
    "an evidence file with a changed document and a new hash",
    Defender.COMMAND,
    "signature",
)
def remade_evidence(arena: Arena) -> None:
    """Change the document in an evidence file, and make the file's hash anew."""
    kept = parse_evidence_file(_kept(arena))
    document = bytearray(kept.document)
    document[-1] ^= 1  # of the signature
    members = json.loads(replace(kept, document=bytes(document)).to_bytes())
    members["content_sha256"] = content_sha256(members)
    edited = parse_evidence_file(json.dumps(members).encode())
    case = Case(
        document=edited.document,
        evidence=edited,
        root=arena.first.expectation.root,
        policy=arena.first.expectation.policy,
        at=datetime.now(UTC),
        nonce=Waiver.NO_NONCE,
    )
    examine(case).require()


@attack("foreign-state", "a state folder that other users can write", Defender.COMMAND, "host")
def foreign_state(arena: Arena) -> None:
    """Use a state folder in which somebody else could exchange the development root."""
    state = arena.folder / "first"
    state.chmod(0o777)
    try:
        LocalBackend(state).trust_root()
    finally:
        state.chmod(0o700)


@attack("idle-peers", "32 peers that connect and say nothing", Defender.ENCLAVE, "served")
def idle_peers(arena: Arena) -> str | None:
    """Fill the enclave's places, and have a picture answered all the same."""
    with ExitStack() as stack:
        for _ in range(_IDLE_PEERS):
            peer = stack.enter_context(socket.socket(socket.AF_UNIX))
            peer.connect(str(arena.first.address.path))
        return "served" if arena.ask()[0].receipted is not None else None


@attack(
    "bomb-picture", "a picture of 64 megapixels in 9 kB", Defender.ENCLAVE, "too-many-pixels", "too-costly"
)
def bomb_picture(arena: Arena) -> str | None:
    """Ask about a picture that costs out of all proportion."""
    file = io.BytesIO()
    Image.new("1", (_BOMB_SIDE, _BOMB_SIDE)).save(file, "PNG")
    outcome = arena.ask([Picture("bomb.png", MediaType.PNG, file.getvalue())])[0].outcome
    return None if outcome.problem is None else str(outcome.problem)


def _kept(arena: Arena) -> bytes:
    """Write the evidence file of a new session."""
    challenge, asked = new_challenge(), datetime.now(UTC)
    evidence = evidence_of(arena.first, challenge)
    policy = render_policy(arena.first.expectation.policy)
    return EvidenceFile(
        document=evidence.document,
        key_config=evidence.key_config,
        nonce=challenge.nonce,
        requested_at=asked,
        root=RootName.of(arena.first.expectation.root),
        policy=policy,
        policy_sha256=sha256(policy.encode()).hexdigest(),
    ).to_bytes()


ATTACKS: tuple[Attack, ...] = (
    flipped_question,
    flipped_answer,
    exchanged_answers,
    forged_receipt,
    edited_evidence,
    remade_evidence,
    foreign_state,
    idle_peers,
    bomb_picture,
)
