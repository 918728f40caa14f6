"""The patient's page: its size, and what it does in Chromium beside the Python client.

Needs `.ci/browser-lane` or `make page`, and Chromium.
"""

from __future__ import annotations

import base64
import gzip
import json
import statistics
import subprocess
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.common import SAMPLE, Row
from enclavectl.attestation import TrustRoot
from enclavectl.client.batch import classify
from enclavectl.client.exchange import new_challenge
from enclavectl.client.pictures import read_picture
from enclavectl.client.session import Client
from enclavectl.net.address import parse_address
from enclavectl.protocol.key_config import key_config_digest, parse_key_config
from enclavectl.selftest.arena import Stage
from enclavectl.selftest.evidence_attacks import evidence_of
from tests.browser.judge import Case
from tests.browser.lane import BROWSER, CHROMIUM, built_page, node
from tests.browser.site import site
from tests.local_enclave import LocalEnclave, start_local_enclave

_ROUNDS = 25
_WARMUP = 5
_PICTURE_BYTES = 400_000
_LARGEST_BYTES = 16 * 1024 * 1024


def main() -> list[Row]:
    """Make the rows."""
    built_page()
    subprocess.run([node(), "build.mjs", "bench"], cwd=BROWSER, check=True)
    with tempfile.TemporaryDirectory(dir="/tmp") as name, start_local_enclave(Path(name)) as enclave:
        folder = Path(name)
        with site(folder, enclave) as here:
            page = here.page.read_bytes()
            address = f"ws://127.0.0.1:{here.gateway.port}/v1"
            case, key = _case(enclave)
            (folder / "blank.html").write_text("<!doctype html>")
            url = (folder / "blank.html").as_uri()
            picture = base64.b64encode(SAMPLE.read_bytes()).decode()
            warm = _in_chromium(
                url,
                ("verify", [case, _ROUNDS]),
                ("seal", [key, _PICTURE_BYTES, _ROUNDS]),
                ("ask", [address, case, picture, _ROUNDS]),
            )
            small = _in_chromium(url, ("seal", [key, 1, 1]))
            large = _in_chromium(url, ("seal", [key, _LARGEST_BYTES, 1]))
            proof, answer = _python(address, enclave)
    verify, seal, asked = (
        [_median(times) for times in (one.values() if isinstance(one, dict) else [one])]
        for one in warm["results"]
    )
    grown = (large["peakKib"] - small["peakKib"]) / 1024
    size = len(page) / 1000
    return [
        _row(f"the page ({len(gzip.compress(page)) / 1000:.0f} kB gzipped)", size, 150, 1, "kB"),
        _row("Chromium: verify a document", verify[0], 60, 1),
        _row("Chromium: seal 400 kB", seal[0], 30, 1),
        _row("Chromium: connect and verify; base: Python", asked[0], proof, 2),
        _row("Chromium: the same and an answer; base: Python", asked[1], answer, 2),
        _row("Chromium: memory for a picture of 16 MiB; base: its size", grown, 16, 16, "MiB"),
    ]


def _row(what: str, ours: float, base: float, limit: float, unit: str = "ms") -> Row:
    return Row(
        what=what, ours=f"{ours:.1f} {unit}", base=f"{base:.1f} {unit}", ratio=ours / base, limit=limit
    )


def _median(times: list[float]) -> float:
    return statistics.median(times[_WARMUP:])


def _case(enclave: LocalEnclave) -> tuple[dict[str, Any], str]:
    stage = Stage(address=enclave.address, expectation=enclave.expectation)
    root = enclave.expectation.root
    assert isinstance(root, TrustRoot)
    challenge = new_challenge()
    evidence = evidence_of(stage, challenge)
    keys = parse_key_config(evidence.key_config).public_keys
    root = enclave.expectation.root
    if not isinstance(root, TrustRoot):
        raise TypeError("the backend local has a root that signs")
    case = Case(
        name="bench",
        document=evidence.document,
        root=root,
        policy=enclave.expectation.policy,
        nonce=challenge.nonce,
        user_data=key_config_digest(evidence.key_config),
        now=datetime.now(UTC).replace(microsecond=0),
    )
    return json.loads(case.to_line()), base64.b64encode(keys[min(keys)]).decode()


def _in_chromium(url: str, *calls: tuple[str, list[Any]]) -> dict[str, Any]:
    order = {
        "chromium": str(CHROMIUM),
        "url": url,
        "calls": [{"name": name, "arguments": arguments} for name, arguments in calls],
    }
    done = subprocess.run(
        [node(), str(BROWSER / "dist" / "bench" / "run.mjs")],
        input=json.dumps(order),
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def _python(address: str, enclave: LocalEnclave) -> tuple[float, float]:
    """Return the medians of the Python client through the same gateway, in milliseconds."""
    proof, answer = [], []
    picture = read_picture(str(SAMPLE), lambda _: b"")
    for _ in range(_ROUNDS):
        begun = time.perf_counter()
        with Client.connect(parse_address(address), enclave.expectation, timeout_s=30) as client:
            proof.append(1000 * (time.perf_counter() - begun))
            (reply,) = classify(client, [picture], timeout_s=30)
            assert reply.outcome is not None
            answer.append(1000 * (time.perf_counter() - begun))
    return statistics.median(proof[_WARMUP:]), statistics.median(answer[_WARMUP:])
