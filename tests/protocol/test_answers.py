from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_payload.card import PARTS_PER_BILLION, Label, ModelCard, ModelOutput, Scores
from enclave_payload.cbor import Encodable, encode
from enclave_payload.contents import ContentError, Outcome, Timings
from enclave_payload.messages import ANSWER_CIPHERTEXT_BYTES, AnswerKind, answer_frame, request_id
from enclave_payload.verdict import Problem, Remark
from enclave_payload.wire import HEADER_BYTES, WireError
from enclavectl.protocol.answers import Answer, name_outcome, parse_answer, parse_outcome
from enclavectl.protocol.requests import request_counter
from tests.payload.cards import CARD

microseconds = st.integers(0, 2**63)
timings = st.builds(Timings, queue_us=microseconds, decode_us=microseconds, inference_us=microseconds)
names = st.text(max_size=32)
probabilities = st.dictionaries(names, st.integers(0, PARTS_PER_BILLION), min_size=1, max_size=20)
tops = st.dictionaries(st.integers(0, 1023), st.integers(0, PARTS_PER_BILLION), min_size=1, max_size=64).map(
    lambda top: dict(sorted(top.items(), key=lambda pair: (-pair[1], pair[0])))
)
outcomes = st.one_of(
    st.builds(
        Outcome,
        model_id=names,
        model_sha256=names,
        timings=timings,
        probabilities_ppb=probabilities,
        remarks=st.lists(st.sampled_from([Remark.ONE_COLOR, Remark.FEW_PIXELS]), unique=True).map(tuple),
    ),
    st.builds(
        Outcome,
        model_id=names,
        model_sha256=names,
        timings=timings,
        top_ppb=tops,
        rest_ppb=st.integers(0, PARTS_PER_BILLION),
    ),
    st.builds(Outcome, model_id=names, model_sha256=names, timings=timings, problem=st.sampled_from(Problem)),
)
OUTCOME: dict[str, Encodable] = {
    "model": ["m", "s"],
    "timings": [1, 2, 3],
    "probabilities": [["a", 1]],
    "top": None,
    "rest": 0,
    "problem": None,
    "remarks": ["one-color"],
}


def exactly(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


@given(exactly(24), st.sampled_from(AnswerKind), st.binary(min_size=1, max_size=8))
def test_an_answer_reads_back_and_has_one_size(this_id: bytes, kind: AnswerKind, more: bytes) -> None:
    ciphertext = bytes(range(16)) * (ANSWER_CIPHERTEXT_BYTES // 16)
    body = answer_frame(this_id, kind, ciphertext)[HEADER_BYTES:]
    assert parse_answer(body) == Answer(this_id, kind, ciphertext)
    for wrong in (body[: -len(more)], body + more):
        with pytest.raises(WireError):
            parse_answer(wrong)


@pytest.mark.parametrize("kind", [2, 3, 255])
def test_an_answer_of_an_unknown_kind_is_refused(kind: int) -> None:
    with pytest.raises(WireError):
        parse_answer(bytes(24) + bytes([kind]) + bytes(ANSWER_CIPHERTEXT_BYTES))


@given(exactly(16), st.integers(0, 2**64 - 1))
def test_the_counter_comes_out_of_a_request_id(session: bytes, counter: int) -> None:
    assert request_counter(request_id(session, counter)) == counter


@given(outcomes)
def test_an_outcome_reads_back_with_its_labels_in_order(outcome: Outcome) -> None:
    found = parse_outcome(outcome.to_cbor())
    assert found == outcome
    assert list(found.probabilities_ppb or {}) == list(outcome.probabilities_ppb or {})
    assert list(found.top_ppb or {}) == list(outcome.top_ppb or {})


@given(outcomes, st.data())
def test_an_outcome_that_is_cut_or_extended_is_refused(outcome: Outcome, data: st.DataObject) -> None:
    whole = outcome.to_cbor()
    with pytest.raises(ContentError):
        parse_outcome(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(ContentError):
        parse_outcome(whole + data.draw(st.binary(min_size=1, max_size=4)))


def test_the_map_that_the_next_tests_break_is_valid() -> None:
    assert parse_outcome(encode(OUTCOME)).probabilities_ppb == {"a": 1}


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
        ("probabilities", []),
        ("probabilities", {"a": 1}),
        ("probabilities", "a"),
        ("probabilities", ["a", 1]),
        ("probabilities", [["a"]]),
        ("probabilities", [["a", 1, 2]]),
        ("probabilities", [[1, 1]]),
        ("probabilities", [["a", -1]]),
        ("probabilities", [["a", True]]),
        ("probabilities", [["a", "1"]]),
        ("probabilities", [["a", PARTS_PER_BILLION + 1]]),
        ("probabilities", [["a", 1], ["a", 1]]),
        ("probabilities", None),
        ("problem", "empty"),  # beside probabilities
        ("top", [[0, 1]]),  # beside probabilities
        ("rest", 1),  # beside all probabilities
        ("rest", None),
        ("remarks", ["unsure"]),  # the client's own
        ("remarks", None),
        ("remarks", "one-color"),
        ("remarks", ["flat"]),
        ("remarks", [[]]),
        ("remarks", [1]),
        ("remarks", ["one-color", "one-color"]),
    ],
)
def test_an_outcome_with_a_wrong_field_is_refused(field: str, value: Encodable) -> None:
    with pytest.raises(ContentError):
        parse_outcome(encode({**OUTCOME, field: value}))


TOP: dict[str, Encodable] = {**OUTCOME, "probabilities": None, "top": [[3, 5], [0, 2], [1, 2]], "rest": 7}


def test_the_most_probable_labels_come_by_index() -> None:
    found = parse_outcome(encode(TOP))
    assert (found.probabilities_ppb, found.top_ppb, found.rest_ppb) == (None, {3: 5, 0: 2, 1: 2}, 7)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("top", []),
        ("top", {}),
        ("top", [[0, 2], [3, 5]]),  # rising
        ("top", [[1, 2], [0, 2]]),  # equals in the wrong order
        ("top", [[0, 2], [0, 1]]),
        ("top", [["a", 2]]),
        ("top", [[-1, 2]]),
        ("top", [[1024, 2]]),
        ("top", [[True, 2]]),
        ("top", [[0, PARTS_PER_BILLION + 1]]),
        ("top", [[index, 1] for index in range(65)]),
        ("rest", -1),
        ("rest", True),
        ("rest", None),
        ("rest", 1025 * PARTS_PER_BILLION),
    ],
)
def test_a_top_of_another_form_is_refused(field: str, value: Encodable) -> None:
    with pytest.raises(ContentError):
        parse_outcome(encode({**TOP, field: value}))


LABELS = tuple(Label(code=f"c{index}", name="n") for index in range(4))
ALL = replace(CARD, labels=LABELS)
THREE = replace(ALL, output=ModelOutput(scores=Scores.SOFTMAX, top=3, unsure_below_ppb=6))


def test_labels_are_named_by_the_card() -> None:
    named = name_outcome(parse_outcome(encode(TOP)), THREE)
    assert list((named.probabilities_ppb or {}).items()) == [("c3", 5), ("c0", 2), ("c1", 2)]
    assert Remark.UNSURE in named.remarks
    sure = replace(THREE, output=ModelOutput(scores=Scores.SOFTMAX, top=3, unsure_below_ppb=5))
    assert Remark.UNSURE not in name_outcome(parse_outcome(encode(TOP)), sure).remarks
    problem = parse_outcome(encode({**OUTCOME, "probabilities": None, "problem": "empty"}))
    assert name_outcome(problem, THREE) == problem


@pytest.mark.parametrize(
    ("content", "card"),
    [
        (TOP, ALL),  # whose answers have all labels
        (TOP, replace(THREE, output=ModelOutput(scores=Scores.SOFTMAX, top=2))),
        (TOP, replace(THREE, labels=LABELS[:3])),  # there is no label 3
        ({**OUTCOME, "probabilities": [["c0", 1], ["c1", 2]]}, ALL),
        ({**OUTCOME, "probabilities": [["c1", 1], ["c0", 2], ["c2", 0], ["c3", 0]]}, ALL),
        ({**OUTCOME, "probabilities": [["c0", 1], ["c1", 2], ["c2", 0], ["c3", 0]]}, THREE),
    ],
)
def test_labels_that_are_not_the_cards_are_refused(content: dict[str, Encodable], card: ModelCard) -> None:
    outcome = parse_outcome(encode(content))
    with pytest.raises(ContentError, match="not the card's"):
        name_outcome(outcome, card)


@pytest.mark.parametrize("problem", ["", "unknown", "EMPTY", 1, [], {}, False])
def test_an_outcome_with_an_unknown_problem_is_refused(problem: Encodable) -> None:
    with pytest.raises(ContentError):
        parse_outcome(encode({**OUTCOME, "probabilities": None, "problem": problem}))


@pytest.mark.parametrize("content", [None, 1, b"", "text", [], {}, {"model": b"p"}, {1: 2}])
def test_content_that_is_not_the_map_is_refused(content: Encodable) -> None:
    with pytest.raises(ContentError):
        parse_outcome(encode(content))


def test_a_field_too_many_or_too_few_is_refused() -> None:
    for field in OUTCOME:
        with pytest.raises(ContentError):
            parse_outcome(encode({key: value for key, value in OUTCOME.items() if key != field}))
    with pytest.raises(ContentError):
        parse_outcome(encode({**OUTCOME, "more": None}))


def test_another_encoding_of_the_same_outcome_is_refused() -> None:
    whole = encode(OUTCOME)
    for data in (
        b"\xbf" + whole[1:] + b"\xff",
        b"\xb8\x07" + whole[1:],
        whole.replace(b"\x01", b"\x18\x01", 1),
    ):
        with pytest.raises(ContentError):
            parse_outcome(data)
