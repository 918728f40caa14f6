"""The verifier: from bytes and a policy to a VerifiedDocument, or an AttestationError.

Nothing here reads a clock, a file or the network; time, nonce, root and policy are arguments.
Rules: https://github.com/aws/aws-nitro-enclaves-nsm-api/blob/main/docs/attestation_process.md and
https://docs.aws.amazon.com/enclaves/latest/user/verify-root.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import InitVar, dataclass
from datetime import datetime, timedelta
from typing import TypedDict

from enclavectl.attestation.chain import TIME, Chain, walk_chain
from enclavectl.attestation.codes import AttestationCode, refused
from enclavectl.attestation.cose import parse_cose
from enclavectl.attestation.document import MAX_OPTIONAL_BYTES, Claims, parse_claims
from enclavectl.attestation.policy import Policy
from enclavectl.attestation.release import MODEL_PCR, Release
from enclavectl.attestation.trust import TrustRoot
from enclavectl.errors import UsageError
from enclavectl.trust import Trust

MIN_NONCE_BYTES = 16  # 128 random bits do not repeat by chance

# Archived documents are checked at their own time. This covers the rounding: certificates count in
# seconds and documents in milliseconds.
_ARCHIVE_SKEW = timedelta(seconds=1)
_PROOF = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainSummary:
    """The subject and the validity of one certificate of the verified chain."""

    subject: str
    not_after: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attested:
    """The facts that both kinds of result share. Times are UTC; ``pcrs`` is immutable.

    ``model_pinned``: the release that matched names PCR16, the model's register, among its own.
    """

    module_id: str
    timestamp: datetime
    pcrs: Mapping[int, bytes]
    nonce: bytes | None
    user_data: bytes | None
    public_key: bytes | None
    trust: Trust
    release: str | None
    release_expires: datetime | None
    model_pinned: bool
    root: str
    root_fingerprint: str
    chain: tuple[ChainSummary, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedDocument(_Attested):
    """Evidence that passed ``verify``, live. Functions that need trust take this type.

    ``release`` is the name of the release that matched, None for a debug enclave (``trust`` says so).
    Only ``verify`` makes one. That guards against mistakes, not against hostile code in this process.
    """

    proof: InitVar[object]

    def __post_init__(self, proof: object) -> None:
        """Refuse callers other than ``verify``."""
        if proof is not _PROOF:
            raise TypeError("a VerifiedDocument comes from attestation.verify() and nowhere else")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedDocument(_Attested):
    """A document that was genuine at its own time. It proves nothing about now: do not seal to it."""


def verify(
    document: bytes, policy: Policy, *, root: TrustRoot, nonce: bytes, user_data: bytes, now: datetime
) -> VerifiedDocument:
    """Judge the document with which an enclave answered this session's challenge.

    ``nonce`` is this client's random value for this session. ``user_data`` is the value that the document
    must bind: the caller computes it from the key that it will seal to. ``now`` has a time zone.

    The steps are these; the first broken rule ends the verification:

    0.  The policy accepts the root's trust.
    1.  Size, strict CBOR, COSE_Sign1 with ES384 alone.
    2.  Payload: strict CBOR, the nine fields and no others, types and limits. Not a NitroTPM's.
    3.  The bundle begins with the pinned root; from the root to the leaf every certificate is strict
        DER, P-384, ecdsa-with-SHA384, allowed to issue the next, and signed by the one before.
    4.  Every certificate is valid now, give or take the clock skew.
    5.  The leaf's key signed the envelope: only now do the claims come from the root's holder.
    6.  The leaf is this enclave's and was valid at the document's time; the document is neither from
        the future nor older than ``max_age``.
    7.  Debug mode is off, unless the policy allows it.
    8.  Every register of one release that is valid now matches, and nothing revokes them; unless in debug
        mode.
    9.  The nonce is this session's.
    10. The user data is the expected value.

    Raises:
        AttestationError: ``code`` is an AttestationCode.
        UsageError: ``nonce`` (16 to 1024 bytes), ``user_data`` (1 to 1024 bytes) or ``now`` cannot be used.
    """
    _check_arguments(nonce, user_data, now)
    # 0. Signer
    policy.check_signer(root.trust)
    # 1. Envelope (RFC 9052 section 4.2)
    envelope = parse_cose(document)
    # 2. Payload
    claims = parse_claims(envelope.payload)
    # 3. Path (RFC 5280 section 6.1)
    chain = walk_chain(claims.cabundle, claims.certificate, root)
    # 4. Validity
    chain.check_validity(now, skew=policy.clock_skew)
    # 5. Signature (RFC 9052 section 4.4)
    envelope.check_signature(chain.leaf.key)
    # 6. Identity and time
    chain.check_leaf_name(claims.module_id)
    _check_leaf_time(claims, chain, policy.clock_skew)
    _check_fresh(claims, policy, now)
    # 7. Debug mode
    policy.check_debug(claims)
    # 8. Code
    release = None if claims.is_debug else policy.match_release(claims, at=now)
    # 9. and 10. This session
    _check_equal(AttestationCode.NONCE, "nonce", nonce, claims.nonce)
    _check_equal(AttestationCode.USER_DATA, "user_data", user_data, claims.user_data)
    return VerifiedDocument(**_facts(claims, chain, root, release), proof=_PROOF)


def examine_archived(document: bytes, policy: Policy | None, *, root: TrustRoot) -> ArchivedDocument:
    """Judge a document at its own time; the result is no evidence for a session.

    This runs steps 1 to 8 of ``verify`` at the document's own time, without freshness; without a policy, also
    without 7 and 8. The owner of an old leaf key could still sign for that time, and the nonce proves nothing
    to anyone but the client that drew it.

    Raises:
        AttestationError: ``code`` is an AttestationCode.
    """
    if policy is not None:
        policy.check_signer(root.trust)
    envelope = parse_cose(document)
    claims = parse_claims(envelope.payload)
    chain = walk_chain(claims.cabundle, claims.certificate, root)
    chain.check_validity(claims.timestamp, skew=_ARCHIVE_SKEW)
    envelope.check_signature(chain.leaf.key)
    chain.check_leaf_name(claims.module_id)
    release = None
    if policy is not None:
        policy.check_debug(claims)
        release = None if claims.is_debug else policy.match_release(claims, at=claims.timestamp)
    return ArchivedDocument(**_facts(claims, chain, root, release))


class _Facts(TypedDict):
    """The fields of _Attested, so that one function fills in both results."""

    module_id: str
    timestamp: datetime
    pcrs: Mapping[int, bytes]
    nonce: bytes | None
    user_data: bytes | None
    public_key: bytes | None
    trust: Trust
    release: str | None
    release_expires: datetime | None
    model_pinned: bool
    root: str
    root_fingerprint: str
    chain: tuple[ChainSummary, ...]


def _facts(claims: Claims, chain: Chain, root: TrustRoot, release: Release | None) -> _Facts:
    """Turn claims into facts, after the chain and the signature have been verified."""
    return {
        "module_id": claims.module_id,
        "timestamp": claims.timestamp,
        "pcrs": claims.pcrs,
        "nonce": claims.nonce,
        "user_data": claims.user_data,
        "public_key": claims.public_key,
        "trust": Trust.DEBUG if claims.is_debug else root.trust,
        "release": None if release is None else release.name,
        "release_expires": None if release is None else release.expires,
        "model_pinned": release is not None and MODEL_PCR in release.pcrs,
        "root": root.name,
        "root_fingerprint": root.fingerprint,
        "chain": tuple(
            ChainSummary(subject=link.subject.rfc4514_string(), not_after=link.not_after)
            for link in chain.links
        ),
    }


def _check_arguments(nonce: bytes, user_data: bytes, now: datetime) -> None:
    """Refuse expectations that any document could satisfy: they are a mistake of the caller."""
    if not MIN_NONCE_BYTES <= len(nonce) <= MAX_OPTIONAL_BYTES:
        raise UsageError(
            f"nonce: expected {MIN_NONCE_BYTES} to {MAX_OPTIONAL_BYTES} bytes, found {len(nonce)}"
        )
    if not 1 <= len(user_data) <= MAX_OPTIONAL_BYTES:
        raise UsageError(f"user_data: expected 1 to {MAX_OPTIONAL_BYTES} bytes, found {len(user_data)}")
    if now.utcoffset() is None:
        raise UsageError("now: expected a time with a time zone")


def _check_leaf_time(claims: Claims, chain: Chain, skew: timedelta) -> None:
    """Check that the leaf was valid at the document's time."""
    leaf = chain.leaf
    if leaf.not_before - claims.timestamp > skew or claims.timestamp - leaf.not_after > skew:
        raise refused(
            AttestationCode.LEAF_TIME,
            f"timestamp: expected {leaf.not_before:{TIME}} to {leaf.not_after:{TIME}}, "
            f"as the leaf certificate is valid, found {claims.timestamp:{TIME}}",
        )


def _check_fresh(claims: Claims, policy: Policy, now: datetime) -> None:
    age = now - claims.timestamp
    if -age > policy.clock_skew:
        raise refused(
            AttestationCode.FROM_THE_FUTURE,
            f"timestamp: expected at most {policy.clock_skew} ahead of this clock, found {-age} ahead",
        )
    if age > policy.max_age:
        raise refused(
            AttestationCode.TOO_OLD, f"timestamp: expected at most {policy.max_age} old, found {age} old"
        )


def _check_equal(code: AttestationCode, name: str, expected: bytes, found: bytes | None) -> None:
    if found is None:
        raise refused(code, f"{name}: expected {_shortened(expected)}, found none in the document")
    if found != expected:
        raise refused(code, f"{name}: expected {_shortened(expected)}, found {_shortened(found)}")


def _shortened(value: bytes) -> str:
    return f"{value[:8].hex()}... ({len(value)} bytes)" if value else "zero bytes"
