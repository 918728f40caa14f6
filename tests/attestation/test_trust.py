from __future__ import annotations

from hashlib import sha256

import pytest

from enclavectl.attestation import Trust, TrustRoot, aws_nitro_root
from enclavectl.backends.local.pki import DevelopmentRoot
from enclavectl.errors import UsageError
from tests.forge import NOW

AWS_ROOT_SHA256 = "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b"


@pytest.fixture(scope="module")
def development() -> DevelopmentRoot:
    return DevelopmentRoot.create(NOW)


def test_the_packaged_root_is_aws_s() -> None:
    root = aws_nitro_root()
    assert sha256(root.certificate_der).hexdigest() == root.fingerprint == AWS_ROOT_SHA256
    assert (root.trust, root.name) == (Trust.NITRO, "aws")


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
    with pytest.raises(UsageError, match="expected a PEM certificate"):
        TrustRoot.from_pem(pem, trust=Trust.SIMULATED, name="mine")


def test_pem_with_two_certificates(development: DevelopmentRoot) -> None:
    with pytest.raises(UsageError, match="expected one certificate, found 2"):
        TrustRoot.from_pem(development.certificate_pem * 2, trust=Trust.SIMULATED, name="mine")


def test_der_that_is_none() -> None:
    with pytest.raises(UsageError, match="expected a DER certificate"):
        TrustRoot(certificate_der=b"", trust=Trust.SIMULATED, name="mine")
