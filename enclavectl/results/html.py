"""The form of a report's pages: self-contained HTML that runs no script and loads nothing.

A strict content security policy makes the browser enforce that.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from enclavectl import __version__
from enclavectl.results.markup import Object, as_object, objects, string, text
from enclavectl.results.wording import MODEL_PINNED, TRUST_WORDS, UNVERIFIED, TrustWords

# This mark identifies a report: other files are not overwritten.
MARK = '<meta name="generator" content="enclavectl report">'


def render_page(head: Object, title: str, *parts: str) -> str:
    """Render a page of ``parts`` under the banner for the trust in ``head``, as text for UTF-8.

    ``head`` is an ``enclavectl.diagnosis/1`` object; its results are ignored.

    Raises:
        UsageError: ``head`` is not such an object; the message names the field.
    """
    return render_frame(_words(head), title, *parts)


def render_frame(words: TrustWords, title: str, *parts: str) -> str:
    """Render a page of ``parts`` under the banner of ``words``, as text for UTF-8."""
    return f"""<!DOCTYPE html>
<html lang="en">
{_head(f"{title} - {words.badge}")}
<body>
<header class="banner {"calm" if words.calm else "loud"}"><div>
<p class="badge">{"" if words.calm else "&#9888;&#65038; "}{text(words.badge)}</p>
<p>{text(words.sentence)}</p>
</div></header>
<main>
{"".join(f"{part}{chr(10)}" for part in parts if part)}</main>
<footer class="quiet">Written by enclavectl {text(__version__)}. This page loads nothing, runs no script.
</footer>
</body>
</html>
"""


def render_heading(head: Object, title: str) -> str:
    """Render the page's heading, the enclave that answered, and the model's notice.

    Raises:
        UsageError: as ``render_page``.
    """
    evidence, model = as_object(head, "evidence"), as_object(head, "model")
    return f"""<div>
<h1>{text(title)}</h1>
<p class="quiet">Model {text(string(model, "id"))}, backend {text(string(head, "backend"))},
trust {text(string(head, "trust"))}, {text(string(evidence, "timestamp"))}</p>
</div>
<aside class="notice" aria-label="Notice of the model"><strong>No diagnosis</strong>
{text(string(model, "notice"))}</aside>"""


def render_cards(cards: str) -> str:
    """Render the section with the pictures' cards."""
    return f'<section class="pictures" aria-label="Answers">\n{cards}</section>'


def render_evidence(head: Object) -> str:
    """Render the evidence of each enclave that answered, and what it proves.

    Raises:
        UsageError: as ``render_page``.
    """
    model = as_object(head, "model")
    first = as_object(head, "evidence")
    later = objects(head, "later_evidence") if "later_evidence" in head else []
    sections = [_evidence("Evidence", first, model)]
    for number, evidence in enumerate(later, start=2):
        sections.append(_evidence(f"Evidence of session {number}", evidence, model))
    words = _words(head)
    claims = render_claims(words.proves, words.does_not_prove)
    return "".join(f"{section}\n" for section in sections) + claims


def _evidence(title: str, evidence: Object, model: Object) -> str:
    pcrs = as_object(evidence, "pcrs")
    nonce = evidence.get("nonce")
    rows = [
        ("Module", string(evidence, "module_id")),
        ("Time", string(evidence, "timestamp")),
        *((f"PCR{index}", string(pcrs, index)) for index in _shown(pcrs)),
        *([] if nonce is None else [("Nonce", string(evidence, "nonce"))]),
        ("Model pinned", MODEL_PINNED[evidence.get("model_pinned") is True]),
        ("Model", string(model, "id")),
        ("Model SHA-256", string(model, "sha256")),
    ]
    return render_facts(title, rows)


def _shown(pcrs: Object) -> list[str]:
    """Return the numbers of the registers, in order, without what the payload locked unused."""
    numbers = sorted(pcrs, key=lambda key: (len(key), key))
    return [index for index in numbers if len(index) == 1 or index < "16" or string(pcrs, index).strip("0")]


def render_facts(title: str, pairs: Iterable[tuple[str, str]]) -> str:
    """Render a card with names and values."""
    rows = "\n".join(_fact(term, value) for term, value in pairs)
    return f'<section class="card"><h2>{title}</h2>\n<dl>\n{rows}\n</dl></section>'


def _fact(term: str, value: str) -> str:
    # Ten of the sixteen registers are zero on every enclave, so print leaves them out.
    kind = " zero" if term.startswith("PCR") and value and not value.strip("0") else ""
    return f'<div class="fact{kind}"><dt>{text(term)}</dt><dd class="mono">{text(value)}</dd></div>'


def _words(head: Object) -> TrustWords:
    later = objects(head, "later_evidence") if "later_evidence" in head else []
    if not all(evidence.get("verified") is True for evidence in (as_object(head, "evidence"), *later)):
        return UNVERIFIED
    return TRUST_WORDS.get(string(head, "trust"), UNVERIFIED)


@cache
def _style() -> str:
    return Path(__file__).with_name("html.css").read_text(encoding="utf-8")


def _head(title: str) -> str:
    style = _style()
    style_hash = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    # default-src covers neither of the last two: https://www.w3.org/TR/CSP3/#directive-default-src
    policy = (
        f"default-src 'none'; img-src data:; style-src 'sha256-{style_hash}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return f"""<head>
<meta charset="utf-8">
{MARK}
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="referrer" content="no-referrer">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{text(title)}</title>
<style>{style}</style>
</head>"""


def render_claims(proven: Iterable[str], not_proven: Iterable[str]) -> str:
    """Render what the evidence proves beside what it does not."""
    proves = "".join(f"<li>{text(claim)}</li>\n" for claim in proven)
    does_not = "".join(f"<li>{text(claim)}</li>\n" for claim in not_proven)
    return f"""<section class="card"><h2>What this proves, and what it does not</h2>
<div class="claims">
<div><h3>It proves</h3><ul>
{proves}</ul></div>
<div><h3>It does not prove</h3><ul>
{does_not}</ul></div>
</div></section>"""
