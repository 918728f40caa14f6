"""What counts as a secret, and what only looks like one."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from enclavectl.image.findings import Rule
from enclavectl.image.secrets import secret_variables, secrets_in
from tests.eif import samples

EC_KEY = samples.key_pem(ec.generate_private_key(ec.SECP256R1()))
KEYS = {
    "ec": EC_KEY,
    "rsa": samples.key_pem(rsa.generate_private_key(65537, 2048)),
    "encrypted": samples.key_pem(ec.generate_private_key(ec.SECP256R1()), b"password"),
    "windows": EC_KEY.replace(b"\n", b"\r\n"),
    "legacy": b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n"
    + base64.encodebytes(bytes(100)),
    "openssh": b"-----BEGIN OPENSSH PRIVATE KEY-----\n" + base64.encodebytes(bytes(100)),
    "pgp": b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n" + base64.encodebytes(bytes(100)),
}


@pytest.mark.parametrize("name", KEYS)
def test_private_keys_are_found_by_their_content(name: str) -> None:
    assert [rule for rule, _ in secrets_in(b"app/notes.txt", [b"text\n", KEYS[name]])] == [Rule.PRIVATE_KEY]


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
@pytest.mark.parametrize(
    "key", [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)]
)
def test_private_keys_without_any_text_are_found(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, form: PrivateFormat
) -> None:
    der = key.private_bytes(Encoding.DER, form, NoEncryption())
    assert [rule for rule, _ in secrets_in(b"app/key.bin", [der])] == [Rule.PRIVATE_KEY]
    assert list(secrets_in(b"app/key.bin", [der[:-1]])) == []
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert list(secrets_in(b"app/key.bin", [public])) == []


@given(st.integers(1, len(EC_KEY) - 1), st.integers(0, 3000))
def test_a_key_across_two_chunks_is_found(cut: int, before: int) -> None:
    data = b"x" * before + EC_KEY
    chunks = [data[: before + cut], data[before + cut :]]
    assert [rule for rule, _ in secrets_in(b"blob", chunks)] == [Rule.PRIVATE_KEY]


@pytest.mark.parametrize(
    "data",
    [
        b'PEM = "-----BEGIN PRIVATE KEY-----"\nif PEM in text: ...\n',
        samples.certificate(ec.generate_private_key(ec.SECP256R1())),
        b"aws_access_key_id = AKIAIOSFODNN7EXAMPLE",
        b"XAKIA" + b"A" * 16,
        b"\x7fELF\x02\x01 a library with its self-test: " + EC_KEY,
        b"",
    ],
)
def test_what_only_speaks_of_keys_is_left_alone(data: bytes) -> None:
    assert list(secrets_in(b"usr/lib/x.py", [data])) == []


@pytest.mark.parametrize(
    "data",
    [
        b"key: AKIA" + b"Q" * 16,
        b"aws_secret_access_key = " + b"a" * 40,
        b"token: ghp_" + b"a" * 36,
        b"github_pat_" + b"a" * 82,
    ],
)
def test_tokens_are_found(data: bytes) -> None:
    assert [rule for rule, _ in secrets_in(b"app/settings", [data])] == [Rule.CREDENTIAL]


@pytest.mark.parametrize("name", [b"root/.aws/credentials", b".netrc", b"root/.docker/config.json"])
def test_files_of_credentials_are_known_by_name(name: bytes) -> None:
    assert [rule for rule, _ in secrets_in(name, [])] == [Rule.CREDENTIAL]


def test_ssh_keys_are_known_by_name() -> None:
    assert [rule for rule, _ in secrets_in(b"root/.ssh/id_ed25519", [b""])] == [Rule.PRIVATE_KEY]
    assert list(secrets_in(b"root/.ssh/id_ed25519.pub", [b""])) == []


def test_variables_that_are_called_like_a_secret() -> None:
    env = ["PATH=/bin", "DB_PASSWORD=x", "API_KEY=", "AWS_SECRET_ACCESS_KEY=y", "TOKENIZERS=1", "MY_TOKEN=z"]
    assert list(secret_variables(env)) == ["DB_PASSWORD", "AWS_SECRET_ACCESS_KEY", "MY_TOKEN"]
