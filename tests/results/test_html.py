import base64
import copy
import hashlib
import html.parser
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from enclavectl.errors import UsageError
from enclavectl.results.html import MAX_EMBEDDED_BYTES, Picture, render_report
from enclavectl.results.wording import TRUST_WORDS, UNVERIFIED

HOSTILE = "<script>alert('1')</script>\"onload=x &amp; \u202egpj.exe\udcff"
NAMES = {"bcc": "Basal cell carcinoma", "mel": "Melanoma"}


def picture(kind: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (4, 3), (200, 150, 120)).save(out, kind)
    return out.getvalue()


PNG = picture("PNG")


def result(name: str, data: bytes) -> dict[str, object]:
    return {
        "image": name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "label": {"code": "bcc", "name": "Basal cell carcinoma", "probability": 0.87},
        "probabilities": {"mel": 0.0001, "nv": 0.1299, "bcc": 0.87},
        "timings_ms": {"total": 3.1, "inference": 1},
    }


def diagnosis(*results: dict[str, object], trust: str = "nitro", verified: bool = True) -> dict[str, object]:
    return {
        "schema": "enclavectl.diagnosis/1",
        "trust": trust,
        "backend": "local",
        "evidence": {
            "verified": verified,
            "module_id": "i-0123",
            "timestamp": "2026-01-02T03:04:05Z",
            "pcrs": {"0": "00" * 48, "1": "11" * 48, "2": "22" * 48, "16": "33" * 48},
            "nonce": "ab" * 32,
        },
        "model": {"id": "demo-lesion", "sha256": "cd" * 32, "notice": "For demonstration only."},
        "results": list(results),
    }


class Page(html.parser.HTMLParser):
    """What a browser would find: every start tag with its attributes, the text, unclosed elements."""

    VOID = frozenset({"meta", "img", "br", "rect"})

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def render(value: dict[str, object], pictures: list[Picture] | None = None) -> Page:
    return Page(render_report(value, pictures or [], label_names=NAMES))


def test_a_page_has_answer_evidence_model_and_notice() -> None:
    page = render(diagnosis(result("a.png", PNG)), [("a.png", "image/png", PNG)])
    for expected in (
        "1 of 1 picture classified",
        "Basal cell carcinoma",
        "87.0 %",
        "13.0 %",
        "< 0.1 %",
        "a.png",
        "No diagnosis",
        "For demonstration only.",
        "i-0123",
        "2026-01-02T03:04:05Z",
        "PCR16",
        "22" * 48,
        "ab" * 32,
        "cd" * 32,
        "total 3.1 ms, inference 1.0 ms",
        "What this proves, and what it does not",
    ):
        assert expected in page.text, expected
    (image,) = page.named("img")
    assert image["src"] == "data:image/png;base64," + base64.b64encode(PNG).decode()
    assert "a.png" in str(image["alt"])


def test_bars_are_ordered_and_as_long_as_the_probabilities() -> None:
    page = render(diagnosis(result("a.png", PNG)))
    widths = [one["width"] for one in page.named("rect") if one["class"] == "fill"]
    assert widths == ["87.00", "12.99", "0.01"]
    assert page.text.index("87.0 %") < page.text.index("nv") < page.text.index("Melanoma")


@pytest.mark.parametrize("trust", sorted(TRUST_WORDS))
def test_the_banner_is_calm_for_nitro_only(trust: str) -> None:
    page = render(diagnosis(trust=trust))
    (banner,) = page.named("header")
    assert banner["class"] == ("banner calm" if trust == "nitro" else "banner loud")
    words = TRUST_WORDS[trust]
    for claim in (words.badge, words.sentence, *words.proves, *words.does_not_prove):
        assert claim in page.text


@pytest.mark.parametrize(("trust", "verified"), [("nitro", False), ("quantum", True), ("<b>", True)])
def test_what_is_not_verified_or_not_known_is_loud(trust: str, verified: bool) -> None:
    page = render(diagnosis(trust=trust, verified=verified))
    assert page.named("header")[0]["class"] == "banner loud"
    assert UNVERIFIED.badge in page.text
    assert TRUST_WORDS["nitro"].badge not in page.text


def test_hostile_texts_stay_texts() -> None:
    one = result(HOSTILE, PNG)
    one["label"] = {"code": "bcc", "name": HOSTILE, "probability": 1.0}
    one["probabilities"] = {"bcc": 1.0, HOSTILE: 0.0}
    one["timings_ms"] = {HOSTILE: 1.0}
    refused: dict[str, object] = {"image": HOSTILE, "sha256": HOSTILE, "error": {"message": HOSTILE}}
    value = diagnosis(one, refused, {"image": HOSTILE, "error": HOSTILE})
    value |= {"backend": HOSTILE, "model": {"id": HOSTILE, "sha256": HOSTILE, "notice": HOSTILE}}
    value["evidence"] = {
        "verified": True,
        "module_id": HOSTILE,
        "timestamp": HOSTILE,
        "nonce": HOSTILE,
        "pcrs": {HOSTILE: HOSTILE},
    }
    text = render_report(value, [(HOSTILE, "image/png", PNG)], label_names={"nv": HOSTILE})
    text.encode()  # the lone half of a character of a file name does not get here
    page = Page(text)
    assert page.text.count("<script>alert('1')</script>") >= 12
    assert "\u202e" not in text
    assert "\\u202egpj.exe\\udcff" in page.text
    plain = Page(render_report(diagnosis(result("a", PNG), refused, refused), [("a", "image/png", PNG)]))
    assert {tag for tag, _ in page.tags} == {tag for tag, _ in plain.tags}
    assert {key for _, attributes in page.tags for key in attributes} == {
        key for _, attributes in plain.tags for key in attributes
    }


def test_nothing_is_loaded_and_no_script_may_run() -> None:
    text = render_report(diagnosis(result("a.png", PNG)), [("a.png", "image/png", PNG)])
    page = Page(text)
    policy = page.named("meta")[1]
    assert policy["http-equiv"] == "Content-Security-Policy"
    style = re.search(r"<style>(.*)</style>", text, re.DOTALL)
    assert style is not None
    style_hash = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy["content"] == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{style_hash}'; "
        "base-uri 'none'; form-action 'none'"
    )
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    assert not {"script", "link", "iframe", "object", "form", "a"} & {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        assert "style" not in attributes, tag
        assert not any(key.startswith("on") for key in attributes), tag
        assert str(attributes.get("src", "data:")).startswith("data:")


def test_pictures_that_browsers_do_not_draw_are_left_out_with_a_note() -> None:
    tiff, svg = picture("TIFF"), b"<svg/>"
    page = render(
        diagnosis(result("a.tiff", tiff), result("a.svg", svg), result("gone.png", b"?")),
        [("a.tiff", "image/tiff", tiff), ("a.svg", "image/svg+xml", svg)],
    )
    assert page.named("img") == []
    assert "TIFF pictures are not shown" in page.text
    assert "SVG+XML pictures are not shown" in page.text
    assert "not part of this report" in page.text


def test_a_picture_goes_with_its_hash_and_not_with_its_name() -> None:
    other = picture("BMP")
    page = render(diagnosis(result("a", PNG)), [("a", "image/bmp", other), ("b", "image/png", PNG)])
    assert [str(one["src"])[:15] for one in page.named("img")] == ["data:image/png;"]


def test_a_refused_picture_has_its_reason_and_is_not_shown() -> None:
    refused: dict[str, object] = {"image": "a", "sha256": hashlib.sha256(PNG).hexdigest()}
    refused["error"] = {"code": "picture-refused", "message": "too big"}
    page = render(diagnosis(refused, result("b", b"")), [("a", "image/png", PNG)])
    assert page.named("img") == []
    assert "too big" in page.text
    assert "1 of 2 pictures classified" in page.text


def test_a_page_stays_small_enough_to_open() -> None:
    large = bytes(MAX_EMBEDDED_BYTES - 1)
    pictures = [("a", "image/png", large), ("b", "image/png", PNG)]
    text = render_report(diagnosis(result("a", large), result("b", PNG)), pictures)
    assert text.count("<img") == 1
    assert "not shown, to keep this page small" in text


@pytest.mark.parametrize(
    ("path", "bad", "message"),
    [
        (("schema",), "enclavectl.diagnosis/2", "expected schema enclavectl.diagnosis/1"),
        (("trust",), None, "report: trust: expected text, found NoneType"),
        (("evidence",), [], "report: evidence: expected an object"),
        (("evidence", "pcrs"), {"0": 1}, "report: 0: expected text"),
        (("model", "notice"), 7, "report: notice: expected text"),
        (("results",), {}, "report: results: expected a list"),
        (("results", 0), "x", r"report: results\[0\]: expected an object"),
        (("results", 0, "label"), None, "report: label: expected an object"),
        (("results", 0, "probabilities"), {"bcc": float("nan")}, "report: bcc: expected a number, found nan"),
        (("results", 0, "probabilities"), {"bcc": True}, "expected a number, found True"),
    ],
)
def test_another_shape_is_a_usage_error(path: tuple[str | int, ...], bad: object, message: str) -> None:
    value = copy.deepcopy(diagnosis(result("a", PNG)))
    parent: object = value
    for step in path[:-1]:
        parent = parent[step]  # type: ignore[index]
    parent[path[-1]] = bad  # type: ignore[index]
    with pytest.raises(UsageError, match=message):
        render_report(value, [])


@given(st.text(), st.text(), st.floats(0, 1))
def test_any_texts_make_a_well_formed_page(name: str, notice: str, share: float) -> None:
    one = result(name, PNG)
    one["probabilities"] = {notice: share}
    value = diagnosis(one)
    value["model"] = {"id": name, "sha256": "", "notice": notice}
    text = render_report(value, [])
    text.encode()
    assert sum(tag == "article" for tag, _ in Page(text).tags) == 1
