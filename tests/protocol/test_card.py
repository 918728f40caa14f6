import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_payload.card import (
    MAX_CARD_BYTES,
    CardError,
    Filter,
    Fit,
    Label,
    Layout,
    ModelCard,
    ModelInput,
    ModelOutput,
    Scores,
)
from enclavectl.models.measured_form import decimal_text
from enclavectl.protocol.card import MAX_LABELS, MODEL_SCHEMA, card_from_mapping, check_card
from tests.payload.cards import CARD

printable = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20)
codes = st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,31}", fullmatch=True)
numbers = st.decimals(-999_999, 999_999, places=12).map(decimal_text)
positive = st.decimals("0.000000000001", 999_999, places=12).map(decimal_text)
inputs = st.builds(
    ModelInput,
    width=st.integers(1, 1024),
    height=st.integers(1, 1024),
    layout=st.sampled_from(Layout),
    fit=st.just(Fit.STRETCH),
    filter=st.sampled_from(Filter),
    mean=st.tuples(numbers, numbers, numbers),
    std=st.tuples(positive, positive, positive),
)
fitted = inputs | st.one_of(
    st.builds(replace, inputs, fit=st.just(Fit.PAD), pad=st.integers(0, 255)),
    st.builds(
        replace,
        inputs,
        fit=st.just(Fit.CROP),
        crop=st.decimals("0.1", 1, places=3).map(decimal_text),
        mean=st.none(),
        std=st.none(),
    ),
)
outputs = st.builds(
    ModelOutput,
    scores=st.sampled_from(Scores),
    unsure_below_ppb=st.none() | st.integers(0, 10**9),
    top=st.none() | st.integers(1, 64),
)
cards = st.builds(
    ModelCard,
    model_id=st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,63}", fullmatch=True),
    sha256=st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
    input=fitted,
    output=outputs,
    labels=st.lists(
        st.builds(Label, code=codes, name=printable),
        min_size=2,
        max_size=9,
        unique_by=lambda label: label.code,
    ).map(tuple),
    notice=printable,
)


def edited(**changes: object) -> bytes:
    """The card's JSON with top-level fields changed; ``input_x`` changes ``input.x``; None removes."""
    value = json.loads(CARD.to_json())
    for field, change in changes.items():
        place, key = (value["input"], field[6:]) if field.startswith("input_") else (value, field)
        if change is None:
            del place[key]
        else:
            place[key] = change
    return json.dumps(value).encode()


MANY = [[f"c{number}", "C"] for number in range(MAX_LABELS + 1)]


@given(cards)
def test_a_card_reads_back_and_has_one_encoding(card: ModelCard) -> None:
    assert check_card(card.to_json()) == card
    assert check_card(card.to_json()).to_json() == card.to_json()


def test_the_edits_below_start_from_a_valid_card() -> None:
    assert check_card(edited()) == CARD


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"id": "Upper"}, "id: expected"),
        ({"id": ""}, "id: expected"),
        ({"id": "a/b"}, "id: expected"),
        ({"id": "a\n"}, "id: expected"),
        ({"id": 7}, "id: expected"),
        ({"id": "a" * 65}, "id: expected"),
        ({"sha256": "0A" * 32}, "sha256: expected"),
        ({"sha256": "0a" * 31}, "sha256: expected"),
        ({"input": []}, "input: expected a mapping, found list"),
        ({"input": {}}, "input: missing keys"),
        ({"input_width": 0}, "input.width: expected 1 to 1024 pixels, found 0"),
        ({"input_width": 1025}, "input.width"),
        ({"input_width": 8.0}, "input.width"),
        ({"input_height": True}, "input.height"),
        ({"input_height": "8"}, "input.height"),
        ({"input_layout": "hwc"}, "input.layout: expected one of nhwc, nchw; found 'hwc'"),
        ({"input_fit": "squash"}, "input.fit: expected one of stretch, crop, pad; found 'squash'"),
        ({"input_fit": []}, "input.fit: expected one of"),
        ({"input_fit": None}, "input: missing keys \\['fit'\\]"),
        ({"input_fit": "crop"}, "input: missing keys \\['crop'\\]"),
        ({"input_fit": "crop", "input_crop": "0.09"}, "input.crop: expected 0.1 to 1, found 0.09"),
        ({"input_fit": "crop", "input_crop": "1.1"}, "input.crop: expected 0.1 to 1"),
        ({"input_fit": "pad", "input_pad": 256}, "input.pad: expected 0 to 255"),
        ({"input_crop": "0.5"}, "input: missing keys \\[\\], unknown keys \\['crop'\\]"),
        ({"input_filter": "cubic"}, "input.filter: expected one of bilinear, bicubic"),
        ({"input_filter": None}, "input: missing keys \\['filter'\\]"),
        ({"input_values": "raw"}, "input: missing keys \\[\\], unknown keys \\['mean', 'std'\\]"),
        ({"input_values": 1, "input_mean": None, "input_std": None}, "input.values: expected raw"),
        ({"input_mean": True}, "input.mean: expected three numbers"),
        ({"input_mean": [1, 2, 3]}, "input.mean: expected a decimal number"),
        ({"input_mean": ["1", "1"]}, "input.mean: expected three numbers"),
        ({"input_mean": ["1", "1", "1000000"]}, "input.mean: expected a decimal number"),
        ({"input_mean": ["1", "1", "nan"]}, "input.mean"),
        ({"input_mean": ["1", "1", "-0"]}, "input.mean"),
        ({"input_mean": ["1", "1", "1" * 400]}, "input.mean"),
        ({"input_std": ["1", "0", "1"]}, "input.std: expected positive numbers, found 1, 0, 1"),
        ({"input_std": ["-1", "1", "1"]}, "input.std"),
        ({"output": {}}, "output: missing keys \\['scores'\\]"),
        ({"output": {"scores": "argmax"}}, "output.scores: expected one of softmax, sigmoid, logits"),
        ({"output": {"scores": "softmax", "top": 0}}, "output.top: expected 1 to 64 labels, found 0"),
        ({"output": {"scores": "softmax", "top": 65}}, "output.top"),
        ({"output": {"scores": "softmax", "unsure_below_ppb": 0.5}}, "output.unsure_below_ppb"),
        ({"output": {"scores": "softmax", "more": 1}}, "output: missing keys"),
        ({"schema": "enclavectl.model/1"}, "card: expected schema enclavectl.model/2, found"),
        ({"labels": {}}, "labels: expected a list of 1 to 1024"),
        ({"labels": [["a", "A"]]}, "labels: expected 2 or more with softmax scores, found 1"),
        ({"labels": MANY[:65]}, "output.top: expected 1 to 64, found none"),
        ({"labels": MANY}, "labels: expected a list of 1 to 1024"),
        ({"labels": [["a", "A"], ["a", "B"]]}, "labels: a code is used twice"),
        ({"labels": [["a", "A"], ["b"]]}, r"labels\[1\]: expected \[code, name\]"),
        ({"labels": [["a", "A"], "bB"]}, r"labels\[1\]"),
        ({"labels": [["a", "A"], ["b c", "B"]]}, r"labels\[1\] code"),
        ({"labels": [["a", "A"], ["b", ""]]}, r"labels\[1\] name"),
        ({"labels": [["a", "A"], ["b", "two\nlines"]]}, r"labels\[1\] name"),
        ({"labels": [["a", "A"], ["b", "\x1b[31m"]]}, r"labels\[1\] name"),
        ({"labels": [["a", "A"], ["b", "\ud800"]]}, r"labels\[1\] name"),
        ({"notice": ""}, "notice: expected 1 to 1000"),
        ({"notice": "x" * 1001}, "notice"),
        ({"notice": 1}, "notice"),
        ({"notice": None}, "missing keys \\['notice'\\]"),
        ({"more": 1}, "missing keys \\[\\], unknown keys \\['more'\\]"),
        ({"input_more": 1}, "input: missing keys \\[\\], unknown keys \\['more'\\]"),
    ],
)
def test_a_broken_rule_is_named(edit: dict[str, object], message: str) -> None:
    with pytest.raises(CardError, match=f"^{message}|card: {message}|card: not JSON"):
        check_card(edited(**edit))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="cut"),
        pytest.param(b"\xff\xfe", id="not UTF-8"),
        pytest.param(CARD.to_json().decode().encode("utf-16"), id="UTF-16"),
        pytest.param(b"\xef\xbb\xbf" + CARD.to_json(), id="byte order mark"),
        pytest.param(CARD.to_json() + b"{}", id="trailing"),
        pytest.param(b'{"id":"x",' + CARD.to_json()[1:], id="a key twice"),
        pytest.param(b"[" * 10_000, id="deep"),
        pytest.param(b"1" * 10_000, id="a number of 10,000 digits"),
        pytest.param(b"null", id="null"),
    ],
)
def test_bytes_that_are_no_card_are_refused(data: bytes) -> None:
    with pytest.raises(CardError, match=r"^card: "):
        check_card(data)


def test_a_card_over_the_limit_is_refused_unread() -> None:
    with pytest.raises(CardError, match=f"at most {MAX_CARD_BYTES} bytes, found {MAX_CARD_BYTES + 1}"):
        check_card(edited().ljust(MAX_CARD_BYTES + 1))
    assert check_card(edited().ljust(MAX_CARD_BYTES)) == CARD


@given(st.binary(max_size=200))
def test_any_bytes_are_a_card_or_a_card_error(data: bytes) -> None:
    with pytest.raises(CardError):
        check_card(data)


def test_a_mapping_with_keys_that_are_not_text_is_refused() -> None:
    with pytest.raises(CardError, match="unknown keys"):
        card_from_mapping({"schema": MODEL_SCHEMA, 1: 2, None: 3})


def test_many_labels_and_one_of_a_sigmoid_are_cards() -> None:
    many = check_card(edited(labels=MANY[:MAX_LABELS], output={"scores": "softmax", "top": 64}))
    assert len(many.labels) == MAX_LABELS
    for scores in ("sigmoid", "logits-sigmoid"):
        assert len(check_card(edited(labels=[["a", "A"]], output={"scores": scores})).labels) == 1


def test_a_card_of_form_1_is_refused_by_name() -> None:
    value = json.loads(CARD.to_json())
    del value["schema"]
    with pytest.raises(CardError, match=r"found none \(form 1 is not read\)"):
        check_card(json.dumps(value).encode())
