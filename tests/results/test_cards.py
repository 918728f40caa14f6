"""One picture's card: the answer's bars, the reason of a refusal, the preview."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclavectl.errors import UsageError
from enclavectl.results.cards import render_card
from enclavectl.results.previews import Preview
from tests.results.pages import HOSTILE, NAMES, Page, refusal, result

PREVIEW = Preview(data=b"\xff\xd8\xff", width=40, height=30)


def card(value: dict[str, object], preview: Preview | None = PREVIEW) -> Page:
    return Page(render_card(value, 7, preview, NAMES))


def test_a_card_has_answer_times_name_hash_and_number() -> None:
    page = card(result("a.png", b"x"))
    for expected in (
        *("Basal cell carcinoma", "87.0 %", "13.0 %", "< 0.1 %", "7. a.png"),
        *("total 3.1 ms, inference 1.0 ms", "SHA-256 2d711642b726b044"),
    ):
        assert expected in page.text, expected
    (image,) = page.named("img")
    assert image["src"] == "data:image/jpeg;base64,/9j/"
    assert (image["width"], image["height"], image["alt"]) == ("40", "30", "The picture a.png")
    assert page.named("article")[0]["id"] == "picture-7"


def test_bars_are_ordered_and_as_long_as_the_probabilities() -> None:
    page = card(result())
    widths = [one["width"] for one in page.named("rect") if one["class"] == "fill"]
    assert widths == ["87.00", "12.99", "0.01"]
    assert page.text.index("87.0 %") < page.text.index("nv") < page.text.index("Melanoma")


def test_a_picture_that_cannot_be_decoded_here_has_its_answer_all_the_same() -> None:
    page = card(result(), None)
    assert page.named("img") == []
    assert "no preview" in page.text
    assert "87.0 %" in page.text


def test_a_refused_picture_has_its_reason_and_is_not_shown() -> None:
    page = card(refusal())
    assert page.named("img") == []
    assert "too big" in page.text
    assert "scale it down" in page.text
    assert "SHA-256" not in page.text, "it was never read"
    assert "None" not in page.text


def test_a_warning_stands_with_the_answer() -> None:
    value = result() | {"warnings": [{"code": "one-color", "message": "of one color"}]}
    assert "Warning: of one color" in card(value).text
    assert "Warning" not in card(result()).text


@pytest.mark.parametrize(
    ("receipted", "is_said"), [(True, True), (False, False), (None, False), ("yes", False)]
)
def test_a_card_says_that_an_answer_is_receipted_only_where_it_is(receipted: object, is_said: bool) -> None:
    assert ("Receipted" in card(result() | {"receipted": receipted}).text) is is_said
    assert "Receipted" not in card(result()).text


def test_hostile_texts_stay_texts() -> None:
    value = result(HOSTILE)
    value["sha256"] = HOSTILE
    value["label"] = {"code": "bcc", "name": HOSTILE, "probability": 1.0}
    value["probabilities"] = {"bcc": 1.0, HOSTILE: 0.0}
    value["timings_ms"] = {HOSTILE: 1.0}
    value["warnings"] = [{"code": HOSTILE, "message": HOSTILE}]
    refused = {"image": HOSTILE, "sha256": None, "error": {"message": HOSTILE, "hint": HOSTILE}}
    for hostile, plain in ((value, result() | {"warnings": [{"message": "w"}]}), (refused, refusal())):
        text = render_card(hostile, 1, PREVIEW, {"nv": HOSTILE})
        text.encode()  # the lone half of a character of a file name does not get here
        page = Page(text)
        assert page.text.count("<script>alert('1')</script>") >= 3
        assert "\u202e" not in text
        assert "\\u202egpj.exe\\udcff" in page.text
        assert {tag for tag, _ in page.tags} == {tag for tag, _ in card(plain).tags}
        for (_, ours), (_, others) in zip(page.tags[:4], card(plain).tags[:4], strict=True):
            assert ours.keys() == others.keys()


@pytest.mark.parametrize(
    ("key", "bad", "message"),
    [
        ("image", None, "report: image: expected text, found NoneType"),
        ("label", None, "report: label: expected an object"),
        ("probabilities", {"bcc": float("nan")}, "report: bcc: expected a number, found nan"),
        ("probabilities", {"bcc": True}, "expected a number, found True"),
        ("warnings", {}, "report: warnings: expected a list"),
        ("warnings", ["x"], r"report: warnings\[0\]: expected an object"),
    ],
)
def test_another_shape_is_a_usage_error(key: str, bad: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        card(result() | {key: bad})


@given(st.text(), st.text(), st.floats(0, 1))
def test_any_texts_make_a_well_formed_card(name: str, label: str, share: float) -> None:
    value = result(name) | {"probabilities": {label: share}}
    text = render_card(value, 1, None, {label: name})
    text.encode()
    assert sum(tag == "article" for tag, _ in Page(text).tags) == 1
