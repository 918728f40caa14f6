import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_payload.cbor import Encodable, encode
from enclave_payload.contents import ContentError, encode_key_config
from enclave_payload.seal import SuiteId
from enclavectl.protocol.key_config import KeyConfig, parse_key_config
from tests.payload.cards import CARD

FIELDS: dict[str, Encodable] = {
    "version": 1,
    "keys": {1: b"k"},
    "card": CARD.to_json(),
    "salt": bytes(16),
}
salts = st.binary(min_size=16, max_size=16)
public_keys = st.dictionaries(st.sampled_from(SuiteId), st.binary(max_size=99), min_size=1)


@given(public_keys, salts)
def test_a_key_configuration_reads_back(keys: dict[SuiteId, bytes], salt: bytes) -> None:
    assert parse_key_config(encode_key_config(keys, CARD, salt)) == KeyConfig(public_keys=keys, card=CARD)


@given(public_keys, salts, st.data())
def test_what_is_cut_or_extended_is_refused(
    keys: dict[SuiteId, bytes], salt: bytes, data: st.DataObject
) -> None:
    whole = encode_key_config(keys, CARD, salt)
    with pytest.raises(ContentError):
        parse_key_config(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(ContentError):
        parse_key_config(whole + data.draw(st.binary(min_size=1, max_size=4)))


def test_the_map_that_the_next_tests_break_is_valid() -> None:
    assert parse_key_config(encode(FIELDS)).card == CARD


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", 0),
        ("version", 2),
        ("version", "1"),
        ("version", True),
        ("keys", {}),
        ("keys", []),
        ("keys", {3: b"k"}),
        ("keys", {1: b"k", 3: b"k"}),
        ("keys", {"1": b"k"}),
        ("keys", {1: "k"}),
        ("card", "{}"),
        ("card", b"{}"),
        ("card", b"\xff"),
        ("card", CARD.to_json().replace(b"No diagnosis.", b"\\u001b[31m")),
        ("salt", bytes(15)),
        ("salt", bytes(17)),
        ("salt", "0" * 16),
        ("salt", None),
    ],
)
def test_a_wrong_field_is_refused(field: str, value: Encodable) -> None:
    with pytest.raises(ContentError):
        parse_key_config(encode({**FIELDS, field: value}))


@pytest.mark.parametrize("content", [None, 1, b"", "text", [], {}, {"keys": b"p"}, {1: 2}])
def test_what_is_not_the_map_is_refused(content: Encodable) -> None:
    with pytest.raises(ContentError):
        parse_key_config(encode(content))


def test_a_field_too_many_or_too_few_is_refused() -> None:
    for field in FIELDS:
        with pytest.raises(ContentError):
            parse_key_config(encode({key: value for key, value in FIELDS.items() if key != field}))
    with pytest.raises(ContentError):
        parse_key_config(encode({**FIELDS, "more": None}))


def test_another_encoding_of_the_same_map_is_refused() -> None:
    whole = encode(FIELDS)
    unsorted = b"\xa4" + b"".join(encode(key) + encode(value) for key, value in reversed(FIELDS.items()))
    twice = b"\xa5" + whole[1:] + encode("salt") + encode(bytes(16))
    for data in (b"\xbf" + whole[1:] + b"\xff", b"\xb8\x04" + whole[1:], unsorted, twice):
        with pytest.raises(ContentError):
            parse_key_config(data)
