"""What counts as a secret, and what only looks like one."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import json
import lzma
import tracemalloc
import zipfile
import zlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import example, given
from hypothesis import strategies as st

from enclavectl.image.findings import Rule
from enclavectl.image.secrets import secret_arguments, secret_variables, secrets_in, secrets_in_text
from tests.eif import samples
from tests.eif.samples import pack_zstd

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


@given(st.integers(1, len(EC_KEY) - 1), st.integers(0, 40_000))
@example(30, 16 << 10)
@example(len(EC_KEY) // 2, 40_000)
def test_a_key_across_two_chunks_is_found(cut: int, before: int) -> None:
    """The first 16 KiB are held back, so only beyond them does it matter that chunks overlap."""
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


JSON_KEY = json.dumps({"type": "service_account", "private_key": EC_KEY.decode()}).encode()
NOISE = bytes(range(256)) * 5000  # more than one chunk of any reader


def zipped(name: str, data: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.writestr("first.txt", b"nothing")
        archive.writestr("noise", NOISE)
        archive.writestr(name, data)
    return out.getvalue()


def tarred(name: str, data: bytes) -> bytes:
    return samples.tar([samples.text("first", b"nothing"), samples.text(name, data)])


PACKED = {
    "gzip": gzip.compress(NOISE + EC_KEY),
    "two gzip files": gzip.compress(NOISE) + gzip.compress(EC_KEY),
    "bzip2": bz2.compress(NOISE + EC_KEY),
    "xz": lzma.compress(NOISE + EC_KEY),
    "zstd": pack_zstd(NOISE + EC_KEY),
    "zip": zipped("key.pem", EC_KEY),
    "stored in a zip": zipped("key.pem", EC_KEY, zipfile.ZIP_STORED),
    "zip in tar.gz": gzip.compress(tarred("app.zip", zipped("key.pem", EC_KEY))),
    "tar.xz": lzma.compress(tarred("key.pem", EC_KEY)),
    "behind a tar": gzip.compress(tarred("a", b"") + b"more" * 128 + EC_KEY),
    "DER in a zip": zipped(
        "key.der",
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            Encoding.DER, PrivateFormat.PKCS8, NoEncryption()
        ),
    ),
}


@pytest.mark.parametrize("size", [500, 1 << 20])
@pytest.mark.parametrize("name", PACKED)
def test_a_key_that_is_packed_is_found(name: str, size: int) -> None:
    data = PACKED[name]
    chunks = [data[at : at + size] for at in range(0, len(data), size)]
    found = list(secrets_in(b"app/data.bin", chunks))
    assert {rule for rule, _ in found} == {Rule.PRIVATE_KEY}
    assert any("packed in" in what for _, what in found)


def test_where_it_is_packed_is_said() -> None:
    found = list(secrets_in(b"app.tar.gz", [PACKED["zip in tar.gz"]]))
    assert found == [(Rule.PRIVATE_KEY, "a private key, packed in app.tar/app.zip/key.pem")]


@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(tarred("lib.so", b"\x7fELF\x02\x01" + EC_KEY)),
        zipped("lib.so", b"\x7fELF\x02\x01" + EC_KEY),
        gzip.compress(NOISE)[:-20],
        b"\x1f\x8b\x08" + bytes(100),
        b"BZh9" + bytes(100),
        b"PK\x03\x04" + bytes(100),
        zipped("a", b"a")[:50],
        lzma.compress(NOISE)[:100],
    ],
)
def test_what_is_packed_without_a_key_or_damaged_is_left_alone(data: bytes) -> None:
    assert list(secrets_in(b"usr/lib/x.bin", [data])) == []


@given(st.binary(max_size=300), st.sampled_from(sorted(PACKED)), st.integers(0, 2000))
def test_whatever_is_damaged_never_crashes(junk: bytes, name: str, at: int) -> None:
    data = PACKED[name]
    at %= len(data)
    list(secrets_in(b"x", [data[:at] + junk + data[at + len(junk) :]]))


@pytest.mark.slow
def test_a_bomb_costs_no_memory() -> None:
    level = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(level.compress(bytes(1 << 20)) for _ in range(64)) + level.flush()
    tracemalloc.start()
    assert list(secrets_in(b"x.gz", [bomb])) == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 << 20


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (JSON_KEY, Rule.PRIVATE_KEY),
        (b"KEY=" + EC_KEY.replace(b"\n", b"\\n"), Rule.PRIVATE_KEY),
        (b"tls.key: " + base64.b64encode(EC_KEY), Rule.PRIVATE_KEY),
        (b"AGE-SECRET-KEY-1" + b"Q" * 58, Rule.PRIVATE_KEY),
        (b"PuTTY-User-Key-File-3: ssh-rsa\nEncryption: none\n", Rule.PRIVATE_KEY),
        (b"aws_session: ASIA" + b"Q" * 16, Rule.CREDENTIAL),
        (b"export AWS_SECRET_ACCESS_KEY=" + b"a/b+" * 10, Rule.CREDENTIAL),
        (b'{"SecretAccessKey": "' + b"a/b+" * 10 + b'"}', Rule.CREDENTIAL),
        (b"gho_" + b"a" * 36, Rule.CREDENTIAL),
        (b"glpat-" + b"a" * 20, Rule.CREDENTIAL),
        (b"hf_" + b"a" * 34, Rule.CREDENTIAL),
        (b"xoxb-1234567890-1234567890-abc", Rule.CREDENTIAL),
        (b"password = pypi-AgEIcHlwaS5vcmc" + b"a" * 60, Rule.CREDENTIAL),
        (b"//registry.npmjs.org/:_authToken=" + b"a" * 36, Rule.CREDENTIAL),
        (b'{"auths": {"ghcr.io": {"auth": "dXNlcjpwYXNzd29yZA=="}}}', Rule.CREDENTIAL),
        (b"sk-ant-api03-" + b"a" * 90, Rule.CREDENTIAL),
    ],
)
def test_what_holds_a_secret_under_any_name(data: bytes, rule: Rule) -> None:
    assert [one for one, _ in secrets_in(b"opt/oddly.named", [data])] == [rule]
    assert [one for one, _ in secrets_in(b"a", [gzip.compress(data)])] == [rule]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        (b"root/.config/pip/pip.conf", b"index-url = https://user:hunter22@pypi.example/simple"),
        (b"app/.git/config", b"url = https://x-access-token:abcdefgh@github.com/a/b"),
        (b"app/.env", b"A=1\nexport DB_PASSWORD='x'\n"),
        (b"app/production.env", b"HF_TOKEN=abc\n"),
        (b"root/.pgpass", b""),
        (b"home/me/.cache/huggingface/token", b"x"),
        (b"root/.config/gcloud/application_default_credentials.json", b"{}"),
        (b"_netrc", b""),
    ],
)
def test_files_that_usually_hold_credentials(name: bytes, data: bytes) -> None:
    assert {rule for rule, _ in secrets_in(name, [data] if data else [])} == {Rule.CREDENTIAL}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        (b"root/.config/pip/pip.conf", b"index-url = https://pypi.example/simple"),
        (b"etc/pip.conf", b"index-url = https://${USER}:${PASSWORD}@pypi.example/simple"),
        (b"app/.env", b"LEVEL=info\nDB_PASSWORD=\n"),
        (b"app/README.md", b"urlopen('https://user:password@host/')"),
        (b".npmrc", b"//registry.npmjs.org/:_authToken=${NPM_TOKEN}"),
    ],
)
def test_files_that_might_but_do_not(name: bytes, data: bytes) -> None:
    assert list(secrets_in(name, [data])) == []


def test_arguments_of_a_build_that_are_called_like_a_secret() -> None:
    history = "RUN |2 GITHUB_TOKEN=abcdef LEVEL=info /bin/sh -c make # buildkit"
    assert list(secret_arguments(history)) == ["GITHUB_TOKEN"]
    assert list(secret_arguments('ENV DB_PASS="secret value"')) == ["DB_PASS"]
    assert list(secret_arguments("RUN TOKEN=$TOKEN BYPASS=true TOKENIZERS=1 GPG_KEY=ABCDEF make")) == []
    assert list(secrets_in_text("pip install -i https://me:hunter22@host/simple x")) != []
    assert list(secrets_in_text("ARG X=ghp_" + "a" * 36)) == [(Rule.CREDENTIAL, "a GitHub token")]
    assert list(secrets_in_text("RUN make")) == []
