import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_payload.card import MAX_CARD_BYTES, Label, ModelCard
from enclave_payload.contents import (
    PARTS_PER_BILLION,
    REQUEST_HEADER_BYTES,
    SALT_BYTES,
    ContentError,
    Delivery,
    Outcome,
    Request,
    Timings,
    encode_key_config,
    key_config_digest,
    parse_request,
)
from enclave_payload.media import MAX_PICTURE_BYTES, MEDIA_CODES, MediaType
from enclave_payload.messages import ANSWER_PLAINTEXT_BYTES, MAX_KEY_CONFIG_BYTES
from enclave_payload.seal import SuiteId
from enclavectl.protocol.card import MAX_LABELS, check_card
from enclavectl.protocol.key_config import parse_key_config
from enclavectl.protocol.requests import request_content

requests = st.builds(
    Request,
    picture=st.binary(max_size=200),
    media_type=st.sampled_from(MediaType),
    reply_key=st.binary(min_size=32, max_size=32),
    salt=st.binary(min_size=32, max_size=32),
    delivery=st.sampled_from(Delivery),
)
REPLY_KEY = bytes(range(32))
SALT = bytes(range(32, 64))


def content_of(request: Request) -> bytes:
    return b"".join(request_content(request))


@given(requests)
def test_a_request_reads_back(request: Request) -> None:
    assert parse_request(content_of(request)) == request
    assert parse_request(memoryview(content_of(request))) == request


def test_a_request_is_two_numbers_the_reply_key_the_salt_and_the_picture() -> None:
    request = parse_request(b"\x03\x02" + REPLY_KEY + SALT + b"picture")
    assert request == Request(
        picture=b"picture",
        media_type=MediaType.WEBP,
        reply_key=REPLY_KEY,
        salt=SALT,
        delivery=Delivery.OUT,
    )


@given(st.binary(max_size=80))
def test_any_bytes_are_the_one_form_of_a_request_or_an_error(data: bytes) -> None:
    try:
        request = parse_request(data)
    except ContentError:
        return
    assert content_of(request) == data


@pytest.mark.parametrize("size", range(REQUEST_HEADER_BYTES))
def test_a_request_that_is_cut_inside_its_header_is_refused(size: int) -> None:
    with pytest.raises(ContentError):
        parse_request((b"\1\1" + REPLY_KEY + SALT)[:size])


@pytest.mark.parametrize("code", sorted({*range(256)} - set(MEDIA_CODES.values())))
def test_an_unknown_media_type_is_refused(code: int) -> None:
    with pytest.raises(ContentError):
        parse_request(bytes([code, 1]) + REPLY_KEY + SALT)


@pytest.mark.parametrize("code", [0, *range(3, 256)])
def test_an_unknown_delivery_is_refused(code: int) -> None:
    with pytest.raises(ContentError):
        parse_request(bytes([1, code]) + REPLY_KEY + SALT)


def test_zeros_are_no_request() -> None:
    with pytest.raises(ContentError):
        parse_request(bytes(100))


def test_every_media_type_has_a_code_of_one_byte() -> None:
    assert set(MEDIA_CODES) == set(MediaType)
    assert len(set(MEDIA_CODES.values())) == len(MediaType)
    assert all(0 < code < 256 for code in MEDIA_CODES.values())


def test_a_picture_may_have_no_bytes_and_up_to_its_limit_but_no_more() -> None:
    header = b"\1\1" + REPLY_KEY + SALT
    assert parse_request(header).picture == b""
    assert len(parse_request(header + bytes(MAX_PICTURE_BYTES)).picture) == MAX_PICTURE_BYTES
    with pytest.raises(ContentError):
        parse_request(header + bytes(MAX_PICTURE_BYTES + 1))


def test_neither_the_picture_nor_its_secrets_show_in_a_repr() -> None:
    request = Request(
        picture=b"SECRET-1", media_type=MediaType.PNG, reply_key=b"SECRET-2" * 4, salt=b"SECRET-3" * 4
    )
    assert "SECRET" not in repr(request)


def largest_card() -> ModelCard:
    """The most labels with the longest codes, and names as long as the measured card allows."""
    labels = tuple(Label(code=f"{index:032}", name="n" * 100) for index in range(MAX_LABELS))
    card = ModelCard(
        model_id="m" * 64,
        sha256="0" * 64,
        width=8,
        height=8,
        mean=0.0,
        std=1.0,
        labels=labels,
        notice="x" * 1000,
    )
    room = MAX_CARD_BYTES - len(card.to_json())
    *others, last = labels
    more = [Label(code=label.code, name="é" * 100) for label in others[: room // 100]]
    return ModelCard(
        model_id=card.model_id,
        sha256=card.sha256,
        width=8,
        height=8,
        mean=0.0,
        std=1.0,
        labels=(*more, *others[len(more) :], last),
        notice=card.notice,
    )


def test_the_largest_card_fits_into_a_key_configuration() -> None:
    card = largest_card()
    encoded_card = card.to_json()
    assert MAX_CARD_BYTES - 100 < len(encoded_card) <= MAX_CARD_BYTES
    assert check_card(encoded_card) == card
    config = encode_key_config({SuiteId(1): bytes(1216), SuiteId(2): bytes(32)}, card, bytes(SALT_BYTES))
    assert len(config) <= MAX_KEY_CONFIG_BYTES
    assert parse_key_config(config).card == card


def test_the_largest_outcome_fits_into_an_answer() -> None:
    card = largest_card()
    outcome = Outcome(
        model_id=card.model_id,
        model_sha256=card.sha256,
        timings=Timings(queue_us=2**64 - 1, decode_us=2**64 - 1, inference_us=2**64 - 1),
        probabilities_ppb={label.code: PARTS_PER_BILLION for label in card.labels},
    )
    assert len(outcome.to_cbor()) <= ANSWER_PLAINTEXT_BYTES - 4


def test_the_digest_is_over_the_bytes_behind_their_domain() -> None:
    assert key_config_digest(b"c") == hashlib.sha384(b"enclavectl key configuration v1c").digest()
