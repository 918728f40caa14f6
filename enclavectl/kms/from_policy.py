"""From our policy to what a key policy is compiled from and linted with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from enclavectl.attestation import Policy, Trust
from enclavectl.attestation.release import LifeState
from enclavectl.kms.compile import KeyPolicyRequest
from enclavectl.kms.key_policy import KeyPolicyError
from enclavectl.kms.releases import KeyRelease


def request_from_policy(
    policy: Policy,
    *,
    admin: str,
    parents: tuple[str, ...],
    context: Mapping[str, str],
    at: datetime,
    irrevocable: bool = False,
) -> KeyPolicyRequest:
    """Make the request for the releases that ``policy`` has at ``at`` or later.

    Raises:
        KeyPolicyError: as KeyPolicyRequest; ``policy-debug`` or ``policy-trust``, if the policy accepts more
            than production enclaves.
    """
    require_production(policy)
    releases = key_releases(policy, at)
    return KeyPolicyRequest(
        releases=releases,
        admin=admin,
        parents=parents,
        context=context,
        revoked=partly_revoked(policy, releases),
        irrevocable=irrevocable,
    )


def require_production(policy: Policy) -> None:
    """Check that the policy accepts AWS's signature alone, and no enclave in debug mode.

    Raises:
        KeyPolicyError: ``policy-debug`` or ``policy-trust``.
    """
    if policy.unsafe_allow_debug:
        raise KeyPolicyError(
            "policy: unsafe_allow_debug: no key is released to an enclave that its operator can look into",
            hint="write a policy for production without it",
            code="policy-debug",
        )
    if policy.accept != {Trust.NITRO}:
        raise KeyPolicyError(
            f"policy: accept: expected nitro alone, found {', '.join(sorted(policy.accept))}",
            hint="KMS takes documents that AWS signed and no others: accept: [nitro]",
            code="policy-trust",
        )


def key_releases(policy: Policy, at: datetime) -> tuple[KeyRelease, ...]:
    """Return the releases that a key may be released to at ``at`` or later, in the order of their Sids.

    Expired and revoked releases are left out, and of equal ones all but the first.
    """
    found = {
        tuple(release.pcrs.items()): KeyRelease(
            name=release.name,
            pcrs=release.pcrs,
            not_before=release.not_before,
            expires=release.expires,
        )
        for release in reversed(policy.releases)
        if policy.state_of(release, at) in (LifeState.VALID, LifeState.NOT_YET_VALID)
    }
    return tuple(sorted(found.values(), key=lambda one: one.sid))


def partly_revoked(policy: Policy, releases: Sequence[KeyRelease]) -> tuple[Mapping[int, bytes], ...]:
    """Return the revoked tuples that a document of one of ``releases`` could hold.

    Such a tuple names a register that the release leaves open, so only a Deny keeps it out.
    """
    tuples = [entry.pcrs for entry in policy.revoked if entry.pcrs is not None]
    return tuple(
        pcrs
        for pcrs in tuples
        if any(all(one.pcrs.get(index, value) == value for index, value in pcrs.items()) for one in releases)
    )
