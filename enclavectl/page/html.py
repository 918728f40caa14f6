"""The page's HTML: one file without external resources, under a content security policy with hashes."""

from __future__ import annotations

import base64
import html
import json
import re
from hashlib import sha256
from importlib.resources import files
from string import Template

from enclavectl.errors import HostError
from enclavectl.page.content import PageRequest

# In the template; by it a page is known that may be written over.
PAGE_MARK = b'<meta name="generator" content="enclavectl page">'
# Inside a script element only these end it or begin a comment (HTML, 4.12.1.3); in JSON both can be escaped.
_UNSAFE_IN_SCRIPT = re.compile(r"[<>&\u2028\u2029]")

# Until the page's script puts it into the reader's language.
DEFAULT_TITLE = "Have a picture looked at"


def render_page(request: PageRequest) -> bytes:
    """Write the page. The same request and the same build give the same bytes.

    Raises:
        HostError: the page's script was not built.
    """
    script, style = _built("page.js"), _built("style.css")
    notice = "".join(f"<p>{html.escape(line)}</p>" for line in request.notice.splitlines() if line.strip())
    text = Template(_packaged("template.html")).substitute(
        csp=html.escape(_content_security_policy(script, style, str(request.address))),
        title=html.escape(request.title or DEFAULT_TITLE),
        notice=notice,
        style=style,
        config=_UNSAFE_IN_SCRIPT.sub(
            lambda found: f"\\u{ord(found[0]):04x}", json.dumps(request.config(), ensure_ascii=False)
        ),
        script=script,
    )
    return text.encode()


def _content_security_policy(script: str, style: str, address: str) -> str:
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {_hash(script)}",
            f"style-src {_hash(style)}",
            f"connect-src {address}",
            "img-src blob: data:",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode('ascii')}'"


def _packaged(name: str) -> str:
    return (files("enclavectl.page") / name).read_text(encoding="utf-8")


def _built(name: str) -> str:
    try:
        text = _packaged(f"built/{name}").strip()
    except FileNotFoundError:
        raise HostError(
            f"the page's code is not here: this enclavectl was installed without {name}",
            hint="make page in a checkout builds it (needs Node 20 or newer); wheels of releases have it",
            code="no-page-code",
        ) from None
    if "</script" in text.lower() or "</style" in text.lower():
        raise HostError(f"{name}: expected code that can stand in a page; build it again: make page")
    return text
