"""The reader of signed receipts: everything but the one valid form is refused with a code."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclavectl.evidence import ReceiptCode, ReceiptError, parse_receipt
from enclavectl.evidence.air import check_signature
from enclavectl.protocol.receipts import Claim
from tests.evidence import example
from tests.evidence.forged import example_claims, measured, with_claims, with_payload

OPTIONAL = {Claim.EAT_NONCE, Claim.MODEL_HASH_SCHEME}
TEXTS = {
    Claim.ISS: 256,
    Claim.EAT_PROFILE: 256,
    Claim.MODEL_ID: 256,
    Claim.MODEL_VERSION: 128,
    Claim.POLICY_VERSION: 256,
    Claim.SECURITY_MODE: 256,
    Claim.MODEL_HASH_SCHEME: 256,
}
HASHES = {Claim.MODEL_HASH, Claim.REQUEST_HASH, Claim.RESPONSE_HASH, Claim.ATTESTATION_DOC_HASH}
NUMBERS = {Claim.IAT, Claim.SEQUENCE_NUMBER, Claim.EXECUTION_TIME_MS, Claim.MEMORY_PEAK_MB}


def refused(data: bytes) -> ReceiptCode:
    with pytest.raises(ReceiptError) as caught:
        parse_receipt(data)
    assert caught.value.exit_code == 4
    assert caught.value.hint
    assert caught.value.message.encode()
    return ReceiptCode(caught.value.code)


def test_the_example_of_another_implementation_is_read_claim_by_claim() -> None:
    receipt = parse_receipt(example.RECEIPT)
    assert hashlib.sha256(receipt.raw).hexdigest() == (
        "45802ca31957dc54163e1c6da0eab95c931794f9aea4d5f2defdb47f944c4536"
    )
    assert len(receipt.payload) == 580
    assert (receipt.iss, receipt.iat, receipt.sequence_number) == ("enclavectl", example.ISSUED_AT, 1)
    assert receipt.cti == bytes(range(0xA0, 0xB0))
    assert receipt.eat_nonce == example.NONCE
    assert (receipt.model_id, receipt.model_version) == ("demo-synthetic-lesions", "1")
    assert receipt.model_hash == b"\xab" * 32
    assert receipt.attestation_doc_hash == hashlib.sha256(example.DOCUMENT).digest()
    assert receipt.request_hash == hashlib.sha256(example.REQUEST_STATEMENT).digest()
    assert receipt.response_hash == hashlib.sha256(example.ANSWER_STATEMENT).digest()
    assert receipt.measurement_type == "nitro-pcr"
    assert receipt.pcrs == {index: hashlib.sha384(b"PCR%d" % index).digest() for index in (0, 1, 2)}
    assert (receipt.execution_time_ms, receipt.memory_peak_mb) == (2, 96)
    assert receipt.security_mode == "production"
    assert receipt.model_hash_scheme == "sha256-single"
    check_signature(receipt, example.PUBLIC_KEY)


def test_what_another_library_encodes_from_the_same_claims_is_the_same_receipt() -> None:
    assert with_claims() == example.RECEIPT


@pytest.mark.parametrize("claim", Claim)
def test_a_claim_that_is_missing_is_refused_unless_it_may_be(claim: Claim) -> None:
    data = with_claims(without=claim)
    if claim in OPTIONAL:
        check_signature(parse_receipt(data), example.PUBLIC_KEY)
    else:
        assert refused(data) is ReceiptCode.CLAIM_MISSING


@pytest.mark.parametrize("value", [None, True, -1, 0, "text", b"", [], {}, {1: 2}], ids=repr)
@pytest.mark.parametrize("claim", Claim)
def test_a_claim_of_another_type_is_refused(claim: Claim, value: object) -> None:
    if (
        isinstance(value, str)
        and claim in TEXTS
        and claim
        not in {
            Claim.EAT_PROFILE,
            Claim.SECURITY_MODE,
            Claim.MODEL_HASH_SCHEME,
        }
    ):
        return
    if value == 0 and type(value) is int and claim in NUMBERS - {Claim.IAT}:
        return
    assert refused(with_claims({claim: value})) in {
        ReceiptCode.CLAIM_FORM,
        ReceiptCode.CLAIM_ZERO,
        ReceiptCode.RECEIPT_PROFILE,
        ReceiptCode.RECEIPT_MEASUREMENTS,
        ReceiptCode.HASH_SCHEME,
        ReceiptCode.SECURITY_MODE,
    }


@pytest.mark.parametrize(("claim", "limit"), TEXTS.items())
def test_a_text_over_its_bound_in_bytes_is_refused(claim: Claim, limit: int) -> None:
    assert refused(with_claims({claim: "é" * (limit // 2) + "a"})) is ReceiptCode.CLAIM_FORM


@pytest.mark.parametrize("claim", [Claim.ISS, Claim.MODEL_ID, Claim.MODEL_VERSION, Claim.POLICY_VERSION])
def test_a_text_at_its_bound_is_read(claim: Claim) -> None:
    parse_receipt(with_claims({claim: "é" * (TEXTS[claim] // 2)}))


@pytest.mark.parametrize("claim", sorted(HASHES))
@pytest.mark.parametrize("size", [0, 31, 33, 48])
def test_a_hash_of_another_length_is_refused(claim: Claim, size: int) -> None:
    assert refused(with_claims({claim: bytes([7]) * size})) is ReceiptCode.CLAIM_FORM


@pytest.mark.parametrize(
    ("claim", "zero"), [(Claim.IAT, 0), (Claim.CTI, bytes(16)), (Claim.MODEL_HASH, bytes(32))]
)
def test_zeros_where_a_value_must_be_are_refused(claim: Claim, zero: object) -> None:
    assert refused(with_claims({claim: zero})) is ReceiptCode.CLAIM_ZERO


@pytest.mark.parametrize("claim", [Claim.REQUEST_HASH, Claim.RESPONSE_HASH, Claim.ATTESTATION_DOC_HASH])
def test_other_hashes_may_be_zeros(claim: Claim) -> None:
    parse_receipt(with_claims({claim: bytes(32)}))


@pytest.mark.parametrize("size", [0, 7, 65])
def test_a_nonce_out_of_bounds_is_refused(size: int) -> None:
    assert refused(with_claims({Claim.EAT_NONCE: bytes(size)})) is ReceiptCode.CLAIM_FORM


@pytest.mark.parametrize("size", [8, 64])
def test_a_nonce_at_its_bounds_is_read(size: int) -> None:
    assert parse_receipt(with_claims({Claim.EAT_NONCE: bytes(size)})).eat_nonce == bytes(size)


def test_the_last_second_that_has_a_date_is_read_and_the_next_is_refused() -> None:
    assert parse_receipt(with_claims({Claim.IAT: 253_402_300_799})).issued_at.year == 9999
    assert refused(with_claims({Claim.IAT: 253_402_300_800})) is ReceiptCode.CLAIM_FORM


@pytest.mark.parametrize(
    ("claim", "value", "code"),
    [
        (Claim.EAT_PROFILE, "https://spec.cyntrisec.com/air/v2", ReceiptCode.RECEIPT_PROFILE),
        (Claim.EAT_PROFILE, "HTTPS://spec.cyntrisec.com/air/v1", ReceiptCode.RECEIPT_PROFILE),
        (Claim.SECURITY_MODE, "GatewayOnly", ReceiptCode.SECURITY_MODE),
        (Claim.SECURITY_MODE, "Production", ReceiptCode.SECURITY_MODE),
        (Claim.MODEL_HASH_SCHEME, "sha512-single", ReceiptCode.HASH_SCHEME),
    ],
)
def test_a_word_that_is_not_of_the_format_has_a_code_of_its_own(
    claim: Claim, value: str, code: ReceiptCode
) -> None:
    assert refused(with_claims({claim: value})) is code


@pytest.mark.parametrize(
    "changes",
    [
        {"pcr0": None},
        {"pcr1": None},
        {"pcr2": None},
        {"pcr0": bytes(47)},
        {"pcr2": bytes(64)},
        {"pcr1": "text"},
        {"pcr5": bytes(48)},
        {"pcr3": b""},
        {"PCR3": bytes(48)},
        {"measurement_type": None},
        {"measurement_type": "sev-snp"},
        {"measurement_type": 1},
        {"measurement_type": "tdx-mrtd-rtmr", "pcr8": bytes(48)},
    ],
    ids=repr,
)
def test_measurements_of_another_form_are_refused(changes: dict[str, object]) -> None:
    assert refused(with_claims(measured(**changes))) is ReceiptCode.RECEIPT_MEASUREMENTS


def test_a_measurement_with_a_number_for_a_name_is_refused() -> None:
    registers = {**measured()[Claim.ENCLAVE_MEASUREMENTS], 3: bytes(48)}  # type: ignore[dict-item]
    assert refused(with_claims({Claim.ENCLAVE_MEASUREMENTS: registers})) is ReceiptCode.RECEIPT_MEASUREMENTS


def test_further_registers_are_read_by_their_index() -> None:
    more = {f"pcr{index}": bytes([index]) * 48 for index in (3, 4, 8)}
    assert parse_receipt(with_claims(measured(**more))).pcrs.keys() == {0, 1, 2, 3, 4, 8}


@pytest.mark.parametrize("key", [2, 264, -65550, -65599, -65536])
def test_an_unknown_claim_is_refused(key: int) -> None:
    claims = {int(str(label)): value for label, value in example_claims().items()} | {key: 1}
    assert refused(with_payload(cbor2.dumps(claims, canonical=True))) is ReceiptCode.CLAIM_UNKNOWN


def test_a_claim_with_a_text_for_a_label_is_refused() -> None:
    # In their order already, with text last; cbor2's own order would be by length first (RFC 7049).
    assert refused(with_payload(cbor2.dumps(example_claims() | {"iss": "x"}))) is ReceiptCode.CLAIM_UNKNOWN


def pairs() -> list[bytes]:
    """The example's claims, each encoded, in their order."""
    encoded = sorted((cbor2.dumps(int(str(key))), value) for key, value in example_claims().items())
    return [key + cbor2.dumps(value, canonical=True) for key, value in encoded]


def test_the_parts_of_the_example_are_its_payload() -> None:
    whole = bytes([0xA0 | len(pairs())]) if len(pairs()) < 24 else b""
    assert whole + b"".join(pairs()) == parse_receipt(example.RECEIPT).payload


@pytest.mark.parametrize("index", range(len(pairs())))
def test_a_claim_that_stands_twice_is_refused(index: int) -> None:
    doubled = pairs()
    doubled.insert(index, doubled[index])
    payload = bytes([0xA0 | len(doubled)]) + b"".join(doubled)
    assert refused(with_payload(payload)) is ReceiptCode.RECEIPT_CBOR


@pytest.mark.parametrize("index", range(len(pairs()) - 1))
def test_claims_in_another_order_are_refused(index: int) -> None:
    swapped = pairs()
    swapped[index : index + 2] = reversed(swapped[index : index + 2])
    payload = bytes([0xA0 | len(swapped)]) + b"".join(swapped)
    assert refused(with_payload(payload)) is ReceiptCode.RECEIPT_ENCODING


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        # iat in eight bytes, an issuer with a long head, an indefinite map, a float for a number
        ("061a6b0a1980", "061b000000006b0a1980", ReceiptCode.RECEIPT_ENCODING),
        ("016a656e63", "01780a656e63", ReceiptCode.RECEIPT_ENCODING),
        ("3a0001000801", "3a00010008f90000", ReceiptCode.RECEIPT_CBOR),
        ("3a0001000801", "3a00010008f5", ReceiptCode.CLAIM_FORM),
        ("3a0001000801", "3a00010008c101", ReceiptCode.RECEIPT_CBOR),
    ],
)
def test_another_encoding_of_the_claims_is_refused(old: str, new: str, code: ReceiptCode) -> None:
    payload = parse_receipt(example.RECEIPT).payload.hex()
    assert payload.count(old) == 1
    assert refused(with_payload(bytes.fromhex(payload.replace(old, new)))) is code


def test_a_payload_of_indefinite_length_is_refused() -> None:
    payload = b"\xbf" + b"".join(pairs()) + b"\xff"
    assert refused(with_payload(payload)) is ReceiptCode.RECEIPT_CBOR


def test_bytes_after_the_claims_are_refused() -> None:
    payload = parse_receipt(example.RECEIPT).payload + b"\0"
    assert refused(with_payload(payload)) is ReceiptCode.RECEIPT_CBOR


@pytest.mark.parametrize("value", [[], "text", b"bytes", 1, None])
def test_a_payload_that_is_no_map_is_refused(value: object) -> None:
    assert refused(with_payload(cbor2.dumps(value))) is ReceiptCode.RECEIPT_STRUCTURE


def test_the_codes_are_all_told_apart() -> None:
    codes = sorted(ReceiptCode)
    assert all(one != other for one, other in pairwise(codes))
    for code in codes:
        assert ReceiptError(code, "m").hint


@given(st.binary(max_size=400))
def test_any_bytes_are_refused_or_read_back_the_same(data: bytes) -> None:
    for candidate in (data, b"\xd2" + data, with_payload(data)):
        try:
            receipt = parse_receipt(candidate)
        except ReceiptError:
            continue
        assert receipt.raw == candidate


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.binary(max_size=64) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(Claim), VALUES)
def test_any_value_of_a_claim_is_refused_or_kept(claim: Claim, value: object) -> None:
    data = with_claims({claim: value})
    try:
        receipt = parse_receipt(data)
    except ReceiptError:
        return
    check_signature(receipt, example.PUBLIC_KEY)
    if claim is not Claim.ENCLAVE_MEASUREMENTS:
        assert getattr(receipt, claim.name.lower()) == value
