"""One picture's card in a report: the preview, and the answer with its bars or the refusal."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from enclavectl.results.markup import Object, as_object, number, objects, percent, string, text
from enclavectl.results.previews import Preview


def card_id(position: int) -> str:
    """Return the anchor of the picture at ``position``, which counts from 1."""
    return f"picture-{position}"


def render_card(result: Object, position: int, preview: Preview | None, names: Mapping[str, str]) -> str:
    """Render the card of one element of ``results``; ``names`` maps label codes to names.

    Raises:
        UsageError: ``result`` is not such an element; the message names the field.
    """
    name = string(result, "image")
    if "error" in result:
        image = _no_image("A refused picture is not shown.")
        body = _refusal(result["error"])
    else:
        image = _image(name, preview)
        body = _answer(result, names)
    sha256 = result.get("sha256")
    digest = "" if sha256 is None else f'<br><span class="quiet mono">SHA-256 {text(sha256)}</span>'
    return f"""<article class="card picture" id="{card_id(position)}">
<figure>{image}
<figcaption><span class="quiet">{position}.</span> <bdi>{text(name)}</bdi>{digest}</figcaption></figure>
<div>{body}</div>
</article>
"""


def _image(name: str, preview: Preview | None) -> str:
    if preview is None:
        return _no_image("There is no preview of this picture.")
    source = f"data:image/jpeg;base64,{base64.b64encode(preview.data).decode()}"
    size = f'width="{preview.width}" height="{preview.height}"'
    return f'<img src="{source}" {size} alt="The picture {text(name)}">'


def _no_image(reason: str) -> str:
    return f'<div class="no-image">{text(reason)}</div>'


def _refusal(error: object) -> str:
    message, hint = str(error), None
    if isinstance(error, Mapping):
        message = str(error.get("message") or error.get("code") or "refused, without a reason")
        hint = error.get("hint")
    advice = f'\n<p class="quiet">{text(hint)}</p>' if hint else ""
    return f'<div class="wrong"><h3>No answer</h3>\n<p>{text(message)}</p>{advice}</div>'


def _answer(result: Object, label_names: Mapping[str, str]) -> str:
    label = as_object(result, "label")
    names = {**label_names, string(label, "code"): string(label, "name")}
    probabilities = as_object(result, "probabilities")
    # Sorting is stable: equal shares stay in the model's order.
    ranked = sorted(probabilities, key=lambda code: -number(probabilities, code))
    rows = [
        _row(names.get(code, code), number(probabilities, code), first=index == 0)
        for index, code in enumerate(ranked)
    ]
    rest = result.get("rest")
    if isinstance(rest, int | float) and rest > 0:
        rows.append(_row("All other labels", float(rest), first=False))
    timings = as_object(result, "timings_ms") if "timings_ms" in result else {}
    times = ", ".join(f"{text(step)} {number(timings, step):.1f} ms" for step in timings)
    session = result.get("session")
    # Most batches have one enclave, so only the pictures of another one say so.
    by = (
        f'<p class="quiet">Answered by enclave {text(session + 1)}</p>'
        if isinstance(session, int) and session > 0
        else ""
    )
    return f"""<div class="label"><h3>{text(string(label, "name"))}</h3>
<span class="share">{percent(number(label, "probability"))}</span></div>
<table><caption class="hidden">Probability of each label</caption>
<thead class="hidden"><tr><th scope="col">Label</th><th></th><th scope="col">Probability</th></tr></thead>
<tbody>
{"".join(rows)}</tbody></table>
{_receipt(result)}{_warnings(result)}{by}{f'<p class="quiet times">Time: {times}</p>' if times else ""}"""


def _receipt(result: Object) -> str:
    signed = "Receipted: the enclave signed this answer to this picture."
    return f'<p class="quiet">{signed}</p>\n' if result.get("receipted") is True else ""


def _warnings(result: Object) -> str:
    found = objects(result, "warnings") if "warnings" in result else []
    return "".join(f'<p class="caution">Warning: {text(string(one, "message"))}</p>\n' for one in found)


def _row(name: str, share: float, *, first: bool) -> str:
    return (
        f'<tr{" class=first" if first else ""}><th scope="row">{text(name)}</th>'
        f'<td class="bar">{bar(share)}</td><td class="share">{percent(share)}</td></tr>\n'
    )


def bar(share: float) -> str:
    """Draw a bar as wide as ``share``, which is at most 1.

    The bar is SVG, not a styled element: the security policy allows no style attribute, and bars must print.
    """
    width = 100 * min(max(share, 0.0), 1.0)
    return (
        '<svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="track" width="100" height="8"/>'
        f'<rect class="fill" width="{width:.2f}" height="8"/></svg>'
    )
