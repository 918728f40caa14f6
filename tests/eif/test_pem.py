"""Keys and certificates as people have them: taken where they can be, else named for what they are."""

from __future__ import annotations

import base64
import io
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates

from enclavectl.eif.errors import EifError
from enclavectl.eif.examine import examine, read_image, read_verified
from enclavectl.eif.findings import Severity
from enclavectl.eif.pem import holds_private_key, pem_blocks, pem_kind
from enclavectl.eif.sign import load_certificate, load_key, load_signer, refuse_private_key
from tests.eif.samples import NOW, certificate, image, key_pem, sections, signed_image

KEY, OTHER = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())
PEM = certificate(KEY)
SEC1 = KEY.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
OPENSSH = KEY.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
ENCRYPTED_SEC1 = SEC1.replace(
    b"KEY-----\n", b"KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n", 1
)
X509 = x509.load_pem_x509_certificate(PEM)
DER = X509.public_bytes(Encoding.DER)
PKCS12 = serialize_key_and_certificates(b"me", KEY, X509, None, NoEncryption())
PUBLIC = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
SSH_PUBLIC = KEY.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
REQUEST = (
    x509.CertificateSigningRequestBuilder()
    .subject_name(X509.subject)
    .sign(KEY, hashes.SHA384())
    .public_bytes(Encoding.PEM)
)
BOM = b"\xef\xbb\xbf"
ONE_LINE = b"-----BEGIN CERTIFICATE-----\n%s\n-----END CERTIFICATE-----\n" % base64.b64encode(DER)

# What the real nitro-cli 1.5.2 put into images with exit status 0, and the same PCR8 each time.
EMBEDDED = {
    "a blank line behind": PEM + b"\n",
    "two blank lines behind": PEM + b"\n\n",
    "a blank line before": b"\n" + PEM,
    "text before": b"Certificate:\n    Data:\n        Version: 3 (0x2)\n" + PEM,
    "bag attributes": b"Bag Attributes\n    friendlyName: signer\nsubject=CN = signer\n" + PEM,
    "a chain, leaf first": PEM + certificate(OTHER),
    "a byte order mark": BOM + PEM,
    "blanks at the ends of lines": PEM.replace(b"\n", b" \n"),
    "one long line": ONE_LINE,
}


@pytest.mark.parametrize("name", EMBEDDED)
def test_what_nitro_cli_signed_is_measured_and_warned_of(name: str) -> None:
    file = io.BytesIO(signed_image(KEY, EMBEDDED[name]))
    found = read_image(file)
    assert found.measurements == read_verified(io.BytesIO(signed_image(KEY, PEM))).measurements
    assert [(one.code, one.severity) for one in found.warnings] == [("certificate-form", Severity.WARNING)]
    examination = examine(file, now=NOW)
    assert examination.findings == found.warnings
    assert (examination.signature_ok, examination.sound) == (True, False)


@pytest.mark.parametrize("pem", [PEM, PEM.replace(b"\n", b"\r\n"), PEM.rstrip()])
def test_a_certificate_alone_is_no_warning(pem: bytes) -> None:
    assert read_image(io.BytesIO(signed_image(KEY, pem))).warnings == ()


@pytest.mark.parametrize("key", [key_pem(KEY), SEC1, OPENSSH, key_pem(KEY, b"password")])
@pytest.mark.parametrize("first", [True, False])
def test_a_private_key_in_the_signature_section_is_a_finding(key: bytes, first: bool) -> None:
    file = io.BytesIO(signed_image(KEY, key + PEM if first else PEM + key))
    warnings = {one.code for one in read_image(file).warnings}
    assert warnings == {"certificate-form", "signature-private-key"}
    assert {one.code for one in examine(file, now=NOW).findings} == warnings


def test_a_private_key_is_found_where_the_section_cannot_be_parsed() -> None:
    whole = signed_image(KEY, SEC1 + PEM)
    at = whole.index(b"\x73signing_certificate")
    section = b"\x9f" + whole[at - 1 :] + b"\xff"
    found = examine(io.BytesIO(image([*sections(), (4, section)])), now=NOW).findings
    assert {one.code for one in found} == {"signature-form", "signature-private-key"}
    plain = examine(io.BytesIO(image([*sections(), (4, SEC1)])), now=NOW).findings
    assert "signature-private-key" in {one.code for one in plain}


def test_the_first_certificate_counts() -> None:
    mine = read_image(io.BytesIO(signed_image(KEY, PEM + certificate(OTHER)))).measurements.pcr8
    assert mine == read_image(io.BytesIO(signed_image(KEY, PEM))).measurements.pcr8
    data = io.BytesIO(signed_image(KEY, certificate(OTHER) + PEM))
    assert read_image(data).measurements.pcr8 != mine
    assert "signature-invalid" in {one.code for one in examine(data, now=NOW).findings}


@pytest.mark.parametrize("name", EMBEDDED)
def test_signing_takes_such_a_file_and_writes_the_certificate_alone(name: str) -> None:
    assert load_signer(SEC1, EMBEDDED[name], now=NOW).certificate_pem == PEM


def test_files_of_key_and_certificate_serve_as_either_but_not_for_nitro_cli() -> None:
    for both in (SEC1 + PEM, PEM + SEC1):
        assert load_signer(both, both, now=NOW).certificate_pem == PEM
        with pytest.raises(EifError) as caught:
            refuse_private_key(both)
        assert caught.value.code == "signature-private-key"
    refuse_private_key(PEM + certificate(OTHER))


@pytest.mark.parametrize("pem", [BOM + SEC1, SEC1.replace(b"\n", b"\r\n"), b"text\n\n" + key_pem(KEY)])
def test_keys_with_other_marks_and_line_ends_are_taken(pem: bytes) -> None:
    assert load_key(pem).public_key() == KEY.public_key()


@pytest.mark.parametrize(
    ("data", "what", "hint"),
    [
        (PEM, "a certificate", "swapped"),
        (PUBLIC, "a public key", "private key"),
        (SSH_PUBLIC, "a public key of OpenSSH", "private key"),
        (PKCS12, "a PKCS #12 store", "openssl pkcs12"),
        (OPENSSH, "OpenSSH's own format", "ssh-keygen -p"),
        (REQUEST, "a certificate request", "private key"),
        (key_pem(KEY, b"x"), "with a password", "openssl pkey"),
        (ENCRYPTED_SEC1, "with a password", "openssl pkey"),
        (KEY.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()), "binary (DER)", "-inform DER"),
        (b"", "an empty file", "private key"),
        (b"\n \n", "an empty file", "private key"),
        (b"hello", "no PEM", "ecparam"),
        (SEC1[:-40], "PEM without its END line", "cut short"),
        (SEC1[:90], "PEM without its END line", "cut short"),
        (SEC1.decode().encode("utf-16"), "UTF-16 text", "iconv"),
        (SEC1.replace(b"\n", b"\\n"), "in place of line ends", "printf"),
        (b'{"key": "' + SEC1.replace(b"\n", b"\\n") + b'"}', "in place of line ends", "printf"),
        (base64.b64encode(SEC1), "PEM in base64", "base64 -d"),
        (SEC1.replace(b"-----BEGIN", b"----BEGIN"), "damaged BEGIN or END", "five hyphens"),
        (SEC1.replace(b"EC PRIVATE", b"PRIVATE"), "a private key", "another form"),
        (b"PuTTY-User-Key-File-3: ecdsa-sha2-nistp384\n", "of PuTTY", "puttygen"),
        (b"-----BEGIN X-----\nAA==\n-----END X-----\n", "of the kind 'X'", "ecparam"),
    ],
)
def test_what_is_no_signing_key_is_named_for_what_it_is(data: bytes, what: str, hint: str) -> None:
    with pytest.raises(EifError, match="expected an unencrypted private key") as caught:
        load_key(data)
    assert caught.value.code == "signing-key"
    assert what in caught.value.reason
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize(
    ("data", "what", "hint"),
    [
        (SEC1, "a private key", "swapped"),
        (key_pem(KEY), "a private key", "swapped"),
        (OPENSSH, "OpenSSH's own format", "swapped"),
        (PUBLIC, "a public key", "req -new -x509"),
        (PKCS12, "a PKCS #12 store", "openssl pkcs12"),
        (REQUEST, "a certificate request", "x509 -req"),
        (REQUEST.replace(b"CERTIFICATE REQ", b"NEW CERTIFICATE REQ"), "a certificate request", "x509 -req"),
        (DER, "binary (DER)", "-inform DER"),
        (
            PEM.replace(b" CERT", b" TRUSTED CERT"),
            "trusted",
            "x509 -in",
        ),
        (b"", "an empty file", "req -new -x509"),
        (b"hello", "no PEM", "req -new -x509"),
        (PEM.decode().encode("utf-16"), "UTF-16 text", "iconv"),
        (PEM.replace(b"-----BEGIN", b"> -----BEGIN"), "damaged BEGIN or END", "five hyphens"),
        (PEM.replace(b"-----", "\N{EM DASH}----".encode()), "damaged BEGIN or END", "five hyphens"),
        (PEM[:200], "PEM without its END line", "cut short"),
    ],
)
def test_what_is_no_certificate_is_named_for_what_it_is(data: bytes, what: str, hint: str) -> None:
    with pytest.raises(EifError, match="BEGIN CERTIFICATE") as caught:
        load_certificate(data, now=NOW)
    assert caught.value.code == "certificate-form"
    assert what in caught.value.reason
    assert hint in str(caught.value.hint)


def test_a_chain_with_the_root_first_says_that_order_counts() -> None:
    with pytest.raises(EifError, match="another key") as caught:
        load_signer(SEC1, certificate(OTHER) + PEM, now=NOW)
    assert "comes first" in str(caught.value.hint)


def test_certificates_that_expired_or_are_damaged_are_still_told() -> None:
    for pem, code in (
        (certificate(KEY, start=NOW - timedelta(days=60)), "certificate-time"),
        (PEM.replace(b"\nMII", b"\n!II"), "certificate-form"),
        (PEM[:100] + PEM[104:], "certificate-form"),
    ):
        with pytest.raises(EifError) as caught:
            load_certificate(pem, now=NOW)
        assert caught.value.code == code


def test_blocks_are_whole_or_left_out() -> None:
    assert [block.label for block in pem_blocks(SEC1 + b"x\n" + PEM)] == ["EC PRIVATE KEY", "CERTIFICATE"]
    assert list(pem_blocks(PEM[:-10])) == []
    inner = PEM.replace(b"\nMII", b"\n" + PUBLIC + b"MII", 1)
    assert [block.label for block in pem_blocks(inner)] == ["PUBLIC KEY"]
    assert pem_kind(inner).what == "a public key"


def test_speaking_of_a_key_is_not_holding_one() -> None:
    assert not holds_private_key(PEM + b"no PRIVATE KEY here")
    assert holds_private_key(
        serialization.load_pem_private_key(SEC1, None).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
    )
