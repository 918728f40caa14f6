"""The patient's page in Chromium, against a real gateway and enclaves of the local backend."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from enclavectl.attestation import Release
from enclavectl.net.frames import FrameType
from enclavectl.selftest import relay
from tests.browser.driving import CHALLENGE_BYTES, Visit
from tests.browser.front import open_front
from tests.browser.site import CODES, Site, sample, site, write_page
from tests.gateway.process import gateway
from tests.local_enclave import LocalEnclave, start_local_enclave

ALL = {
    "checkConnection",
    "checkGenuine",
    "checkFresh",
    "checkPrivate",
    "checkProgram",
    "checkKey",
    "checkModel",
}


def verify_all(folder: Path, saved: Sequence[str], *words: str) -> list[str]:
    """Have `enclavectl verify` judge each saved file, and return what it says."""
    said = []
    for text in saved:
        (folder / "evidence.json").write_text(text)
        argv = [sys.executable, "-m", "enclavectl", "verify", "evidence.json", "--policy", "policy.yaml"]
        argv += ["--root", "root.pem", "--at", "document", *words]
        verified = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False, timeout=60)
        assert verified.returncode == 0, verified.stdout + verified.stderr
        said.append(verified.stdout)
    return said


def test_ten_pictures_get_their_labels_and_evidence_that_verifies(
    tmp_path: Path, enclave: LocalEnclave
) -> None:
    seven = [sample(code) for code in CODES]
    with site(tmp_path, enclave) as here:
        seen = here.visit(seven, [sample("nv"), sample("bcc"), sample("mel")], save=True, axe=True)
        records = here.gateway.wait_for_records(1)
    assert seen["problem"] is None
    assert [one["codes"][0] for one in seen["answers"]] == [*CODES, "nv", "bcc", "mel"]
    assert all("no diagnosis" in one["text"] for one in seen["answers"])
    assert set(seen["checks"]) == ALL
    assert seen["checks"]["checkProgram"] == "passed"
    # The root is a development root: the page must not say that the enclave is genuine.
    assert seen["checks"]["checkGenuine"] == "onlyATest"
    assert "simulated" in seen["insecure"]
    assert len(seen["sentBytes"]) == 1, "one session for both rounds"
    assert sum(one["requests"] for one in records) == 10
    assert seen["console"] == [], "violations of the content security policy stand here"
    assert seen["stored"] == []
    assert seen["axe"] == []
    (verified,) = verify_all(tmp_path, seen["evidence"], "--picture", str(sample("bcc")))
    assert "10 signed receipts of demo-lesion; 10 with the answer" in verified


@pytest.mark.parametrize("width", [320, 1200])
@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_a_phone_and_a_desk_in_both_colors(plain: Site, width: int, dark: bool) -> None:
    name = f"page-{width}-{'dark' if dark else 'light'}"
    how = {
        "width": width,
        "dark": dark,
        "locale": "de-DE" if dark else "en-US",
        "axe": True,
        "screenshot": name,
    }
    seen = plain.visit([sample("mel")], **how)
    assert seen["scrollWidth"] <= width
    assert seen["axe"] == []
    assert "Melanoma" in seen["answers"][0]["text"]
    assert seen["console"] == []
    assert ("simuliert" in seen["insecure"]) is dark


def test_the_keyboard_is_enough(plain: Site) -> None:
    seen = plain.visit([sample("nv")], by="keyboard")
    assert seen["answers"][0]["codes"][0] == "nv"


def test_what_is_printed_has_answers_and_nothing_to_press(plain: Site) -> None:
    seen = plain.visit([sample("nv")], dark=True, print=True, screenshot="printed")
    assert seen["buttons"] == 0
    assert seen["paper"] == "rgba(0, 0, 0, 0)", "paper is light, whatever the screen is"
    assert "Melanocytic nevi" in seen["answers"][0]["text"]


def test_another_program_gets_no_byte_of_a_picture(tmp_path: Path, enclave: LocalEnclave) -> None:
    policy = enclave.expectation.policy
    (release,) = policy.releases
    other = Release(name="reviewed", pcrs={**release.pcrs, 0: b"\x77" * 48})
    with Image.open(sample("nv")) as picture:
        picture.save(tmp_path / "nv.tiff")
    with site(tmp_path, enclave, policy=replace(policy, releases=(other,))) as here:
        pictures = [sample("mel"), tmp_path / "nv.tiff"]
        seen = here.visit(pictures, axe=True, screenshot="refused", unfold=["checkProgram"])
    assert seen["problem"] == "pcr-mismatch"
    assert seen["checks"]["checkProgram"] == "failed"
    assert seen["checks"]["checkKey"] == "notReached"
    assert "Nothing of your pictures was sent." in seen["problemText"]
    assert seen["sentBytes"] == [CHALLENGE_BYTES]
    assert seen["answers"] == []
    no_preview = "This browser cannot show a preview of this format."
    assert seen["offered"] == [["mel.png", "seen"], ["nv.tiff", no_preview]]
    assert seen["unfolded"] == ["checkProgram"], "what the reader unfolds stays so"
    assert seen["axe"] == []


def test_debug_mode_is_refused_unless_the_policy_names_it_and_then_red(tmp_path: Path) -> None:
    with start_local_enclave(tmp_path / "d", debug=True) as debugged:
        strict = replace(debugged.expectation.policy, unsafe_allow_debug=False)
        if not strict.releases:
            strict = replace(strict, releases=(Release(name="x", pcrs=dict.fromkeys(range(3), b"\1" * 48)),))
        lax = replace(strict, unsafe_allow_debug=True)
        (tmp_path / "strict").mkdir()
        (tmp_path / "lax").mkdir()
        with site(tmp_path / "strict", debugged, policy=strict) as here:
            refused = here.visit([sample("mel")])
        with site(tmp_path / "lax", debugged, policy=lax) as here:
            shown = here.visit([sample("mel")])
    assert (refused["problem"], refused["sentBytes"]) == ("debug-mode", [CHALLENGE_BYTES])
    assert shown["answers"][0]["codes"][0] == "mel"
    assert "debug mode" in shown["insecure"]
    assert shown["checks"]["checkPrivate"] == "onlyATest"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        # The last byte of the evidence is one of the key configuration; byte 2000 is one of the document.
        (relay.flipped(FrameType.EVIDENCE, -1), "user-data"),
        (relay.flipped(FrameType.EVIDENCE, -600), "user-data"),
        (relay.flipped(FrameType.EVIDENCE, 2), "cbor"),
    ],
    ids=["the card's end", "a key", "the document"],
)
def test_a_relay_that_changes_the_evidence_gets_nothing(
    tmp_path: Path, enclave: LocalEnclave, change: relay.Change, code: str
) -> None:
    with (
        relay.relay(tmp_path, enclave.address, change) as between,
        site(tmp_path, enclave, behind=between) as here,
    ):
        seen = here.visit([sample("mel")])
    assert seen["problem"] == code
    assert set(seen["sentBytes"]) == {CHALLENGE_BYTES}


def test_a_changed_answer_is_not_shown(tmp_path: Path, enclave: LocalEnclave) -> None:
    change = relay.flipped(FrameType.ANSWER, 100)
    with (
        relay.relay(tmp_path, enclave.address, change) as between,
        site(tmp_path, enclave, behind=between) as here,
    ):
        seen = here.visit([sample("mel")])
    assert seen["problem"] == "protocol"
    assert [one["codes"] for one in seen["answers"]] == [[]]


def cut_at(kind: FrameType, number: int) -> relay.Change:
    """End the connection on which the frame of that number and type comes, and let all others pass."""
    come = itertools.count(1)

    def change(found: FrameType, body: bytes) -> bytes | None:
        return None if found == kind and next(come) == number else body

    return change


def test_a_session_that_is_cut_is_opened_and_verified_anew(tmp_path: Path, enclave: LocalEnclave) -> None:
    with (
        relay.relay(tmp_path, enclave.address, cut_at(FrameType.SEALED, 2)) as between,
        site(tmp_path, enclave, behind=between) as here,
    ):
        seen = here.visit([sample("bcc")], [sample("mel"), sample("nv")], save=True)
    assert [one["codes"][0] for one in seen["answers"]] == ["bcc", "mel", "nv"]
    assert len(seen["sentBytes"]) == 2
    first, second = verify_all(tmp_path, seen["evidence"])
    assert "a signed receipt of demo-lesion; 1 with the answer" in first
    assert "2 signed receipts of demo-lesion; 2 with the answer" in second


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_gateway_that_is_killed_while_it_has_a_picture(
    tmp_path: Path, enclave: LocalEnclave, comes_back: bool
) -> None:
    def kill(kind: FrameType, body: bytes) -> bytes:
        if kind == FrameType.SEALED and first.process.poll() is None:
            first.process.kill()
            first.process.wait()
            front.port = second.port if comes_back else 0
        return body

    with relay.relay(tmp_path, enclave.address, kill) as between, open_front() as front:
        to = [f"skin-1@{between}"]
        with (
            gateway(tmp_path / "g1", to, "--origin", "null") as first,
            gateway(tmp_path / "g2", to, "--origin", "null") as second,
        ):
            front.port = first.port
            write_page(tmp_path, enclave, enclave.expectation.policy, f"ws://127.0.0.1:{front.own_port}/v1")
            page = (tmp_path / "patient.html").as_uri()
            seen = Visit(url=page, folder=tmp_path, rounds=[[sample("mel")]], hurry=True).see()
    if comes_back:
        assert seen["answers"][0]["codes"][0] == "mel"
        assert len(seen["sentBytes"]) == 2, "the second connection was verified anew, and got the picture"
        return
    assert seen["problem"] == "unreachable"
    assert "Nothing of your pictures was sent" not in seen["problemText"], "it was sent, sealed"
    assert "The picture may have been sent, sealed." in seen["answers"][0]["text"]


def test_a_picture_of_sixteen_mebibytes(tmp_path: Path, plain: Site) -> None:
    large = tmp_path / "large.bmp"
    Image.open(sample("mel")).convert("RGB").resize((2360, 2360)).save(large)
    assert 15.9 < large.stat().st_size / 2**20 <= 16
    seen = plain.visit([large])
    assert seen["answers"][0]["codes"][0] == "mel"
    assert sum(seen["sentBytes"]) > large.stat().st_size
