import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_payload.card import MAX_CARD_BYTES, PARTS_PER_BILLION, Label, ModelCard, ModelOutput, Scores
from enclave_payload.contents import (
    REQUEST_HEADER_BYTES,
    SALT_BYTES,
    ContentError,
    Delivery,
    Request,
    Timings,
    answer_of,
    encode_key_config,
    key_config_digest,
    parse_request,
)
from enclave_payload.media import MAX_PICTURE_BYTES, MEDIA_CODES, MediaType
from enclave_payload.messages import ANSWER_PLAINTEXT_BYTES, MAX_KEY_CONFIG_BYTES
from enclave_payload.seal import SuiteId
from enclave_payload.verdict import Remark
from enclavectl.protocol.card import MAX_ANSWER_LABELS, MAX_LABELS, check_card
from enclavectl.protocol.key_config import parse_key_config
from enclavectl.protocol.requests import request_content
from tests.payload.cards import CARD, SOFTMAX, stretched

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
    labels = [Label(code=f"{index:032}", name="n") for index in range(MAX_LABELS)]
    card = ModelCard(
        model_id="m" * 64,
        sha256="0" * 64,
        input=stretched(1024, 1024, "123.675", "57.375"),
        output=ModelOutput(scores=Scores.SOFTMAX, top=MAX_ANSWER_LABELS),
        labels=tuple(labels),
        notice="x" * 1000,
    )
    longer = (MAX_CARD_BYTES - len(card.to_json())) // 99
    named = [replace(label, name="n" * 100) for label in labels[:longer]]
    return replace(card, labels=(*named, *labels[longer:]))


def test_the_largest_card_fits_into_a_key_configuration() -> None:
    card = largest_card()
    encoded_card = card.to_json()
    assert MAX_CARD_BYTES - 100 < len(encoded_card) <= MAX_CARD_BYTES
    assert check_card(encoded_card) == card
    config = encode_key_config({SuiteId(1): bytes(1216), SuiteId(2): bytes(32)}, card, bytes(SALT_BYTES))
    assert len(config) <= MAX_KEY_CONFIG_BYTES
    assert parse_key_config(config).card == card


# A receipt of every claim has 0.9 kB.
RECEIPT_ROOM = 1024
TIMINGS = Timings(queue_us=2**64 - 1, decode_us=2**64 - 1, inference_us=2**64 - 1)


@pytest.mark.parametrize("labels", [1, 64, 1024])
def test_the_largest_outcome_fits_into_an_answer_with_its_receipt(labels: int) -> None:
    card = replace(largest_card(), labels=largest_card().labels[:labels])
    if labels <= MAX_ANSWER_LABELS:
        card = replace(card, output=SOFTMAX)
    outcome = answer_of(card, TIMINGS, [PARTS_PER_BILLION] * labels, tuple(Remark))
    assert len(outcome.to_cbor()) <= ANSWER_PLAINTEXT_BYTES - 4 - RECEIPT_ROOM


def test_an_answer_has_the_most_probable_labels_by_index_and_what_is_left() -> None:
    labels = tuple(Label(code=f"c{index}", name="n") for index in range(5))
    card = replace(CARD, labels=labels, output=ModelOutput(scores=Scores.SOFTMAX, top=3))
    parts = [5, 400_000_000, 7, 400_000_000, 199_999_988]
    outcome = answer_of(card, TIMINGS, parts, ())
    assert outcome.probabilities_ppb is None
    assert list((outcome.top_ppb or {}).items()) == [(1, 400_000_000), (3, 400_000_000), (4, 199_999_988)]
    assert outcome.rest_ppb == 12
    sigmoid = replace(card, output=ModelOutput(scores=Scores.SIGMOID, top=3))
    assert answer_of(sigmoid, TIMINGS, parts, ()).rest_ppb == 0
    few = replace(card, labels=labels[:2])
    assert answer_of(few, TIMINGS, parts[:2], ()).top_ppb == {1: 400_000_000, 0: 5}


def test_the_digest_is_over_the_bytes_behind_their_domain() -> None:
    assert key_config_digest(b"c") == hashlib.sha384(b"enclavectl key configuration v1c").digest()
