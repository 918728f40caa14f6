"""The form of a report's pages: banner, heading, evidence, claims, and a policy that lets nothing run."""

from __future__ import annotations

import base64
import copy
import hashlib
import re

import pytest

from enclavectl.errors import UsageError
from enclavectl.results.html import render_evidence, render_heading, render_page
from enclavectl.results.wording import TRUST_WORDS, UNVERIFIED
from tests.results.pages import HOSTILE, Page, diagnosis


def whole(head: dict[str, object]) -> str:
    return render_page(head, "A title", render_heading(head, "A title"), render_evidence(head))


def test_a_page_has_title_evidence_model_and_notice() -> None:
    page = Page(whole(diagnosis()))
    for expected in (
        *("A title", "No diagnosis", "For demonstration only.", "i-0123", "2026-01-02T03:04:05Z"),
        *("PCR16", "22" * 48, "ab" * 32, "cd" * 32, "What this proves, and what it does not"),
        "yes, by PCR16",
    ):
        assert expected in page.text, expected
    assert "PCR17" not in page.text, "locked unused, so its zeros say nothing"


@pytest.mark.parametrize("said", [False, None, 1, "yes"])
def test_a_page_says_that_a_model_is_not_pinned(said: object) -> None:
    head = diagnosis()
    head["evidence"] = {**_object(head["evidence"]), "model_pinned": said}
    text = Page(whole(head)).text
    assert "no: PCR16 is not part of the release" in text
    assert "yes, by PCR16" not in text


@pytest.mark.parametrize("trust", sorted(TRUST_WORDS))
def test_the_banner_is_calm_for_nitro_only(trust: str) -> None:
    page = Page(whole(diagnosis(trust=trust)))
    (banner,) = page.named("header")
    assert banner["class"] == ("banner calm" if trust == "nitro" else "banner loud")
    words = TRUST_WORDS[trust]
    for claim in (words.badge, words.sentence, *words.proves, *words.does_not_prove):
        assert claim in page.text


@pytest.mark.parametrize(("trust", "verified"), [("nitro", False), ("quantum", True), ("<b>", True)])
def test_what_is_not_verified_or_not_known_is_loud(trust: str, verified: bool) -> None:
    page = Page(whole(diagnosis(trust=trust, verified=verified)))
    assert page.named("header")[0]["class"] == "banner loud"
    assert UNVERIFIED.badge in page.text
    assert TRUST_WORDS["nitro"].badge not in page.text


def test_registers_that_are_zero_are_left_out_in_print() -> None:
    page = Page(whole(diagnosis()))
    facts = [one["class"] for one in page.named("div") if str(one.get("class", "")).startswith("fact")]
    assert facts.count("fact zero") == 1  # of four registers, one is zero
    style = re.search(r"<style>(.*)</style>", whole(diagnosis()), re.DOTALL)
    assert style is not None
    assert ".zero, nav { display: none; }" in style[1].split("@media print")[1]


def test_evidence_without_a_nonce_shows_none() -> None:
    head = diagnosis()
    head["evidence"] = {**_object(head["evidence"]), "nonce": None}
    assert "Nonce" not in Page(whole(head)).text


def _object(value: object) -> dict[str, object]:
    assert isinstance(value, dict)
    return value


def test_hostile_texts_stay_texts() -> None:
    head = diagnosis() | {"backend": HOSTILE, "model": {"id": HOSTILE, "sha256": HOSTILE, "notice": HOSTILE}}
    head["evidence"] = {
        "verified": True,
        "module_id": HOSTILE,
        "timestamp": HOSTILE,
        "nonce": HOSTILE,
        "pcrs": {HOSTILE: HOSTILE},
    }
    text = render_page(head, HOSTILE, render_heading(head, HOSTILE), render_evidence(head))
    text.encode()
    page = Page(text)
    assert page.text.count("<script>alert('1')</script>") >= 9
    assert {tag for tag, _ in page.tags} == {tag for tag, _ in Page(whole(diagnosis())).tags}


def test_nothing_is_loaded_and_no_script_may_run() -> None:
    text = whole(diagnosis())
    page = Page(text)
    (policy,) = [one for one in page.named("meta") if "http-equiv" in one]
    style = re.search(r"<style>(.*)</style>", text, re.DOTALL)
    assert style is not None
    style_hash = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy["content"] == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{style_hash}'; "
        "base-uri 'none'; form-action 'none'"
    )
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    assert not {"script", "link", "iframe", "object", "form"} & {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        assert "style" not in attributes, tag
        assert not any(key.startswith("on") for key in attributes), tag


@pytest.mark.parametrize(
    ("path", "bad", "message"),
    [
        (("trust",), None, "report: trust: expected text, found NoneType"),
        (("evidence",), [], "report: evidence: expected an object"),
        (("evidence", "pcrs"), {"0": 1}, "report: 0: expected text"),
        (("model", "notice"), 7, "report: notice: expected text"),
    ],
)
def test_another_shape_is_a_usage_error(path: tuple[str, ...], bad: object, message: str) -> None:
    head = copy.deepcopy(diagnosis())
    parent = head
    for step in path[:-1]:
        parent = _object(parent[step])
    parent[path[-1]] = bad
    with pytest.raises(UsageError, match=message):
        whole(head)
