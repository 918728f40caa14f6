from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.gateway.fake_enclave import FakeEnclave, fake_enclave
from tests.local_enclave import LocalEnclave, start_local_enclave


@pytest.fixture(scope="session")
def enclave(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEnclave]:
    """One enclave of the local backend for all tests of the gateway."""
    with start_local_enclave(tmp_path_factory.mktemp("e")) as started:
        yield started


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA of a test, and what it signed: a server's certificate for localhost, and a client's."""

    folder: Path

    def trusting(self, *, alpn: str | None = None, client: bool = False) -> ssl.SSLContext:
        """A client's context that trusts the CA."""
        context = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        if alpn is not None:
            context.set_alpn_protocols([alpn])
        if client:
            context.load_cert_chain(self.folder / "client.pem", self.folder / "client.key")
        return context

    @property
    def arguments(self) -> list[str]:
        return ["--cert", str(self.folder / "server.pem"), "--key", str(self.folder / "server.key")]

    def sign(self, name: str, common_name: str) -> None:
        """Write NAME.pem and NAME.key."""
        ca_key = serialization.load_pem_private_key((self.folder / "ca.key").read_bytes(), None)
        assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
        ca = x509.load_pem_x509_certificate((self.folder / "ca.pem").read_bytes())
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName(common_name)])
        made = _builder(common_name, ca.subject, key).add_extension(names, critical=False)
        _write(self.folder, name, made.sign(ca_key, hashes.SHA256()), key)


def _builder(common_name: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
    )


def _write(folder: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("ca"))


def make_authority(folder: Path) -> Authority:
    """Make a CA in a folder, with certificates for a server and a client."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test CA")])
    made = _builder("test CA", subject, key).add_extension(
        x509.BasicConstraints(ca=True, path_length=None), critical=True
    )
    _write(folder, "ca", made.sign(key, hashes.SHA256()), key)
    found = Authority(folder)
    found.sign("server", "localhost")
    found.sign("client", "clinic.example")
    return found


@pytest.fixture(scope="session")
def enclave_of_zeros(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeEnclave]:
    """An enclave that answers at once, with bytes that no client believes."""
    with fake_enclave(tmp_path_factory.mktemp("z") / "s") as started:
        yield started
