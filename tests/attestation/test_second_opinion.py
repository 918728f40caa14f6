"""The path validation of ``cryptography`` as a second opinion: what our walk accepts, it accepts.

Not the other way round: with the extension policies that real chains need it accepts 14 of 55 forged ones.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store

from enclavectl.attestation import aws_nitro_root, examine_archived
from enclavectl.attestation.cose import parse_cose
from enclavectl.attestation.document import Claims, parse_claims
from tests.attestation.test_archived import VECTORS, needs_vectors
from tests.forge import NOW, Blueprint, EnclaveForge

# AWS's leaves have no SAN, its instance certificates no AKI: nothing more can be demanded of extensions.
_ANY = ExtensionPolicy.permit_all()
_CA = _ANY.require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)


def ask_library(claims: Claims, at: datetime) -> None:
    """Validate the path with ``cryptography``.

    Raises:
        VerificationError: it refuses the chain.
    """
    root, *others = [x509.load_der_x509_certificate(der) for der in claims.cabundle]
    builder = PolicyBuilder().store(Store([root])).time(at.replace(microsecond=0))
    verifier = builder.extension_policies(ca_policy=_CA, ee_policy=_ANY).build_client_verifier()
    verifier.verify(x509.load_der_x509_certificate(claims.certificate), others)


def unchanged(plan: Blueprint) -> None:
    assert plan.intermediates


def without_authority_key_identifiers(plan: Blueprint) -> None:
    for certificate in plan.intermediates:
        certificate.drop(x509.AuthorityKeyIdentifier)


def leaf_just_issued(plan: Blueprint) -> None:
    plan.leaf.not_before = NOW.replace(microsecond=0)


def leaf_about_to_end(plan: Blueprint) -> None:
    plan.leaf.not_before -= timedelta(hours=2, minutes=59)
    plan.leaf.not_after -= timedelta(hours=2, minutes=59)


def one_intermediate(plan: Blueprint) -> None:
    top = plan.intermediates[0]
    plan.intermediates.pop()
    plan.leaf.issuer = top.subject
    plan.leaf.signer = top.key  # type: ignore[assignment]  # the forge's intermediates have EC keys


@pytest.mark.parametrize(
    "edit",
    [unchanged, without_authority_key_identifiers, leaf_just_issued, leaf_about_to_end, one_intermediate],
)
def test_the_library_accepts_the_chains_that_our_walk_accepts(
    forge: EnclaveForge, edit: Callable[[Blueprint], object]
) -> None:
    document = forge.forged(edit)
    forge.verify(document)
    ask_library(parse_claims(parse_cose(document).payload), NOW)


@needs_vectors
def test_the_library_accepts_the_chain_of_every_real_document() -> None:
    judged = 0
    for path in sorted(Path(VECTORS).glob("*.bin")):
        if path.name.startswith(("nitrotpm_", "specviol_")):
            continue  # those are refused by ours
        document = path.read_bytes()
        archived = examine_archived(document, None, root=aws_nitro_root())
        ask_library(parse_claims(parse_cose(document).payload), archived.timestamp)
        judged += 1
    assert judged >= 120
