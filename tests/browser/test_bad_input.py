"""What a patient can meet: each gets one plain sentence, and what to do next."""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image, features

from enclavectl.attestation import Release, Revocation
from tests.browser.driving import CHALLENGE_BYTES, Visit
from tests.browser.site import SAMPLES, Site, sample, site, write_page
from tests.local_enclave import LocalEnclave

# 440 bytes, of a gray gradient, made for these tests with libheif as telephones do it.
HEIC = Path(__file__).with_name("phone.heic")


def test_a_clock_years_off_is_named(plain: Site) -> None:
    two_years_ms = timedelta(days=730) // timedelta(milliseconds=1)
    seen = plain.visit([sample("mel")], ahead_ms=two_years_ms)
    assert seen["problem"] in {"chain-expired", "too-old"}
    assert "this device's clock says" in seen["problemText"]
    assert seen["sentBytes"] == [CHALLENGE_BYTES]


def test_a_page_whose_releases_are_over_says_who_can_help(tmp_path: Path, enclave: LocalEnclave) -> None:
    policy = enclave.expectation.policy
    (release,) = policy.releases
    ending = replace(release, expires=(datetime.now(UTC) + timedelta(days=30)).replace(microsecond=0))
    month_ms = timedelta(days=31) // timedelta(milliseconds=1)
    with site(
        tmp_path, enclave, policy=replace(policy, releases=(ending,)), contact="the skin desk, 030 1234"
    ) as here:
        seen = here.visit([sample("mel")], ahead_ms=month_ms, axe=True, screenshot="over")
    assert seen["stop"] == "pageOld"
    assert "Get the newest page from whoever gave you this one." in seen["stopText"]
    assert "Who helps: the skin desk, 030 1234" in seen["stopText"]
    assert seen["axe"] == []
    assert seen["sentBytes"] == []


def test_what_is_no_picture_is_told_apart_by_its_bytes(tmp_path: Path, plain: Site) -> None:
    contents = {
        "note.jpg": b"This is a note.",
        "empty.png": b"",
        "login.png": b"<!DOCTYPE html><title>Sign in</title>",
        "film.mp4": b"\0\0\0\x18ftypisom\0\0\0\0isomavc1",
        "scan.pdf": b"%PDF-1.7",
    }
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    seen = plain.visit([tmp_path / name for name in contents])
    words = ("text, not a picture", "is empty", "a web page", "a film", "PDF")
    assert [word in text for word, text in zip(words, seen["refusedFiles"], strict=True)] == [True] * 5
    assert seen["sentBytes"] == []


def test_fifty_files_dropped_at_once(tmp_path: Path, plain: Site) -> None:
    for number in range(50):
        (tmp_path / f"{number:02}.jpg").write_bytes((SAMPLES / "bcc-rotated.jpg").read_bytes())
    seen = plain.visit(sorted(tmp_path.glob("*.jpg")), by="drop")
    assert seen["refusedFiles"] == [
        "Only 20 pictures can be sent at once. 30 were left out: choose them after these."
    ]
    assert len(seen["answers"]) == 20
    assert {one["codes"][0] for one in seen["answers"]} == {"bcc"}


def test_no_gateway_is_a_sentence_and_a_next_step(tmp_path: Path, enclave: LocalEnclave) -> None:
    with site(tmp_path, enclave) as here:
        pass
    seen = here.visit([sample("nv")])
    assert seen["problem"] == "unreachable"
    assert "guest network" in seen["problemText"]


def test_a_release_that_was_taken_back_gets_nothing(tmp_path: Path, enclave: LocalEnclave) -> None:
    policy = enclave.expectation.policy
    (release,) = policy.releases
    revocation = Revocation(date=datetime(2026, 1, 1, tzinfo=UTC), reason="a test", label=release.label)
    other = Release(name="newer", pcrs=dict.fromkeys(range(3), b"\x99" * 48))
    changed = replace(policy, releases=(other,), revoked=(revocation,))
    with site(tmp_path, enclave, policy=changed) as here:
        seen = here.visit([sample("mel")])
    assert (seen["problem"], seen["sentBytes"]) == ("release-revoked", [CHALLENGE_BYTES])
    assert "was taken back" in seen["problemText"]
    assert "Get the newest page" in seen["problemText"]


class Between(BaseHTTPRequestHandler):
    """A proxy that lets no WebSocket through: it answers with a page of its own."""

    status = 403

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>Sign in</title>")

    def log_message(self, *words: object) -> None:
        """Write nothing."""


class LoginPage(Between):
    status = 200


@contextmanager
def listening(handler: type[Between]) -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("handler", [Between, LoginPage], ids=["refuses WebSockets", "login page"])
def test_a_proxy_that_answers_itself_is_named_among_the_causes(
    tmp_path: Path, enclave: LocalEnclave, handler: type[Between]
) -> None:
    with listening(handler) as port:
        write_page(tmp_path, enclave, enclave.expectation.policy, f"ws://127.0.0.1:{port}/v1")
        seen = Visit(url=(tmp_path / "patient.html").as_uri(), folder=tmp_path, rounds=[[sample("nv")]]).see()
    assert seen["problem"] == "unreachable"
    assert seen["checks"]["checkConnection"] == "failed"
    for words in ("There is no connection", "sign in first", "block such connections", "another network"):
        assert words in seen["problemText"]
    assert "Nothing of your pictures was sent." in seen["problemText"]


def test_a_browser_that_cannot_read_the_code_is_called_too_old(tmp_path: Path, enclave: LocalEnclave) -> None:
    with site(tmp_path, enclave) as here:
        text = here.page.read_text()
        (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
        # For this browser what some later standard will have; for an old one, what today's has.
        newer = f"{script}; match (1) {{}}"
        old_hash, new_hash = (
            base64.b64encode(sha256(one.encode()).digest()).decode() for one in (script, newer)
        )
        here.page.write_text(text.replace(script, newer).replace(old_hash, new_hash))
        seen = here.visit([sample("nv")])
    assert seen["isTooOld"]
    assert seen["sentBytes"] == []


def test_without_a_camera_there_is_no_button_for_one(plain: Site) -> None:
    desk, phone = plain.visit(axe=True), plain.visit(phone=True, width=320)
    assert "Choose a picture that you have, or open this page on a phone." in desk["camera"]
    assert phone["camera"] == ""
    assert phone["buttons"] == desk["buttons"] + 1
    assert desk["axe"] == []


def test_a_picture_of_a_phone_is_told_what_to_become(plain: Site) -> None:
    seen = plain.visit([HEIC], axe=True, screenshot="heic")
    (words,) = seen["refusedFiles"]
    assert words.startswith("phone.heic is a HEIC picture")
    assert "Send it as JPEG: phones offer this when a picture is shared." in words
    assert seen["sentBytes"] == []
    assert seen["axe"] == []


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow writes no AVIF")
def test_a_picture_that_only_the_browser_can_read_is_converted(tmp_path: Path, plain: Site) -> None:
    converted = tmp_path / "new.avif"
    Image.open(sample("mel")).convert("RGB").save(converted)
    seen = plain.visit([converted])
    assert seen["answers"][0]["codes"][0] == "mel"
