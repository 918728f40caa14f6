from __future__ import annotations

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_payload.cbor import MAX_DEPTH, CborError, Value, decode, encode

LARGE = 1 << 20
scalars = (
    st.integers(-(2**64), 2**64 - 1)
    | st.binary(max_size=300)
    | st.text(max_size=300)
    | st.booleans()
    | st.none()
)


def nested(inner: st.SearchStrategy[Value]) -> st.SearchStrategy[Value]:
    # Keys of one kind: cbor2 sorts by length first (RFC 7049), which differs where kinds are mixed.
    names: st.SearchStrategy[int | str] = st.text(max_size=40)
    numbers: st.SearchStrategy[int | str] = st.integers(0, 2**64 - 1)
    maps = [st.dictionaries(keys, inner, max_size=4) for keys in (names, numbers)]
    return st.one_of(inner, st.lists(inner, max_size=4), *maps)


values: st.SearchStrategy[Value] = nested(nested(nested(nested(scalars))))


@given(values)
def test_what_is_encoded_is_cbor2s_canonical_form_and_reads_back(value: Value) -> None:
    encoded = encode(value)
    assert encoded == cbor2.dumps(value, canonical=True)
    assert repr(cbor2.loads(encoded)) == repr(decode(encoded, max_bytes=LARGE))


def test_keys_are_in_the_order_of_rfc_8949() -> None:
    # Section 4.2.1 has this example.
    assert encode({"aa": 0, 100: 0, "z": 0, -1: 0, 10: 0}).hex() == "a50a001864002000617a00626161" + "00"


@given(values)
def test_every_prefix_and_every_suffix_is_refused(value: Value) -> None:
    encoded = encode(value)
    for cut in range(min(len(encoded), 200)):
        with pytest.raises(CborError):
            decode(encoded[:cut], max_bytes=LARGE)
    with pytest.raises(CborError, match="1 bytes follow"):
        decode(encoded + b"\0", max_bytes=LARGE)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (1.5, TypeError),
        ({1: 0.5}, TypeError),
        (2**64, OverflowError),
        (-(2**64) - 1, OverflowError),
    ],
)
def test_what_no_decoder_of_ours_would_take_is_not_encoded(value: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        encode(value)  # type: ignore[arg-type]  # a bug of a caller that mypy did not see


# The answers of nsm-api's interface, as hypervisors send them (attestation, random bytes, PCR16's life).
NSM_ANSWERS: dict[str, Value] = {
    "a16b4174746573746174696f6ea168646f63756d656e74420102": {"Attestation": {"document": b"\1\2"}},
    "a16947657452616e646f6da16672616e646f6d420304": {"GetRandom": {"random": b"\3\4"}},
    "a16b4465736372696265504352a2646c6f636bf46464617461420000": {
        "DescribePCR": {"lock": False, "data": b"\0\0"}
    },
    "a169457874656e64504352a16464617461420506": {"ExtendPCR": {"data": b"\5\6"}},
    "684c6f636b50435273": "LockPCRs",
    "a1654572726f726d526561644f6e6c79496e646578": {"Error": "ReadOnlyIndex"},
}


@pytest.mark.parametrize("data", NSM_ANSWERS)
def test_the_answers_of_the_nsm_are_read(data: str) -> None:
    assert decode(bytes.fromhex(data), max_bytes=LARGE) == NSM_ANSWERS[data]


def test_the_header_of_a_sealed_model_is_read() -> None:
    header: Value = {
        "version": 1,
        "card": b"{}",
        "size": 65_792,
        "chunk": 65_536,
        "file": bytes(16),
        "release": {"owner": "direct", "kms": {"key": "arn", "blob": bytes(500), "context": {"a": "b"}}},
    }
    assert decode(encode(header), max_bytes=80 * 1024) == header


def test_heads_may_be_longer_than_needed() -> None:
    assert decode(bytes.fromhex("1817"), max_bytes=9) == 23
    assert decode(bytes.fromhex("5b000000000000000161"), max_bytes=10) == b"a"


REFUSED = {
    "empty": "",
    "reserved 28": "1c" + "00" * 16,
    "reserved 30": "5e",
    "indefinite bytes": "5f4101ff",
    "indefinite text": "7f6161ff",
    "indefinite array": "9f01ff",
    "indefinite map": "bf616101ff",
    "indefinite integer": "1f",
    "stray break": "ff",
    "half float": "f90000",
    "float": "fa00000000",
    "double": "fb0000000000000000",
    "undefined": "f7",
    "simple 32": "f820",
    "true in two bytes": "f815",
    "tag": "c000",
    "bignum": "c24101",
    "text not UTF-8": "61ff",
    "surrogate": "63eda080",
    "string too short": "4200",
    "head cut short": "19ff",
    "length of 2^64 - 1": "5bffffffffffffffff",
    "array of 2^64 - 1": "9bffffffffffffffff",
    "map of 2^64 - 1": "bbffffffffffffffff",
    "map without its last value": "a100",
    "duplicate key": "a2000000f6",
    "duplicate text key": "a2616100616101",
    "duplicate key in another width": "a20000180000",
    "false aliases 0": "a20000f400",
    "true alone as key": "a1f500",
    "null as key": "a1f600",
    "bytes as key": "a1410000",
    "array as key": "a18000",
    "map as key": "a1a000",
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    with pytest.raises(CborError):
        decode(bytes.fromhex(REFUSED[name]), max_bytes=LARGE)


@pytest.mark.parametrize("opening", [b"\x81", b"\xa1\x00"])
def test_depth_is_bounded(opening: bytes) -> None:
    assert decode(opening * MAX_DEPTH + b"\0", max_bytes=LARGE)
    with pytest.raises(CborError, match="too deeply"):
        decode(opening * (MAX_DEPTH + 1) + b"\0", max_bytes=LARGE)
    with pytest.raises(CborError, match="too deeply"):
        decode(opening * 20_000, max_bytes=LARGE)


def test_size_is_bounded() -> None:
    data = encode(bytes(100))
    assert decode(data, max_bytes=len(data)) == bytes(100)
    with pytest.raises(CborError, match="at most 101 bytes, found 102"):
        decode(data, max_bytes=len(data) - 1)
