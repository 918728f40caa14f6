"""The one recipe by which documents are judged, as steps that a caller can watch.

``take_steps`` yields what each step saw, and raises at the first one that fails. ``verify`` and
``examine_archived`` take every step and keep the last; a checklist shows them one by one. Nothing here reads
a clock, a file or the network; time, nonce, root and policy are arguments.
Rules: https://github.com/aws/aws-nitro-enclaves-nsm-api/blob/main/docs/attestation_process.md and
https://docs.aws.amazon.com/enclaves/latest/user/verify-root.html
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from enclavectl.attestation.chain import TIME, Chain, walk_chain
from enclavectl.attestation.codes import AttestationCode, refused
from enclavectl.attestation.cose import parse_cose
from enclavectl.attestation.document import Claims, parse_claims
from enclavectl.attestation.emulated import parse_emulated
from enclavectl.attestation.policy import MAX_AGE_LIMIT, Policy
from enclavectl.attestation.trust import EmulatorRoot, Root, TrustRoot
from enclavectl.errors import UsageError
from enclavectl.label import MODEL_PCR
from enclavectl.trust import Trust

# Archived documents are checked at their own time. This covers the rounding: certificates count in
# seconds and documents in milliseconds.
ARCHIVE_SKEW = timedelta(seconds=1)
# Without a policy, as a policy that says nothing about clocks.
DEFAULT_SKEW = timedelta(minutes=2)


class Step(StrEnum):
    """A step of the recipe, in its order; docs/evidence.md explains each."""

    SIGNER = "signer"
    ENVELOPE = "envelope"
    PAYLOAD = "payload"
    CHAIN = "chain"
    VALIDITY = "validity"
    SIGNATURE = "signature"
    IDENTITY = "identity"
    FRESHNESS = "freshness"
    DEBUG = "debug"
    RELEASE = "release"
    NONCE = "nonce"
    USER_DATA = "user-data"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainSummary:
    """What is kept of one certificate of the verified chain: the end of its validity, in UTC."""

    not_after: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a document says, once its chain and its signature have been checked.

    Times are UTC; ``pcrs`` is immutable. ``release`` is the name of the one that matched, None for a debug
    enclave and without a policy. ``model_pinned``: that release names PCR16, the model's register, among its
    own.
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

    @property
    def ends(self) -> datetime:
        """When receipts under it end to count: with the leaf, or without one when AWS's would end."""
        return self.chain[-1].not_after if self.chain else self.timestamp + MAX_AGE_LIMIT


@dataclass(frozen=True, slots=True, kw_only=True)
class Demands:
    """What a document is held to. What is None is not demanded, and its step says so.

    ``at`` is the time of judgement with its zone; None is the document's own time, at which freshness means
    nothing.
    """

    root: Root
    policy: Policy | None
    at: datetime | None
    nonce: bytes | None
    user_data: bytes | None

    def __post_init__(self) -> None:
        """Refuse a time that could be of any place.

        Raises:
            UsageError: ``at`` has no time zone.
        """
        if self.at is not None and self.at.utcoffset() is None:
            raise UsageError("now: expected a time with a time zone")

    @property
    def skew(self) -> timedelta:
        """How far the clocks may differ."""
        if self.at is None:
            return ARCHIVE_SKEW
        return DEFAULT_SKEW if self.policy is None else self.policy.clock_skew


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A step that did not fail. ``was_checked`` is False for one that nothing was demanded of.

    ``seen`` is what it saw, or why there was nothing to check. ``facts`` are None until the signature was
    checked: before that, the author of the bytes chose every value.
    """

    step: Step
    seen: str
    was_checked: bool = True
    facts: Facts | None = None


def take_steps(document: bytes, demands: Demands) -> Iterator[Taken]:
    """Judge the document: yield each step of ``Step``, in that order, after it passed.

    The first broken rule ends the judgement:

    0.  The policy accepts the root's trust.
    1.  Size, strict CBOR, COSE_Sign1 with ES384 alone (RFC 9052 section 4.2).
    2.  Payload: strict CBOR, the nine fields and no others, types and limits. Not a NitroTPM's.
    3.  The bundle begins with the pinned root; from the root to the leaf every certificate is strict
        DER, P-384, ecdsa-with-SHA384, allowed to issue the next, and signed by the one before
        (RFC 5280 section 6.1).
    4.  Every certificate is valid at the time of judgement, give or take the clock skew.
    5.  The leaf's key signed the envelope (RFC 9052 section 4.4): only now do the claims come from the
        root's holder.
    6.  The leaf is this enclave's and was valid at the document's time.
    7.  The document is neither from the future nor older than ``max_age``.
    8.  Debug mode is off, unless the policy allows it.
    9.  Every register of one release that is valid at the time of judgement matches, and nothing revokes
        them; unless in debug mode.
    10. The nonce is the expected one.
    11. The user data is the expected value.

    Under ``EmulatorRoot`` nothing is signed: in place of 1 to 6, the document has the exact form of QEMU's,
    with its zeros for signature and certificates. All other rules hold.

    Raises:
        AttestationError: ``code`` is an AttestationCode; the step that failed follows the last one yielded.
    """
    root = demands.root
    # 0. Signer
    yield _check_signer(demands)
    # 1. to 6. Bytes and signature
    if isinstance(root, EmulatorRoot):
        claims, facts = yield from _take_unsigned(document, root)
    else:
        claims, facts = yield from _take_signed(document, demands, root)
    # From here on the claims count
    yield from _judge_claims(claims, demands, facts)


def _judge_claims(claims: Claims, demands: Demands, facts: Facts) -> Iterator[Taken]:
    """Take the steps from 7 on, those on what the claims say.

    Raises:
        AttestationError: as ``take_steps``.
    """
    # 7. Freshness
    yield _check_fresh(claims, demands, facts)
    # 8. Debug mode and 9. code
    yield _check_debug(claims, demands.policy, facts)
    at = claims.timestamp if demands.at is None else demands.at
    facts, taken = _match_release(claims, demands.policy, at, facts)
    yield taken
    # 10. and 11. The session
    yield _check_equal(Step.NONCE, AttestationCode.NONCE, (demands.nonce, claims.nonce), facts)
    yield _check_equal(
        Step.USER_DATA, AttestationCode.USER_DATA, (demands.user_data, claims.user_data), facts
    )


def _take_signed(
    document: bytes, demands: Demands, root: TrustRoot
) -> Generator[Taken, None, tuple[Claims, Facts]]:
    # 1. Envelope
    envelope = parse_cose(document)
    yield Taken(step=Step.ENVELOPE, seen=f"COSE_Sign1 with ES384, {len(document)} bytes")
    # 2. Payload
    claims = parse_claims(envelope.payload)
    yield Taken(step=Step.PAYLOAD, seen=_seen_of(claims))
    # 3. Path
    chain = walk_chain(claims.cabundle, claims.certificate, root)
    seen = f"{len(chain.links)} certificates from the root {root.name} (SHA-256 {root.fingerprint[:16]}...)"
    yield Taken(step=Step.CHAIN, seen=seen)
    # 4. Validity
    at = claims.timestamp if demands.at is None else demands.at
    chain.check_validity(at, skew=demands.skew)
    own = ", its own time" if demands.at is None else ""
    yield Taken(step=Step.VALIDITY, seen=f"every certificate is valid at {at:{TIME}}{own}")
    # 5. Signature
    envelope.check_signature(chain.leaf.key)
    facts = _facts(claims, root, chain)
    yield Taken(step=Step.SIGNATURE, seen="the leaf certificate's key signed this document", facts=facts)
    # 6. Identity
    chain.check_leaf_name(claims.module_id)
    _check_leaf_time(claims, chain, demands.skew)
    seen = f"{claims.module_id} at {claims.timestamp:{TIME}}, as its leaf certificate says"
    yield Taken(step=Step.IDENTITY, seen=seen, facts=facts)
    return claims, facts


def _take_unsigned(document: bytes, root: EmulatorRoot) -> Generator[Taken, None, tuple[Claims, Facts]]:
    claims = parse_emulated(document)
    yield Taken(step=Step.ENVELOPE, seen=f"COSE_Sign1 as QEMU writes it, {len(document)} bytes")
    yield Taken(step=Step.PAYLOAD, seen=_seen_of(claims))
    for step, seen in (
        (Step.CHAIN, "no certificates: the emulator's zeros"),
        (Step.VALIDITY, "no certificates"),
    ):
        yield Taken(step=step, seen=seen, was_checked=False)
    facts = _facts(claims, root, None)
    for step, seen in (
        (Step.SIGNATURE, "nobody signed: the emulator's zeros"),
        (Step.IDENTITY, f"{claims.module_id} at {claims.timestamp:{TIME}}, as QEMU says; nobody vouches"),
    ):
        yield Taken(step=step, seen=seen, was_checked=False, facts=facts)
    return claims, facts


def _seen_of(claims: Claims) -> str:
    return f"the fields of an enclave's document, {len(claims.pcrs)} registers"


def _facts(claims: Claims, root: Root, chain: Chain | None) -> Facts:
    """Turn claims into facts, after the chain and the signature have been verified, if there are any."""
    links = () if chain is None else chain.links
    return Facts(
        module_id=claims.module_id,
        timestamp=claims.timestamp,
        pcrs=claims.pcrs,
        nonce=claims.nonce,
        user_data=claims.user_data,
        public_key=claims.public_key,
        trust=_trust(claims, root),
        release=None,
        release_expires=None,
        model_pinned=False,
        root=root.name,
        root_fingerprint=root.fingerprint,
        chain=tuple(ChainSummary(not_after=link.not_after) for link in links),
    )


def _trust(claims: Claims, root: Root) -> Trust:
    # What nobody signed is not even debug, which says that somebody signed.
    return root.trust if isinstance(root, EmulatorRoot) or not claims.is_debug else Trust.DEBUG


def _check_signer(demands: Demands) -> Taken:
    if demands.policy is None:
        return Taken(step=Step.SIGNER, seen="no policy says whose signature counts", was_checked=False)
    demands.policy.check_signer(demands.root.trust)
    return Taken(step=Step.SIGNER, seen=f"the policy accepts signers of trust {demands.root.trust}")


def _check_leaf_time(claims: Claims, chain: Chain, skew: timedelta) -> None:
    """Check that the leaf was valid at the document's time."""
    leaf = chain.leaf
    if leaf.not_before - claims.timestamp > skew or claims.timestamp - leaf.not_after > skew:
        raise refused(
            AttestationCode.LEAF_TIME,
            f"timestamp: expected {leaf.not_before:{TIME}} to {leaf.not_after:{TIME}}, "
            f"as the leaf certificate is valid, found {claims.timestamp:{TIME}}",
        )


def _check_fresh(claims: Claims, demands: Demands, facts: Facts) -> Taken:
    if demands.at is None:
        seen = "age was not judged: the document is judged at its own time"
        return Taken(step=Step.FRESHNESS, seen=seen, was_checked=False, facts=facts)
    age = demands.at - claims.timestamp
    if -age > demands.skew:
        raise refused(
            AttestationCode.FROM_THE_FUTURE,
            f"timestamp: expected at most {demands.skew} ahead of this clock, found {-age} ahead",
        )
    policy = demands.policy
    shown = f"{age} old" if age >= timedelta() else f"{-age} ahead of this clock"
    if policy is None:
        seen = f"age was not judged: no policy says how old a document may be; {shown}"
        return Taken(step=Step.FRESHNESS, seen=seen, was_checked=False, facts=facts)
    if age > policy.max_age:
        raise refused(
            AttestationCode.TOO_OLD, f"timestamp: expected at most {policy.max_age} old, found {age} old"
        )
    seen = f"{shown}, at most {policy.max_age} old is allowed; this is the age only"
    return Taken(step=Step.FRESHNESS, seen=seen, facts=facts)


def _check_debug(claims: Claims, policy: Policy | None, facts: Facts) -> Taken:
    seen = "PCR0, PCR1 and PCR2 are all zero: debug mode" if claims.is_debug else "debug mode is off"
    if policy is None:
        return Taken(step=Step.DEBUG, seen=f"no policy; {seen}", was_checked=False, facts=facts)
    policy.check_debug(claims)
    allowed = ", which the policy allows (unsafe)" if claims.is_debug else ""
    return Taken(step=Step.DEBUG, seen=f"{seen}{allowed}", facts=facts)


def _match_release(claims: Claims, policy: Policy | None, at: datetime, facts: Facts) -> tuple[Facts, Taken]:
    if policy is None:
        seen = "no policy says which code is the right one"
    elif claims.is_debug:
        seen = "nothing measures the code of a debug enclave"
    else:
        release = policy.match_release(claims, at=at)
        facts = replace(
            facts,
            release=release.name,
            release_expires=release.expires,
            model_pinned=MODEL_PCR in release.pcrs,
        )
        registers = ", ".join(f"PCR{index}" for index in release.pcrs)
        end = "" if release.expires is None else f" until {release.expires:{TIME}}"
        seen = f"release {release.name}: {registers} match; valid at {at:{TIME}}{end}"
        return facts, Taken(step=Step.RELEASE, seen=seen, facts=facts)
    return facts, Taken(step=Step.RELEASE, seen=seen, was_checked=False, facts=facts)


def _check_equal(
    step: Step, code: AttestationCode, values: tuple[bytes | None, bytes | None], facts: Facts
) -> Taken:
    expected, found = values
    name = code.value.replace("-", "_")
    if expected is None:
        shown = "the document has none" if found is None else f"the document's is {_shortened(found)}"
        seen = f"no {name} was expected; {shown}"
        return Taken(step=step, seen=seen, was_checked=False, facts=facts)
    if found is None:
        raise refused(code, f"{name}: expected {_shortened(expected)}, found none in the document")
    if found != expected:
        raise refused(code, f"{name}: expected {_shortened(expected)}, found {_shortened(found)}")
    return Taken(step=step, seen=f"{_shortened(found)}, as expected", facts=facts)


def _shortened(value: bytes) -> str:
    return f"{value[:8].hex()}... ({len(value)} bytes)" if value else "zero bytes"
