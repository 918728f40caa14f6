from __future__ import annotations

from hashlib import sha256
from importlib.resources import files

import pytest

from enclavectl.attestation import Trust, TrustRoot, aws_nitro_root
from enclavectl.backends.local.pki import DevelopmentRoot
from enclavectl.errors import UsageError
from enclavectl.trust import AWS_ROOTS, trust_of_root
from tests.forge import NOW

AWS_ROOT_SHA256 = "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b"


@pytest.fixture(scope="module")
def development() -> DevelopmentRoot:
    return DevelopmentRoot.create(NOW)


def test_the_packaged_root_is_aws_s() -> None:
    root = aws_nitro_root()
    assert sha256(root.certificate_der).hexdigest() == root.fingerprint == AWS_ROOT_SHA256
    assert (root.trust, root.name) == (Trust.NITRO, "aws")


def test_a_root_of_aws_that_an_operator_names_is_known_by_its_fingerprint() -> None:
    pem = (files("enclavectl.attestation") / "roots" / "aws-nitro-g1.pem").read_bytes()
    root = TrustRoot.from_operator(pem, file="downloaded.pem")
    assert (root.trust, root.name, root.fingerprint) == (Trust.NITRO, "aws", AWS_ROOT_SHA256)
    assert trust_of_root(pem) is Trust.NITRO
    assert trust_of_root(b"text before\n" + pem.replace(b"\n", b"\r\n")) is Trust.NITRO


def test_any_other_root_that_an_operator_names_is_a_development_root(development: DevelopmentRoot) -> None:
    root = TrustRoot.from_operator(development.certificate_pem, file="aws-us-gov")
    assert (root.trust, root.name) == (Trust.SIMULATED, "aws-us-gov")
    with pytest.raises(UsageError, match=r"mine\.pem: expected one certificate, found 2"):
        TrustRoot.from_operator(development.certificate_pem * 2, file="mine.pem")


def test_what_is_not_one_root_of_aws_stands_for_no_more_than_simulated(development: DevelopmentRoot) -> None:
    aws = (files("enclavectl.attestation") / "roots" / "aws-nitro-g1.pem").read_bytes()
    changed = aws.replace(b"M", b"N", 1)
    for pem in (
        b"",
        b"\xff",
        development.certificate_pem,
        aws * 2,
        aws + development.certificate_pem,
        changed,
    ):
        assert trust_of_root(pem) is Trust.SIMULATED


def test_the_pins_are_those_that_aws_publishes() -> None:
    """https://docs.aws.amazon.com/govcloud-us/latest/UserGuide/govcloud-ec2.html prints the second."""
    gov = "20bcd30a3e168ea03789e1c45912bc123c4de3c977b8a6e1c125c7929d668b3b"
    assert {AWS_ROOT_SHA256: "aws", gov: "aws-us-gov"} == AWS_ROOTS


def test_only_a_pinned_root_stands_for_nitro(development: DevelopmentRoot) -> None:
    root = TrustRoot.from_pem(development.certificate_pem, trust=Trust.SIMULATED, name="mine")
    assert root.certificate_der == development.certificate_der
    with pytest.raises(UsageError, match="does not fit"):
        TrustRoot.from_pem(development.certificate_pem, trust=Trust.NITRO, name="mine")


def test_a_pinned_root_stands_for_nothing_else() -> None:
    with pytest.raises(UsageError, match="does not fit"):
        TrustRoot(certificate_der=aws_nitro_root().certificate_der, trust=Trust.SIMULATED, name="aws")


@pytest.mark.parametrize("trust", [Trust.DEBUG, Trust.EMULATED])
def test_no_root_stands_for_a_mode(development: DevelopmentRoot, trust: Trust) -> None:
    with pytest.raises(UsageError, match="no root can stand for"):
        TrustRoot.from_pem(development.certificate_pem, trust=trust, name="mine")


@pytest.mark.parametrize("pem", [b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_pem_without_a_certificate(pem: bytes) -> None:
    with pytest.raises(UsageError, match=r"expected a (PEM certificate|certificate in PEM)"):
        TrustRoot.from_pem(pem, trust=Trust.SIMULATED, name="mine")


def test_pem_with_two_certificates(development: DevelopmentRoot) -> None:
    with pytest.raises(UsageError, match="expected one certificate, found 2"):
        TrustRoot.from_pem(development.certificate_pem * 2, trust=Trust.SIMULATED, name="mine")


def test_der_that_is_none() -> None:
    with pytest.raises(UsageError, match="expected a DER certificate"):
        TrustRoot(certificate_der=b"", trust=Trust.SIMULATED, name="mine")
