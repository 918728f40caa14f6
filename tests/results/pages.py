"""Results, diagnosis objects and pages that the tests of reports make and read."""

from __future__ import annotations

import hashlib
import html.parser
import io

from PIL import Image

from enclave_payload.media import MediaType
from enclavectl.client.pictures import Picture

HOSTILE = "<script>alert('1')</script>\"onload=x &amp; \u202egpj.exe\udcff"
NAMES = {"bcc": "Basal cell carcinoma", "mel": "Melanoma"}


def picture(name: str = "a.png", size: tuple[int, int] = (4, 3)) -> Picture:
    out = io.BytesIO()
    Image.new("RGB", size, (200, 150, 120)).save(out, "PNG")
    return Picture(name, MediaType.PNG, out.getvalue())


def result(name: str = "a.png", data: bytes = b"") -> dict[str, object]:
    return {
        "image": name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "label": {"code": "bcc", "name": "Basal cell carcinoma", "probability": 0.87},
        "probabilities": {"mel": 0.0001, "nv": 0.1299, "bcc": 0.87},
        "warnings": [],
        "timings_ms": {"total": 3.1, "inference": 1},
    }


def refusal(name: str = "r.png") -> dict[str, object]:
    error = {"code": "unreadable", "message": f"{name}: too big", "hint": "scale it down"}
    return {"image": name, "sha256": None, "error": error}


def diagnosis(*, trust: str = "nitro", verified: bool = True) -> dict[str, object]:
    return {
        "schema": "enclavectl.diagnosis/1",
        "trust": trust,
        "backend": "local",
        "evidence": {
            "verified": verified,
            "module_id": "i-0123",
            "timestamp": "2026-01-02T03:04:05Z",
            "model_pinned": True,
            "pcrs": {"0": "00" * 48, "1": "11" * 48, "2": "22" * 48, "16": "33" * 48, "17": "00" * 48},
            "nonce": "ab" * 32,
        },
        "model": {
            "id": "demo-lesion",
            "sha256": "cd" * 32,
            "notice": "For demonstration only.",
            "labels": NAMES,
        },
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
