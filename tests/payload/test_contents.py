import hashlib
from collections.abc import Callable, Mapping

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_payload.card import MAX_CARD_BYTES, MAX_LABELS, Label, ModelCard, parse_card
from enclave_payload.contents import (
    PARTS_PER_BILLION,
    ContentError,
    Delivery,
    KeyConfig,
    Outcome,
    Problem,
    Remark,
    Request,
    Timings,
    key_config_digest,
    parse_key_config,
    parse_outcome,
    parse_request,
)
from enclave_payload.media import MAX_PICTURE_BYTES, MediaType
from enclave_payload.messages import ANSWER_PLAINTEXT_BYTES, MAX_KEY_CONFIG_BYTES
from enclave_payload.seal import SuiteId
from tests.payload.cards import CARD

microseconds = st.integers(0, 2**63)
timings = st.builds(Timings, queue_us=microseconds, decode_us=microseconds, inference_us=microseconds)
probabilities = st.dictionaries(st.text(max_size=32), st.integers(0, PARTS_PER_BILLION), min_size=1)
requests = st.builds(
    Request,
    picture=st.binary(max_size=200),
    media_type=st.sampled_from(MediaType),
    reply_key=st.binary(min_size=32, max_size=32),
    delivery=st.sampled_from(Delivery),
)
outcomes = st.one_of(
    st.builds(
        Outcome,
        model_id=st.text(),
        model_sha256=st.text(),
        timings=timings,
        probabilities_ppb=probabilities,
        remarks=st.lists(st.sampled_from(Remark), unique=True).map(tuple),
    ),
    st.builds(
        Outcome, model_id=st.text(), model_sha256=st.text(), timings=timings, problem=st.sampled_from(Problem)
    ),
)
key_configs = st.builds(
    KeyConfig,
    public_keys=st.dictionaries(st.sampled_from(SuiteId), st.binary(max_size=99), min_size=1),
    card=st.just(CARD),
)

HEADER = {"media_type": "image/png", "reply_key": bytes(32), "delivery": "here"}
OUTCOME = {
    "model": ["m", "s"],
    "timings": [1, 2, 3],
    "probabilities": {"a": 1},
    "problem": None,
    "remarks": ["one-color"],
}
KEY_CONFIG = {"version": 1, "keys": {1: b"k"}, "card": CARD.to_json()}


def with_header(header: bytes, picture: bytes = b"picture") -> bytes:
    return len(header).to_bytes(2, "big") + header + picture


def encoded(content: Request | Outcome | KeyConfig) -> bytes:
    return b"".join(content.to_parts()) if isinstance(content, Request) else content.to_cbor()


@given(requests)
def test_a_request_reads_back(request: Request) -> None:
    assert parse_request(encoded(request)) == request
    assert parse_request(memoryview(encoded(request))) == request


@given(outcomes)
def test_an_outcome_reads_back(outcome: Outcome) -> None:
    assert parse_outcome(outcome.to_cbor()) == outcome


@given(key_configs)
def test_a_key_configuration_reads_back(config: KeyConfig) -> None:
    assert parse_key_config(config.to_cbor()) == config


@given(st.one_of(outcomes, key_configs), st.data())
def test_content_that_is_cut_or_extended_is_refused(
    content: Outcome | KeyConfig, data: st.DataObject
) -> None:
    parse = {Outcome: parse_outcome, KeyConfig: parse_key_config}[type(content)]
    whole = content.to_cbor()
    with pytest.raises(ContentError):
        parse(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(ContentError):
        parse(whole + data.draw(st.binary(min_size=1, max_size=4)))


@given(requests, st.data())
def test_a_request_that_is_cut_inside_its_header_is_refused(request: Request, data: st.DataObject) -> None:
    whole = encoded(request)
    header_end = len(whole) - len(request.picture)
    with pytest.raises(ContentError):
        parse_request(whole[: data.draw(st.integers(0, header_end - 1))])
    # What follows the header is the picture, however long; the seal says that nothing is missing.
    assert parse_request(whole[:header_end]).picture == b""


@pytest.mark.parametrize("content", [None, 1, b"", "text", [], {}, {"picture": b"p"}, {1: 2}])
def test_content_that_is_not_the_map_is_refused(content: object) -> None:
    for parse in (parse_outcome, parse_key_config):
        with pytest.raises(ContentError):
            parse(cbor2.dumps(content))
    with pytest.raises(ContentError):
        parse_request(with_header(cbor2.dumps(content)))


def test_the_maps_that_the_next_tests_break_are_valid() -> None:
    parse_request(with_header(cbor2.dumps(HEADER)))
    parse_outcome(cbor2.dumps(OUTCOME))
    parse_key_config(cbor2.dumps(KEY_CONFIG))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("reply_key", bytes(31)),
        ("reply_key", bytes(33)),
        ("reply_key", "0" * 32),
        ("media_type", "image/gif"),
        ("media_type", "IMAGE/PNG"),
        ("media_type", b"image/png"),
        ("media_type", None),
        ("media_type", ["image/png"]),
        ("media_type", {"image/png": 1}),
        ("delivery", "elsewhere"),
        ("delivery", 0),
        ("delivery", []),
    ],
)
def test_a_request_with_a_wrong_field_is_refused(field: str, value: object) -> None:
    with pytest.raises(ContentError):
        parse_request(with_header(cbor2.dumps({**HEADER, field: value})))


def test_a_picture_may_be_empty_and_may_fill_the_limit_but_no_more() -> None:
    header = cbor2.dumps(HEADER)
    assert parse_request(with_header(header, b"")).picture == b""
    assert len(parse_request(with_header(header, bytes(MAX_PICTURE_BYTES))).picture) == MAX_PICTURE_BYTES
    with pytest.raises(ContentError):
        parse_request(with_header(header, bytes(MAX_PICTURE_BYTES + 1)))


@pytest.mark.parametrize("false", ["", "00", "0000", "0000aa", "ffff", "0002f6"])
def test_a_request_whose_header_has_a_false_length_is_refused(false: str) -> None:
    with pytest.raises(ContentError):
        parse_request(bytes.fromhex(false))


def test_a_header_that_does_not_end_where_it_says_is_refused() -> None:
    header = cbor2.dumps(HEADER)
    for size in (len(header) - 1, len(header) + 1):
        with pytest.raises(ContentError):
            parse_request(size.to_bytes(2, "big") + header + b"picture")


def test_neither_the_picture_nor_the_reply_key_shows_in_a_repr() -> None:
    request = Request(picture=b"SECRET-1", media_type=MediaType.PNG, reply_key=b"SECRET-2" * 4)
    assert "SECRET" not in repr(request)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", ["m"]),
        ("model", ["m", "s", "t"]),
        ("model", [1, "s"]),
        ("model", "ms"),
        ("timings", [1, 2]),
        ("timings", [1, 2, 3, 4]),
        ("timings", [1, 2, -1]),
        ("timings", [1, 2, True]),
        ("timings", [1, 2, None]),
        ("probabilities", {}),
        ("probabilities", [["a", 1]]),
        ("probabilities", "a"),
        ("probabilities", {1: 1}),
        ("probabilities", {"a": -1}),
        ("probabilities", {"a": True}),
        ("probabilities", {"a": "1"}),
        ("probabilities", {"a": PARTS_PER_BILLION + 1}),
        ("probabilities", None),
        ("problem", "empty"),  # beside probabilities
        ("remarks", None),
        ("remarks", "one-color"),
        ("remarks", ["flat"]),
        ("remarks", [[]]),
        ("remarks", ["one-color", "one-color"]),
    ],
)
def test_an_outcome_with_a_wrong_field_is_refused(field: str, value: object) -> None:
    with pytest.raises(ContentError):
        parse_outcome(cbor2.dumps({**OUTCOME, field: value}))


@pytest.mark.parametrize("problem", ["", "unknown", "EMPTY", 1, [], {}, False])
def test_an_outcome_with_an_unknown_problem_is_refused(problem: object) -> None:
    with pytest.raises(ContentError):
        parse_outcome(cbor2.dumps({**OUTCOME, "probabilities": None, "problem": problem}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", 0),
        ("version", 2),
        ("version", "1"),
        ("keys", {}),
        ("keys", []),
        ("keys", {3: b"k"}),
        ("keys", {1: b"k", 3: b"k"}),
        ("keys", {"1": b"k"}),
        ("keys", {1: "k"}),
        ("card", "{}"),
        ("card", b"{}"),
        ("card", b"\xff"),
    ],
)
def test_a_key_configuration_with_a_wrong_field_is_refused(field: str, value: object) -> None:
    with pytest.raises(ContentError):
        parse_key_config(cbor2.dumps({**KEY_CONFIG, field: value}))


@pytest.mark.parametrize(
    ("content", "parse"),
    [
        (HEADER, lambda header: parse_request(with_header(header))),
        (OUTCOME, parse_outcome),
        (KEY_CONFIG, parse_key_config),
    ],
    ids=["request", "outcome", "key configuration"],
)
def test_a_field_too_many_or_too_few_is_refused(
    content: Mapping[str, object], parse: Callable[[bytes], object]
) -> None:
    for field in content:
        with pytest.raises(ContentError):
            parse(cbor2.dumps({key: value for key, value in content.items() if key != field}))
    with pytest.raises(ContentError):
        parse(cbor2.dumps({**content, "more": None}))


def test_a_field_that_comes_twice_is_refused() -> None:
    twice = b"\xa4" + cbor2.dumps(HEADER)[1:] + cbor2.dumps("delivery") + cbor2.dumps("out")
    with pytest.raises(ContentError):
        parse_request(with_header(twice))


def test_an_indefinite_or_a_long_form_is_refused_so_that_content_has_one_encoding() -> None:
    header = cbor2.dumps(HEADER)
    with pytest.raises(ContentError):
        parse_request(with_header(b"\xbf" + header[1:] + b"\xff"))
    with pytest.raises(ContentError):
        parse_request(with_header(b"\xb8\x03" + header[1:]))


def largest_card() -> ModelCard:
    """The most labels with the longest codes, and names as long as the measured card allows."""
    labels = tuple(Label(code=f"{index:032}", name="n" * 100) for index in range(MAX_LABELS))
    card = ModelCard(
        model_id="m" * 64, sha256="0" * 64, width=8, height=8, mean=0, std=1, labels=labels, notice="x" * 1000
    )
    room = MAX_CARD_BYTES - len(card.to_json())
    *others, last = labels
    more = [Label(code=label.code, name="é" * 100) for label in others[: room // 100]]
    return ModelCard(
        model_id=card.model_id,
        sha256=card.sha256,
        width=8,
        height=8,
        mean=0,
        std=1,
        labels=(*more, *others[len(more) :], last),
        notice=card.notice,
    )


def test_the_largest_card_fits_into_a_key_configuration() -> None:
    card = largest_card()
    encoded_card = card.to_json()
    assert MAX_CARD_BYTES - 100 < len(encoded_card) <= MAX_CARD_BYTES
    assert parse_card(encoded_card) == card
    config = KeyConfig(public_keys={SuiteId(1): bytes(1216), SuiteId(2): bytes(32)}, card=card)
    assert len(config.to_cbor()) <= MAX_KEY_CONFIG_BYTES
    assert parse_key_config(config.to_cbor()) == config


def test_the_largest_outcome_fits_into_an_answer() -> None:
    card = largest_card()
    outcome = Outcome(
        model_id=card.model_id,
        model_sha256=card.sha256,
        timings=Timings(queue_us=2**64 - 1, decode_us=2**64 - 1, inference_us=2**64 - 1),
        probabilities_ppb={label.code: PARTS_PER_BILLION for label in card.labels},
        remarks=tuple(Remark),
    )
    assert len(outcome.to_cbor()) <= ANSWER_PLAINTEXT_BYTES - 4


def test_the_digest_is_over_the_bytes_behind_their_domain() -> None:
    assert key_config_digest(b"c") == hashlib.sha384(b"enclavectl key configuration v1c").digest()
