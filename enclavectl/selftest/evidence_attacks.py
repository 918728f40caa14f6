"""Attacks on the proof: on what runs, on who signed, and on what came over the wire before a picture."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from enclavectl.attestation import Release, Trust, TrustRoot
from enclavectl.backends.local.pki import DevelopmentRoot
from enclavectl.client.exchange import new_challenge, verify_evidence
from enclavectl.client.session import receive_evidence
from enclavectl.net.frames import FrameStream, FrameType
from enclavectl.net.transport import open_stream
from enclavectl.protocol.cbor import Value, decode, encode
from enclavectl.protocol.evidence import NONCE_BYTES, Challenge, Evidence, parse_evidence
from enclavectl.selftest.arena import TIMEOUT_S, Arena, Stage
from enclavectl.selftest.attack import Attack, Defender, attack
from enclavectl.selftest.relay import Change

_MAX_BYTES = 128 * 1024  # of a key configuration, with room
_ADDED = b"\n# one line more\n"


@attack("changed-payload", "a file of the payload has one line more", Defender.CLIENT, "pcr-mismatch")
def changed_payload(arena: Arena) -> None:
    """Meet an enclave whose payload differs in a line from the one that the policy names."""
    arena.ask(policy=arena.policy_of(payload=_ADDED))


@attack("changed-model", "the weights differ in one byte", Defender.CLIENT, "pcr-mismatch")
def changed_model(arena: Arena) -> None:
    """Meet an enclave whose weights differ in a byte from those that the policy names."""
    arena.ask(policy=arena.policy_of(model=b"\0"))


@attack("other-release", "another release than the policy names", Defender.CLIENT, "pcr-mismatch")
def other_release(arena: Arena) -> None:
    """Meet an enclave that the policy does not name at all."""
    policy = arena.first.expectation.policy
    other = Release(name="other", pcrs={index: bytes([0x50 + index]) * 48 for index in (0, 1, 2)})
    arena.ask(policy=replace(policy, releases=(other,)))


@attack("debug-mode", "the enclave runs in debug mode", Defender.CLIENT, "debug-mode")
def debug_mode(arena: Arena) -> None:
    """Meet an enclave whose memory its operator can read."""
    arena.ask(stage=arena.debugged, policy=arena.first.expectation.policy)


@attack("foreign-root", "the document ends at another root", Defender.CLIENT, "chain-root")
def foreign_root(arena: Arena) -> None:
    """Meet an enclave whose document somebody else's root vouches for."""
    mine = DevelopmentRoot.create(datetime.now(UTC) - timedelta(days=1))
    root = TrustRoot(certificate_der=mine.certificate_der, trust=Trust.SIMULATED, name="foreign")
    first = arena.first
    arena.ask(stage=Stage(address=first.address, expectation=replace(first.expectation, root=root)))


@attack("expired-document", "a document of four hours ago", Defender.CLIENT, "chain-expired")
def expired_document(arena: Arena) -> None:
    """Judge a genuine document when the certificate that signed it has ended."""
    challenge = new_challenge()
    evidence = evidence_of(arena.first, challenge)
    verify_evidence(challenge, evidence, arena.first.expectation, datetime.now(UTC) + timedelta(hours=4))


@attack("replayed-document", "the evidence of an earlier session", Defender.CLIENT, "nonce")
def replayed_document(arena: Arena) -> None:
    """Answer a challenge with what answered another one."""
    recorded = evidence_of(arena.first, new_challenge()).to_body()
    arena.ask(change=lambda kind, body: recorded if kind is FrameType.EVIDENCE else body)


@attack("swapped-key", "the relay offers a key of its own", Defender.CLIENT, "user-data")
def swapped_key(arena: Arena) -> None:
    """Exchange the key to which the client would seal."""

    def swap(keys: dict[int | str, Value]) -> None:
        keys.update({suite: bytes(len(key)) for suite, key in keys.items() if isinstance(key, bytes)})

    arena.ask(change=_with_keys(swap))


@attack("downgraded-suite", "the relay takes the stronger suite away", Defender.CLIENT, "user-data")
def downgraded_suite(arena: Arena) -> None:
    """Leave the suite that no quantum computer opens out of the offer."""
    arena.ask(change=_with_keys(lambda keys: keys.pop(1)))


@attack(
    "swapping-relay",
    "the evidence of one enclave, the picture to another",
    Defender.ENCLAVE,
    "refused-unreadable",
)
def swapping_relay(arena: Arena) -> None:
    """Prove one enclave and hand the picture, sealed to it, to another of the same image."""
    other: list[bytes] = []

    def change(kind: FrameType, body: bytes) -> bytes:
        if kind is FrameType.CHALLENGE:
            other.append(evidence_of(arena.second, Challenge(body[-NONCE_BYTES:])).to_body())
        return other[-1] if kind is FrameType.EVIDENCE else body

    # Both enclaves have the same image, and the second one's root vouches for the evidence.
    arena.ask(change=change, stage=replace(arena.first, expectation=arena.second.expectation))


def evidence_of(stage: Stage, challenge: Challenge) -> Evidence:
    """Return what an enclave answers to a challenge, without judging it."""
    stream = FrameStream(open_stream(stage.address, TIMEOUT_S), f"the enclave at {stage.address}")
    try:
        return receive_evidence(stream, challenge, time.monotonic() + TIMEOUT_S)
    finally:
        stream.close()


def _with_keys(edit: Callable[[dict[int | str, Value]], object]) -> Change:
    """Change the keys in the key configuration of the evidence; all else stays, encoded as before."""

    def change(kind: FrameType, body: bytes) -> bytes:
        if kind is not FrameType.EVIDENCE:
            return body
        evidence = parse_evidence(body)
        fields = decode(evidence.key_config, max_bytes=_MAX_BYTES)
        if not isinstance(fields, dict) or not isinstance(fields["keys"], dict):
            raise TypeError("expected a key configuration")
        edit(fields["keys"])
        return Evidence(evidence.document, encode(fields)).to_body()

    return change


ATTACKS: tuple[Attack, ...] = (
    changed_payload,
    changed_model,
    other_release,
    debug_mode,
    foreign_root,
    expired_document,
    replayed_document,
    swapped_key,
    downgraded_suite,
    swapping_relay,
)
