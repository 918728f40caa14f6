"""The envelope of signed receipts and its signature: one form, one key, and none of the tricks of Ed25519."""

from __future__ import annotations

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from enclavectl.evidence import ReceiptCode, ReceiptError, parse_receipt
from enclavectl.evidence.air import MAX_RECEIPT_BYTES, check_signature
from tests.evidence import example
from tests.evidence.forged import PROTECTED, envelope
from tests.evidence.test_air import refused


@pytest.mark.parametrize(
    ("protected", "what"),
    [
        ("a1013822", "ES384"),
        ("a20132183d", "Ed25519 by RFC 9864"),
        ("a10127", "no content type"),
        ("a2183d030127", "another order"),
        ("a201270318ff", "another type"),
        ("a3012703183d0441aa", "a kid"),
        ("", "none"),
    ],
)
def test_another_protected_header_is_refused(protected: str, what: str) -> None:
    assert what
    assert refused(envelope(protected=bytes.fromhex(protected))) is ReceiptCode.RECEIPT_ALGORITHM


@pytest.mark.parametrize(
    "data",
    [
        envelope(protected={1: -8, 3: 61}),
        envelope(unprotected={4: b"kid"}),
        envelope(unprotected=[]),
        envelope(payload=[]),
        envelope(signature=bytes(63)),
        envelope(signature=bytes(65)),
        envelope(signature="text"),
        b"\xd2" + cbor2.dumps([PROTECTED, {}, b"payload"]),
        b"\xd2" + cbor2.dumps([PROTECTED, {}, b"payload", bytes(64), None]),
        b"\xd2" + cbor2.dumps({}),
    ],
)
def test_another_envelope_is_refused(data: bytes) -> None:
    assert refused(data) is ReceiptCode.RECEIPT_STRUCTURE


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (example.RECEIPT[1:], ReceiptCode.RECEIPT_TAG),
        (b"\xd1" + example.RECEIPT[1:], ReceiptCode.RECEIPT_TAG),
        (b"\xd8\x12" + example.RECEIPT[1:], ReceiptCode.RECEIPT_TAG),
        (b"\xd2" + example.RECEIPT, ReceiptCode.RECEIPT_CBOR),
        (b"\xd9\xd9\xf7" + example.RECEIPT, ReceiptCode.RECEIPT_TAG),
        (b"", ReceiptCode.RECEIPT_SIZE),
        (b"\xd2" + bytes(MAX_RECEIPT_BYTES), ReceiptCode.RECEIPT_SIZE),
        (example.RECEIPT.hex().encode(), ReceiptCode.RECEIPT_TAG),
        (b"\xd2\x9f" + example.RECEIPT[2:] + b"\xff", ReceiptCode.RECEIPT_CBOR),
        (b"\xd2\x98\x04" + example.RECEIPT[2:], ReceiptCode.RECEIPT_ENCODING),
        (b"\xd2" + b"\x81" * 1000, ReceiptCode.RECEIPT_CBOR),
        (b"\xd2\x9b" + b"\xff" * 8, ReceiptCode.RECEIPT_CBOR),
    ],
)
def test_another_form_of_the_whole_is_refused(data: bytes, code: ReceiptCode) -> None:
    assert refused(data) is code


def test_whole_cut_and_trailed_only_the_whole_is_a_receipt() -> None:
    for end in range(len(example.RECEIPT)):
        refused(example.RECEIPT[:end])
    refused(example.RECEIPT + b"\0")
    refused(example.RECEIPT + example.RECEIPT)


def test_every_flipped_bit_is_found_out() -> None:
    for place in range(8 * len(example.RECEIPT)):
        changed = bytearray(example.RECEIPT)
        changed[place // 8] ^= 1 << place % 8
        with pytest.raises(ReceiptError):
            check_signature(parse_receipt(bytes(changed)), example.PUBLIC_KEY)


@pytest.mark.parametrize("key", [None, b"", bytes(31), bytes(33), b"x" * 48])
def test_what_is_no_key_verifies_nothing(key: bytes | None) -> None:
    with pytest.raises(ReceiptError) as caught:
        check_signature(parse_receipt(example.RECEIPT), key)
    assert caught.value.code == "no-receipt-key"


def test_another_key_is_refused() -> None:
    other = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key().public_bytes_raw()
    with pytest.raises(ReceiptError) as caught:
        check_signature(parse_receipt(example.RECEIPT), other)
    assert caught.value.code == "receipt-signature"


def test_a_signature_with_the_order_added_is_refused() -> None:
    """S + L is the same number to who does not look: RFC 8032 section 5.1.7."""
    signature = parse_receipt(example.RECEIPT).signature
    order = 2**252 + 27742317777372353535851937790883648493
    malleable = signature[:32] + (int.from_bytes(signature[32:], "little") + order).to_bytes(32, "little")
    with pytest.raises(ReceiptError) as caught:
        check_signature(parse_receipt(envelope(signature=malleable)), example.PUBLIC_KEY)
    assert caught.value.code == "receipt-signature"


# Every encoding of a point of small order: y, with and without the bit of x.
P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P


def points_of_small_order() -> list[bytes]:
    """The multiples of a point of order 8, found by arithmetic, and their encodings that are not reduced."""
    ys: set[int] = set()
    y = 2
    while len(ys) < 5:  # y = 1, -1, 0 and the two of order 8
        y += 1
        point = _lifted(y)
        if point is not None:
            order = 2**252 + 27742317777372353535851937790883648493
            torsion = _times(order, point)
            ys |= {_times(k, torsion)[1] for k in range(8)}
    encodings = ys | {value + P for value in ys if value + P < 2**255}
    return [(value | sign << 255).to_bytes(32, "little") for value in encodings for sign in (0, 1)]


def _lifted(y: int) -> tuple[int, int] | None:
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    return (x, y) if x * x % P == square else None


def _sum(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    (x1, y1), (x2, y2) = one, other
    product = D * x1 * x2 * y1 * y2 % P
    return (
        (x1 * y2 + x2 * y1) * pow(1 + product, -1, P) % P,
        (y1 * y2 + x1 * x2) * pow(1 - product, -1, P) % P,
    )


def _times(factor: int, point: tuple[int, int]) -> tuple[int, int]:
    result = (0, 1)
    while factor:
        if factor & 1:
            result = _sum(result, point)
        point = _sum(point, point)
        factor >>= 1
    return result


@pytest.mark.parametrize("point", points_of_small_order())
def test_a_key_of_small_order_is_none(point: bytes) -> None:
    with pytest.raises(ReceiptError) as caught:
        check_signature(parse_receipt(example.RECEIPT), point)
    assert caught.value.code == "no-receipt-key"


def test_a_signature_that_fits_every_message_is_refused() -> None:
    """The neutral point as the key and as R, and 0 as S: OpenSSL takes it for a signature of anything."""
    neutral = (1).to_bytes(32, "little")
    signature = neutral + bytes(32)
    Ed25519PublicKey.from_public_bytes(neutral).verify(signature, b"anything")
    with pytest.raises(ReceiptError) as caught:
        check_signature(parse_receipt(envelope(signature=signature)), neutral)
    assert caught.value.code == "no-receipt-key"
    with pytest.raises(ReceiptError) as caught:
        check_signature(parse_receipt(envelope(signature=signature)), example.PUBLIC_KEY)
    assert caught.value.code == "receipt-signature"
