from __future__ import annotations

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclavectl.attestation.cbor import CborError, Value, decode
from fuzz import document_cbor as fuzz_cbor

scalars = (
    st.integers(-(2**64), 2**64 - 1)
    | st.binary(max_size=300)
    | st.text(max_size=300)
    | st.booleans()
    | st.none()
)
keys = st.integers(-(2**64), 2**64 - 1) | st.text(max_size=20)
values: st.SearchStrategy[Value] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=20,
)


@given(values)
def test_what_cbor2_writes_reads_back(value: Value) -> None:
    encoded = cbor2.dumps(value)
    assert repr(decode(encoded, max_depth=64)) == repr(value)


@given(values)
def test_every_prefix_and_every_suffix_is_refused(value: Value) -> None:
    encoded = cbor2.dumps(value)
    for cut in range(min(len(encoded), 200)):
        with pytest.raises(CborError):
            decode(encoded[:cut], max_depth=64)
    with pytest.raises(CborError, match="1 bytes follow") as caught:
        decode(encoded + b"\0", max_depth=64)
    assert caught.value.offset == len(encoded)


@given(st.binary(max_size=64))
def test_the_fuzzer_s_invariant_on_noise(data: bytes) -> None:
    fuzz_cbor.one(data)


@given(st.sampled_from(fuzz_cbor.SEEDS), st.data())
def test_the_fuzzer_s_invariant_near_its_seeds(seed: bytes, data: st.DataObject) -> None:
    fuzz_cbor.one(seed)
    position = data.draw(st.integers(0, len(seed)))
    fuzz_cbor.one(seed[:position] + data.draw(st.binary(max_size=2)) + seed[position + 1 :])


INDEFINITE: dict[str, Value] = {
    "9fff": [],
    "9f0102ff": [1, 2],
    "bfff": {},
    "bf616101ff": {"a": 1},
    "5fff": b"",
    "5f4101420203ff": b"\1\2\3",
    "7fff": "",
    "7f6161627862ff": "axb",
    "bf61619f01ff6162bf00f5ffff": {"a": [1], "b": {0: True}},
}


@pytest.mark.parametrize("data", INDEFINITE)
def test_indefinite_lengths(data: str) -> None:
    assert decode(bytes.fromhex(data)) == INDEFINITE[data]


# RFC 8949 section 4.2.1: the same number in more bytes than it needs.
LONG = {"1817": 23, "190018": 24, "1a00000100": 256, "1b0000000000010000": 65536, "3800": -1, "580161": b"a"}


@pytest.mark.parametrize("data", LONG)
def test_longer_heads(data: str) -> None:
    assert decode(bytes.fromhex(data)) == LONG[data]


REFUSED = {
    "empty": "",
    "reserved 28": "1c",
    "reserved 30": "5e",
    "reserved 28 with room": "1c" + "00" * 16,
    "reserved 29 with room": "5d" + "00" * 32,
    "reserved 30 with room": "9e" + "00" * 64,
    "indefinite integer": "1f",
    "indefinite integer with room": "1f" + "00" * 128,
    "indefinite negative": "3f",
    "indefinite tag": "df",
    "stray break": "ff",
    "break in a definite array": "81ff",
    "break in place of a value": "bf00ff",
    "break in place of a key of a definite map": "a1ff",
    "half float": "f90000",
    "float": "fa00000000",
    "double": "fb0000000000000000",
    "undefined": "f7",
    "simple 0": "e0",
    "simple 32": "f820",
    "true in two bytes": "f815",
    "tag": "c000",
    "bignum": "c24101",
    "shared reference": "d81d00",
    "tag inside": "81d20a",
    "text not UTF-8": "61ff",
    "surrogate": "63eda080",
    "overlong": "62c080",
    "chunk cuts a character": "7f61c361bcff",
    "chunk of the other kind": "5f6161ff",
    "chunk of indefinite length": "5f5f4100ffff",
    "chunk is an integer": "5f00ff",
    "string without its break": "5f4100",
    "string too short": "4200",
    "length of 2^64 - 1": "5bffffffffffffffff",
    "array of 2^64 - 1": "9bffffffffffffffff",
    "map of 2^64 - 1": "bbffffffffffffffff",
    "array longer than the rest": "8200",
    "map longer than the rest": "a20000",
    "map without its last value": "a100",
    "duplicate key": "a2000000f6",
    "duplicate text key": "a2616100616101",
    "duplicate key in another width": "a20000180000",
    "duplicate key, indefinite": "bf00000001ff",
    "false aliases 0": "a20000f400",
    "true alone as key": "a1f500",
    "0.0 aliases 0": "a20000f9000000",
    "null as key": "a1f600",
    "bytes as key": "a1410000",
    "array as key": "a18000",
    "map as key": "a1a000",
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    with pytest.raises(CborError):
        decode(bytes.fromhex(REFUSED[name]))


@pytest.mark.parametrize("opening", [b"\x81", b"\x9f", b"\xa1\x00", b"\xbf\x00"])
def test_depth(opening: bytes) -> None:
    closing = b"\xff" if opening[0] & 31 == 31 else b""
    assert decode(opening * 8 + b"\0" + closing * 8)
    with pytest.raises(CborError, match="too deeply") as caught:
        decode(opening * 9 + b"\0" + closing * 9)
    assert caught.value.offset == 8 * len(opening)
    with pytest.raises(CborError, match="too deeply"):
        decode(opening * 20_000)


@pytest.mark.parametrize("data", ["9bffffffffffffffff", "bbffffffffffffffff", "8200", "a20000", "a100"])
def test_counts_are_checked_before_anything_is_read(data: str) -> None:
    with pytest.raises(CborError, match="cannot fit"):
        decode(bytes.fromhex(data))


def test_size() -> None:
    data = cbor2.dumps(bytes(100))
    assert decode(data, max_bytes=len(data)) == bytes(100)
    with pytest.raises(CborError, match="at most 101 bytes, found 102"):
        decode(data, max_bytes=len(data) - 1)


def test_optional_tag() -> None:
    assert decode(bytes.fromhex("d20a"), optional_tag=18) == 10
    assert decode(bytes.fromhex("d8120a"), optional_tag=18) == 10
    assert decode(b"\x0a", optional_tag=18) == 10
    for data in ("d2d20a", "d10a", "d2", "d8", "", "81d20a"):
        with pytest.raises(CborError):
            decode(bytes.fromhex(data), optional_tag=18)


def test_integers_are_not_booleans() -> None:
    decoded = decode(bytes.fromhex("8400f401f5"))
    assert isinstance(decoded, list)
    assert [type(item) for item in decoded] == [int, bool, int, bool]
