"""The patient's page in Chromium, against a real gateway and enclaves of the local backend."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from PIL import Image

from enclavectl.attestation import Release
from enclavectl.net.frames import FrameType
from enclavectl.selftest import relay
from tests.browser.driving import CHALLENGE_BYTES
from tests.browser.site import CODES, sample, site
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
    (evidence,) = seen["evidence"]
    (tmp_path / "evidence.json").write_text(evidence)
    argv = [sys.executable, "-m", "enclavectl", "verify", "evidence.json", "--policy", "policy.yaml"]
    argv += ["--root", "root.pem", "--at", "document", "--picture", str(sample("bcc"))]
    verified = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "10 signed receipts of demo-lesion; 10 with the answer" in verified.stdout


@pytest.mark.parametrize("width", [320, 1200])
@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_a_phone_and_a_desk_in_both_colors(
    tmp_path: Path, enclave: LocalEnclave, width: int, dark: bool
) -> None:
    name = f"page-{width}-{'dark' if dark else 'light'}"
    how = {
        "width": width,
        "dark": dark,
        "locale": "de-DE" if dark else "en-US",
        "axe": True,
        "screenshot": name,
    }
    with site(tmp_path, enclave) as here:
        seen = here.visit([sample("mel")], **how)
    assert seen["scrollWidth"] <= width
    assert seen["axe"] == []
    assert "Melanoma" in seen["answers"][0]["text"]
    assert seen["console"] == []
    assert ("simuliert" in seen["insecure"]) is dark


def test_another_program_gets_no_byte_of_a_picture(tmp_path: Path, enclave: LocalEnclave) -> None:
    policy = enclave.expectation.policy
    (release,) = policy.releases
    other = Release(name="reviewed", pcrs={**release.pcrs, 0: b"\x77" * 48})
    with site(tmp_path, enclave, policy=replace(policy, releases=(other,))) as here:
        seen = here.visit([sample("mel")], axe=True, screenshot="refused")
    assert seen["problem"] == "pcr-mismatch"
    assert seen["checks"]["checkProgram"] == "failed"
    assert seen["checks"]["checkKey"] == "notReached"
    assert "Nothing of your pictures was sent." in seen["problemText"]
    assert seen["sentBytes"] == [CHALLENGE_BYTES]
    assert seen["answers"] == []
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


def test_a_clock_years_off_is_named(tmp_path: Path, enclave: LocalEnclave) -> None:
    two_years_ms = timedelta(days=730) // timedelta(milliseconds=1)
    with site(tmp_path, enclave) as here:
        seen = here.visit([sample("mel")], ahead_ms=two_years_ms)
    assert seen["problem"] in {"chain-expired", "too-old"}
    assert "this device's clock says" in seen["problemText"]
    assert seen["sentBytes"] == [CHALLENGE_BYTES]


def test_a_page_whose_releases_are_over_says_who_can_help(tmp_path: Path, enclave: LocalEnclave) -> None:
    policy = enclave.expectation.policy
    (release,) = policy.releases
    ending = replace(release, expires=(datetime.now(UTC) + timedelta(days=30)).replace(microsecond=0))
    month_ms = timedelta(days=31) // timedelta(milliseconds=1)
    with site(tmp_path, enclave, policy=replace(policy, releases=(ending,))) as here:
        seen = here.visit([sample("mel")], ahead_ms=month_ms)
    assert seen["stop"] == "pageOld"
    assert seen["sentBytes"] == []


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


def test_a_session_that_is_cut_is_opened_and_verified_anew(tmp_path: Path, enclave: LocalEnclave) -> None:
    with (
        relay.relay(tmp_path, enclave.address, relay.cut_once(FrameType.SEALED)) as between,
        site(tmp_path, enclave, behind=between) as here,
    ):
        seen = here.visit([sample("mel"), sample("nv")])
    assert [one["codes"][0] for one in seen["answers"]] == ["mel", "nv"]
    assert len(seen["sentBytes"]) == 2


def test_a_picture_of_sixteen_mebibytes(tmp_path: Path, enclave: LocalEnclave) -> None:
    large = tmp_path / "large.bmp"
    Image.open(sample("mel")).convert("RGB").resize((2360, 2360)).save(large)
    assert 15.9 < large.stat().st_size / 2**20 <= 16
    with site(tmp_path, enclave) as here:
        seen = here.visit([large])
    assert seen["answers"][0]["codes"][0] == "mel"
    assert sum(seen["sentBytes"]) > large.stat().st_size


def test_what_is_no_picture_is_told_apart_by_its_bytes(tmp_path: Path, enclave: LocalEnclave) -> None:
    contents = {
        "note.jpg": b"This is a note.",
        "empty.png": b"",
        "login.png": b"<!DOCTYPE html><title>Sign in</title>",
        "phone.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
        "scan.pdf": b"%PDF-1.7",
    }
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    with site(tmp_path, enclave) as here:
        seen = here.visit([tmp_path / name for name in contents])
    words = ("text, not a picture", "is empty", "a web page", "HEIC", "PDF")
    assert [word in text for word, text in zip(words, seen["refusedFiles"], strict=True)] == [True] * 5
    assert seen["sentBytes"] == []


def test_fifty_files_at_once(tmp_path: Path, enclave: LocalEnclave) -> None:
    for number in range(50):
        (tmp_path / f"{number:02}.png").write_bytes(sample("nv").read_bytes())
    with site(tmp_path, enclave) as here:
        seen = here.visit(sorted(tmp_path.glob("*.png")))
    assert len(seen["answers"]) == 20
    assert {one["codes"][0] for one in seen["answers"]} == {"nv"}


def test_no_gateway_is_a_sentence_and_a_next_step(tmp_path: Path, enclave: LocalEnclave) -> None:
    with site(tmp_path, enclave) as here:
        pass
    seen = here.visit([sample("nv")])
    assert seen["problem"] == "unreachable"
    assert "guest network" in seen["problemText"]
