from __future__ import annotations

import cbor2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from enclave_payload import cbor as payload
from enclavectl.protocol.cbor import CborEncodingError, CborError, decode
from tests.payload.test_cbor import LARGE, values


@given(values)
def test_what_the_payload_writes_is_read(value: payload.Value) -> None:
    assert repr(decode(payload.encode(value), max_bytes=LARGE)) == repr(
        payload.decode(payload.encode(value), max_bytes=LARGE)
    )


@given(st.binary(max_size=40))
@example(b"")
@example(bytes.fromhex("a2f401f502"))  # False and True are 0 and 1 to Python
@example(bytes.fromhex("a2f9000001f9400002"))  # and so are floats
@example(bytes.fromhex("d81c8101"))  # value sharing
def test_nothing_is_taken_that_the_payload_does_not_take(data: bytes) -> None:
    try:
        value = decode(data, max_bytes=LARGE)
    except CborError:
        return
    assert repr(value) == repr(payload.decode(data, max_bytes=LARGE))
    assert payload.encode(value) == data


@pytest.mark.parametrize(
    ("encoded", "problem"),
    [
        ("", "premature end"),
        ("c11a00000000", "a tag"),
        ("d8236161", "a tag"),  # a regular expression
        ("d9ffff00", "a tag"),
        ("f93c00", "float"),
        ("f7", "Undefined"),
        ("f8ff", "not encoded"),
        ("c24101", "a tag"),
        ("9f01ff", "indefinite"),
        ("a141000a", "neither an integer nor text"),
        ("a2010a010a", "[Dd]uplicate"),
        ("818181818100", "nesting depth"),
        ("0000", "1 bytes follow the value"),
        ("5b7fffffffffffffff", "premature end"),
        ("9b7fffffffffffffff", "premature end"),
        ("bb7fffffffffffffff", "premature end"),
        ("61ff", "text string"),
    ],
)
def test_other_cbor_is_refused(encoded: str, problem: str) -> None:
    with pytest.raises(CborError, match=problem) as caught:
        decode(bytes.fromhex(encoded), max_bytes=LARGE)
    assert not isinstance(caught.value, CborEncodingError)


@pytest.mark.parametrize("encoded", ["1801", "5801ff", "a202000100", "a2616200616100"])
def test_another_encoding_of_a_value_is_told_from_no_value(encoded: str) -> None:
    payload.decode(bytes.fromhex(encoded), max_bytes=LARGE)
    with pytest.raises(CborEncodingError):
        decode(bytes.fromhex(encoded), max_bytes=LARGE)


@pytest.mark.parametrize("encoded", ["180100", "a20200010000", "81a2020001000000"])
def test_another_encoding_is_told_whatever_follows(encoded: str) -> None:
    with pytest.raises(CborEncodingError):
        decode(bytes.fromhex(encoded), max_bytes=LARGE)


@pytest.mark.parametrize("encoded", ["8181818180", "81818181a0"])
def test_what_is_empty_may_be_one_level_deeper(encoded: str) -> None:
    assert repr(decode(bytes.fromhex(encoded), max_bytes=LARGE)).strip("[]") in {"", "{}"}
    with pytest.raises(CborError, match="too deeply"):
        payload.decode(bytes.fromhex(encoded), max_bytes=LARGE)


def test_a_message_has_little_of_what_was_read() -> None:
    key = payload.encode("x" * 5000)
    with pytest.raises(CborError) as caught:
        decode(b"\xa2" + key + b"\0" + key + b"\0", max_bytes=LARGE)
    assert len(str(caught.value)) < 200


def test_a_limit_holds_before_anything_is_read() -> None:
    with pytest.raises(CborError, match="expected at most 2 bytes, found 3"):
        decode(cbor2.dumps(b"ab"), max_bytes=2)
