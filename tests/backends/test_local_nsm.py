from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha384
from typing import cast

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from enclave_payload import cbor
from enclave_payload.nsm import MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES
from enclavectl.attestation.cose import parse_cose
from enclavectl.attestation.document import Claims, parse_claims
from enclavectl.backends.local.nsm import SimulatedNsm
from enclavectl.backends.local.pki import ROOT_NAME, DevelopmentRoot
from enclavectl.errors import UsageError

START = datetime(2026, 5, 4, 12, 0, 0, 987654, tzinfo=UTC)
MODULE_ID = "i-0123456789abcdef0-enc0123456789abcdef"
PCRS = {0: b"\x10" * 48, 1: b"\x11" * 48, 2: b"\x12" * 48}
ROOT = DevelopmentRoot.create(START - timedelta(days=1))


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


class Enclave:
    """A SimulatedNsm as the payload would talk to it."""

    def __init__(self, pcrs: dict[int, bytes] = PCRS) -> None:
        self.clock = Clock()
        self.nsm = SimulatedNsm(ROOT, MODULE_ID, pcrs, self.clock)

    def ask(self, request: object) -> object:
        return cbor.decode(self.nsm.handle(cbor2.dumps(request)), max_bytes=MAX_RESPONSE_BYTES)

    def document(self, **arguments: bytes | None) -> bytes:
        answer = self.ask({"Attestation": arguments})
        return cast("dict[str, dict[str, bytes]]", answer)["Attestation"]["document"]

    def claims(self) -> Claims:
        return parse_claims(parse_cose(self.document()).payload)


def read(der: bytes) -> x509.Certificate:
    return x509.load_der_x509_certificate(der)


def test_describe_nsm() -> None:
    assert Enclave().ask("DescribeNSM") == {
        "DescribeNSM": {
            "version_major": 1,
            "version_minor": 0,
            "version_patch": 0,
            "module_id": MODULE_ID,
            "max_pcrs": 32,
            "locked_pcrs": list(range(16)),
            "digest": "SHA384",
        }
    }


def test_get_random() -> None:
    enclave = Enclave()
    first, second = (cast("dict[str, dict[str, bytes]]", enclave.ask("GetRandom")) for _ in range(2))
    assert len(first["GetRandom"]["random"]) == 256
    assert first != second


# The exact bytes of attestation.md section 9, so that this speaks what the real device speaks.
@pytest.mark.parametrize(
    ("request_hex", "answer"),
    [
        (
            "a16b4465736372696265504352a165696e64657800",
            {"DescribePCR": {"lock": True, "data": PCRS[0]}},
        ),
        (
            "a169457874656e64504352a265696e646578106464617461420102",
            {"ExtendPCR": {"data": sha384(bytes(48) + b"\1\2").digest()}},
        ),
        ("a1674c6f636b504352a165696e64657810", "LockPCR"),
        ("a1684c6f636b50435273a16572616e676511", "LockPCRs"),
    ],
)
def test_requests_as_bytes(request_hex: str, answer: object) -> None:
    assert (
        cbor.decode(Enclave().nsm.handle(bytes.fromhex(request_hex)), max_bytes=MAX_RESPONSE_BYTES) == answer
    )


def test_registers() -> None:
    enclave = Enclave()
    zero = bytes(48)
    assert enclave.ask({"DescribePCR": {"index": 16}}) == {"DescribePCR": {"lock": False, "data": zero}}
    once = sha384(zero + b"config").digest()
    twice = sha384(once + b"").digest()
    assert enclave.ask({"ExtendPCR": {"index": 16, "data": b"config"}}) == {"ExtendPCR": {"data": once}}
    assert enclave.ask({"ExtendPCR": {"index": 16, "data": b""}}) == {"ExtendPCR": {"data": twice}}
    assert set(enclave.claims().pcrs) == set(range(16))
    assert enclave.ask({"LockPCR": {"index": 16}}) == "LockPCR"
    assert enclave.claims().pcrs[16] == twice
    assert enclave.ask({"ExtendPCR": {"index": 16, "data": b"more"}}) == {"Error": "ReadOnlyIndex"}
    assert enclave.ask({"LockPCR": {"index": 16}}) == {"Error": "ReadOnlyIndex"}
    assert enclave.ask({"LockPCRs": {"range": 32}}) == "LockPCRs"
    assert set(enclave.claims().pcrs) == set(range(32))


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ({"ExtendPCR": {"index": 0, "data": b"x"}}, "ReadOnlyIndex"),
        ({"LockPCR": {"index": 15}}, "ReadOnlyIndex"),
        ({"DescribePCR": {"index": 32}}, "InvalidIndex"),
        ({"ExtendPCR": {"index": 32, "data": b"x"}}, "InvalidIndex"),
        ({"LockPCR": {"index": 2**63}}, "InvalidIndex"),
        ({"LockPCRs": {"range": 33}}, "InvalidIndex"),
        ({"DescribePCR": {"index": -1}}, "InvalidOperation"),
        ({"DescribePCR": {"index": True}}, "InvalidOperation"),
        ({"DescribePCR": {}}, "InvalidOperation"),
        ({"ExtendPCR": {"index": 16}}, "InvalidOperation"),
        ({"ExtendPCR": {"index": 16, "data": "text"}}, "InvalidOperation"),
        ({"LockPCRs": {"range": None}}, "InvalidOperation"),
        ({"Attestation": {"nonce": 1}}, "InvalidOperation"),
        ({"Attestation": None}, "InvalidOperation"),
        ({"Attestation": {}, "DescribePCR": {"index": 0}}, "InvalidOperation"),
        ({"GetRandom": {}}, "InvalidOperation"),
        ({1: {}}, "InvalidOperation"),
        ({}, "InvalidOperation"),
        ("Attestation", "InvalidOperation"),
        (["DescribeNSM"], "InvalidOperation"),
        (None, "InvalidOperation"),
        (1.5, "InvalidOperation"),
        (bytes(MAX_REQUEST_BYTES), "InputTooLarge"),
    ],
)
def test_errors(request_: object, error: str) -> None:
    assert Enclave().ask(request_) == {"Error": error}


@given(st.binary(max_size=40))
def test_noise_gets_an_answer(noise: bytes) -> None:
    assert cbor.decode(NOISY.handle(noise), max_bytes=MAX_RESPONSE_BYTES)


NOISY = Enclave().nsm


def test_the_largest_request_gets_an_answer_within_the_limit() -> None:
    enclave = Enclave()
    enclave.ask({"LockPCRs": {"range": 32}})
    head = len(cbor2.dumps({"Attestation": {"nonce": bytes(4000)}})) - 4000
    request = cbor2.dumps({"Attestation": {"nonce": bytes(MAX_REQUEST_BYTES - head)}})
    assert len(request) == MAX_REQUEST_BYTES
    answer = enclave.nsm.handle(request)
    assert b"document" in answer
    assert len(answer) <= MAX_RESPONSE_BYTES


def test_documents_have_aws_s_form() -> None:
    document = Enclave().document(nonce=b"n" * 32, user_data=None)
    assert document.startswith(bytes.fromhex("8444a1013822a059"))
    assert document[-98:-96] == b"\x58\x60"
    payload = parse_cose(document).payload
    assert payload.startswith(b"\xbf\x69module_id\x78\x27" + MODULE_ID.encode() + b"\x66digest\x66SHA384")
    assert payload.endswith(b"\x6apublic_key\xf6\x69user_data\xf6\x65nonce\x58\x20" + b"n" * 32 + b"\xff")
    assert list(cbor2.loads(payload)) == [
        "module_id",
        "digest",
        "timestamp",
        "pcrs",
        "certificate",
        "cabundle",
        "public_key",
        "user_data",
        "nonce",
    ]
    claims = parse_claims(payload)
    assert claims.timestamp == START.replace(microsecond=987000)
    assert dict(claims.pcrs) == {index: PCRS.get(index, bytes(48)) for index in range(16)}


def test_certificates_have_aws_s_form() -> None:
    claims = Enclave().claims()
    root, intermediate = map(read, claims.cabundle)
    leaf = read(claims.certificate)
    assert root == ROOT.certificate
    for certificate, path_length in ((root, None), (intermediate, 0)):
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, path_length)
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
        assert usage.critical
        assert usage.value.key_cert_sign
    basic = leaf.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca) == (True, False)
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage)
    assert not usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign
    assert len(leaf.extensions) == 2
    assert leaf.subject.rfc4514_string().startswith(f"CN={MODULE_ID}.local.enclavectl,")
    assert leaf.not_valid_before_utc == START.replace(microsecond=0)
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == timedelta(hours=3)
    assert intermediate.not_valid_after_utc - intermediate.not_valid_before_utc == timedelta(hours=24)
    assert len(claims.certificate) <= 1024


def test_a_leaf_lives_until_fifteen_minutes_before_its_end() -> None:
    enclave = Enclave()
    first = enclave.claims().certificate
    end = read(first).not_valid_after_utc
    enclave.clock.now = end - timedelta(minutes=15)
    assert enclave.claims().certificate == first
    enclave.clock.now = end - timedelta(minutes=15) + timedelta(microseconds=1)
    second = enclave.claims()
    assert second.certificate != first
    assert read(second.certificate).not_valid_before_utc <= enclave.clock.now
    assert read(second.cabundle[1]).not_valid_after_utc >= read(second.certificate).not_valid_after_utc


def test_a_clock_set_back_gets_a_leaf_that_is_valid() -> None:
    enclave = Enclave()
    enclave.clock.now = START - timedelta(hours=1)
    assert read(enclave.claims().certificate).not_valid_before_utc <= enclave.clock.now


def test_no_certificate_outlives_the_root() -> None:
    enclave = Enclave()
    end = ROOT.certificate.not_valid_after_utc
    enclave.clock.now = end - timedelta(minutes=20)
    claims = enclave.claims()
    assert read(claims.certificate).not_valid_after_utc == end
    assert read(claims.cabundle[1]).not_valid_after_utc == end


def test_an_unmeasured_enclave_is_a_debug_one() -> None:
    assert Enclave({4: b"\4" * 48}).claims().is_debug
    assert not Enclave().claims().is_debug


@pytest.mark.parametrize("pcrs", [{16: bytes(48)}, {-1: bytes(48)}, {0: bytes(32)}])
def test_impossible_measurements(pcrs: dict[int, bytes]) -> None:
    with pytest.raises(UsageError, match="PCR"):
        Enclave(pcrs)


@pytest.mark.parametrize("module_id", ["", "i" * 40, "ü"])
def test_impossible_module_ids(module_id: str) -> None:
    with pytest.raises(UsageError, match="module id"):
        SimulatedNsm(ROOT, module_id, PCRS, Clock())


def test_the_root_reads_back() -> None:
    again = DevelopmentRoot.from_pem(ROOT.key_pem, ROOT.certificate_pem)
    assert again.certificate == ROOT.certificate
    assert again.key.private_numbers() == ROOT.key.private_numbers()


def test_the_root_says_what_it_is() -> None:
    certificate = ROOT.certificate
    assert certificate.subject.rfc4514_string().startswith("CN=" + ROOT_NAME.replace(",", "\\,"))
    assert certificate.issuer == certificate.subject
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == timedelta(days=30 * 365)


@pytest.mark.parametrize("broken", ["key", "certificate", "pair", "public key"])
def test_a_root_that_cannot_be_read(broken: str) -> None:
    other = DevelopmentRoot.create(START)
    pieces = {
        "key": (b"-----BEGIN", ROOT.certificate_pem),
        "certificate": (ROOT.key_pem, b""),
        "pair": (other.key_pem, ROOT.certificate_pem),
        "public key": (ROOT.certificate.public_bytes(Encoding.PEM), ROOT.certificate_pem),
    }
    with pytest.raises(UsageError, match="development root"):
        DevelopmentRoot.from_pem(*pieces[broken])
