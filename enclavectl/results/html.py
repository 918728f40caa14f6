"""One self-contained HTML page from the JSON of ``diagnose`` and the pictures that it is about.

The page runs no script and loads nothing; a strict content security policy says so to the browser. File
names, labels and errors are data from elsewhere: every text goes through ``_text``.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

from enclavectl import __version__
from enclavectl.errors import UsageError, visible
from enclavectl.results.diagnosis import SCHEMA
from enclavectl.results.wording import TRUST_WORDS, UNVERIFIED, TrustWords

# What every current browser draws. Not SVG, which is a document with a life of its own.
SHOWN_MEDIA_TYPES = frozenset({"image/jpeg", "image/png", "image/webp", "image/bmp"})
# A page with more than this is slow to open; a folder of the largest accepted pictures could have gigabytes.
MAX_EMBEDDED_BYTES = 64 * 1024 * 1024

# File name, media type, the bytes as they were read.
Picture: TypeAlias = tuple[str, str, bytes]
_Object: TypeAlias = Mapping[str, object]

_NO_NAMES: Mapping[str, str] = MappingProxyType({})


def render_report(
    diagnosis: _Object, pictures: Sequence[Picture], *, label_names: Mapping[str, str] = _NO_NAMES
) -> str:
    """The page as HTML text, to be written as UTF-8.

    A picture is shown where its SHA-256 is the one in the result, so that a page cannot pair an answer with
    another picture. Refused ones are not shown: a browser need not decode what the enclave would not.
    ``label_names`` has the label's name by its code; a code without one stands for itself.

    Raises:
        UsageError: ``diagnosis`` is not an ``enclavectl.diagnosis/1`` object; the message names the field.
    """
    if diagnosis.get("schema") != SCHEMA:
        raise UsageError(f"report: expected schema {SCHEMA}, found {diagnosis.get('schema')!r}")
    evidence = _object(diagnosis, "evidence")
    trust = _string(diagnosis, "trust")
    words = TRUST_WORDS.get(trust, UNVERIFIED) if evidence.get("verified") is True else UNVERIFIED
    model = _object(diagnosis, "model")
    results = _objects(diagnosis, "results")
    images = _Images(pictures)
    cards = [_result(one, images, label_names) for one in results]
    title = _title(results)
    return f"""<!DOCTYPE html>
<html lang="en">
{_head(f"{title} - {words.badge}")}
<body>
<header class="banner {"calm" if words.calm else "loud"}"><div>
<p class="badge">{"" if words.calm else "&#9888;&#65038; "}{_text(words.badge)}</p>
<p>{_text(words.sentence)}</p>
</div></header>
<main>
<div>
<h1>{_text(title)}</h1>
<p class="quiet">Model {_text(_string(model, "id"))}, backend {_text(_string(diagnosis, "backend"))},
trust {_text(trust)}, {_text(_string(evidence, "timestamp"))}</p>
</div>
<aside class="notice" aria-label="Notice of the model"><strong>No diagnosis</strong>
{_text(_string(model, "notice"))}</aside>
<section class="pictures" aria-label="Answers">
{"".join(cards)}</section>
{_evidence(evidence, model)}
{_claims(words)}
</main>
<footer class="quiet">Written by enclavectl {_text(__version__)}. This page loads nothing, runs no script.
</footer>
</body>
</html>
"""


def _title(results: Sequence[_Object]) -> str:
    answered = sum("error" not in one for one in results)
    return f"{answered} of {len(results)} picture{'' if len(results) == 1 else 's'} classified"


def _head(title: str) -> str:
    style = Path(__file__).with_name("html.css").read_text(encoding="utf-8")
    style_hash = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    # default-src covers neither of the last two: https://www.w3.org/TR/CSP3/#directive-default-src
    policy = (
        f"default-src 'none'; img-src data:; style-src 'sha256-{style_hash}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return f"""<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="referrer" content="no-referrer">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_text(title)}</title>
<style>{style}</style>
</head>"""


class _Images:
    """Finds the picture of a result by its hash, and keeps the page within its bound."""

    def __init__(self, pictures: Iterable[Picture]) -> None:
        self._by_hash = {hashlib.sha256(data).hexdigest(): (kind, data) for _, kind, data in pictures}
        self._left = MAX_EMBEDDED_BYTES

    def render(self, name: str, sha256: object) -> str:
        media_type, data = self._by_hash.get(str(sha256), ("", b""))
        if not data:
            return _no_image("The picture is not part of this report.")
        if media_type not in SHOWN_MEDIA_TYPES:
            kind = media_type.removeprefix("image/").upper()
            return _no_image(f"{kind} pictures are not shown, because most browsers cannot.")
        if len(data) > self._left:
            return _no_image("The picture is not shown, to keep this page small enough to open.")
        self._left -= len(data)
        source = f"data:{media_type};base64,{base64.b64encode(data).decode()}"
        return f'<img src="{source}" alt="The picture {_text(name)}">'


def _no_image(reason: str) -> str:
    return f'<div class="no-image">{_text(reason)}</div>'


def _result(result: _Object, images: _Images, label_names: Mapping[str, str]) -> str:
    name = _string(result, "image")
    if "error" in result:
        image = _no_image("A refused picture is not shown.")
        body = f'<div class="wrong"><h3>No answer</h3>\n<p>{_text(_error_words(result["error"]))}</p></div>'
    else:
        image = images.render(name, result.get("sha256"))
        body = _answer(result, label_names)
    digest = f"SHA-256 {_text(result['sha256'])}" if "sha256" in result else ""
    return f"""<article class="card picture">
<figure>{image}
<figcaption><bdi>{_text(name)}</bdi><br><span class="quiet mono">{digest}</span></figcaption></figure>
<div>{body}</div>
</article>
"""


def _answer(result: _Object, label_names: Mapping[str, str]) -> str:
    label = _object(result, "label")
    names = {**label_names, _string(label, "code"): _string(label, "name")}
    probabilities = _object(result, "probabilities")
    # Sorting is stable: equal shares stay in the model's order.
    ranked = sorted(probabilities, key=lambda code: -_number(probabilities, code))
    rows = [
        _row(names.get(code, code), _number(probabilities, code), first=index == 0)
        for index, code in enumerate(ranked)
    ]
    timings = _object(result, "timings_ms") if "timings_ms" in result else {}
    times = ", ".join(f"{_text(step)} {_number(timings, step):.1f} ms" for step in timings)
    return f"""<div class="label"><h3>{_text(_string(label, "name"))}</h3>
<span class="share">{_percent(_number(label, "probability"))}</span></div>
<table><caption class="hidden">Probability of each label</caption>
<thead class="hidden"><tr><th scope="col">Label</th><th></th><th scope="col">Probability</th></tr></thead>
<tbody>
{"".join(rows)}</tbody></table>
{f'<p class="quiet times">Time: {times}</p>' if times else ""}"""


def _row(name: str, share: float, *, first: bool) -> str:
    width = 100 * min(max(share, 0.0), 1.0)
    # SVG and not a styled element: the security policy allows no style attribute, and bars must print.
    bar = (
        '<svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="track" width="100" height="8"/>'
        f'<rect class="fill" width="{width:.2f}" height="8"/></svg>'
    )
    return (
        f'<tr{" class=first" if first else ""}><th scope="row">{_text(name)}</th>'
        f'<td class="bar">{bar}</td><td class="share">{_percent(share)}</td></tr>\n'
    )


def _evidence(evidence: _Object, model: _Object) -> str:
    pcrs = _object(evidence, "pcrs")
    rows = [
        ("Module", _string(evidence, "module_id")),
        ("Time", _string(evidence, "timestamp")),
        *((f"PCR{index}", _string(pcrs, index)) for index in sorted(pcrs, key=lambda key: (len(key), key))),
        ("Nonce", _string(evidence, "nonce")),
        ("Model", _string(model, "id")),
        ("Model SHA-256", _string(model, "sha256")),
    ]
    items = "\n".join(f'<dt>{_text(term)}</dt><dd class="mono">{_text(value)}</dd>' for term, value in rows)
    return f'<section class="card"><h2>Evidence</h2>\n<dl>\n{items}\n</dl></section>'


def _claims(words: TrustWords) -> str:
    proves = "".join(f"<li>{_text(claim)}</li>\n" for claim in words.proves)
    does_not = "".join(f"<li>{_text(claim)}</li>\n" for claim in words.does_not_prove)
    return f"""<section class="card"><h2>What this proves, and what it does not</h2>
<div class="claims">
<div><h3>It proves</h3><ul>
{proves}</ul></div>
<div><h3>It does not prove</h3><ul>
{does_not}</ul></div>
</div></section>"""


def _error_words(error: object) -> str:
    if isinstance(error, Mapping):
        return str(error.get("message") or error.get("code") or "refused, without a reason")
    return str(error)


def _percent(share: float) -> str:
    return "&lt; 0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"


def _text(value: object) -> str:
    """``value`` for the inside of an element or a quoted attribute; what does not print is spelled out.

    That covers the half characters of undecodable file names, which UTF-8 cannot write, and marks that
    reverse a text's direction, which can make a name read as another.
    """
    return html.escape(visible(str(value)))


def _as_object(value: object, where: str) -> _Object:
    if isinstance(value, Mapping):
        return value
    raise UsageError(f"report: {where}: expected an object, found {type(value).__name__}")


def _object(parent: _Object, key: str) -> _Object:
    return _as_object(parent.get(key), key)


def _objects(parent: _Object, key: str) -> list[_Object]:
    value = parent.get(key)
    if isinstance(value, list):
        return [_as_object(one, f"{key}[{index}]") for index, one in enumerate(value)]
    raise UsageError(f"report: {key}: expected a list, found {type(value).__name__}")


def _string(parent: _Object, key: str) -> str:
    value = parent.get(key)
    if isinstance(value, str):
        return value
    raise UsageError(f"report: {key}: expected text, found {type(value).__name__}")


def _number(parent: _Object, key: str) -> float:
    value = parent.get(key)
    if isinstance(value, int | float) and not isinstance(value, bool) and -1e9 < value < 1e9:
        return float(value)
    raise UsageError(f"report: {key}: expected a number, found {value!r}")
