"""The patient's page: its size, and what it does in Chromium beside the Python client.

Needs `.ci/browser-lane` or `make page`, Chromium and Firefox. Takes a minute on an idle machine.
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
from tests.browser.firefox import firefox
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
            clicks = {"url": here.page.as_uri(), "picture": str(SAMPLE), "count": _ROUNDS}
            case, key = _case(enclave)
            (folder / "blank.html").write_text("<!doctype html>")
            url = (folder / "blank.html").as_uri()
            parts = (("verify", [case, _ROUNDS]), ("seal", [key, _PICTURE_BYTES, _ROUNDS]))
            warm = _in_chromium(url, *parts, clicks=clicks)
            small = _in_chromium(url, ("seal", [key, 1, 1]))
            large = _in_chromium(url, ("seal", [key, _LARGEST_BYTES, 1]))
            elsewhere = _in_firefox(folder, url, *parts)
            python = _python(f"ws://127.0.0.1:{here.gateway.port}/v1", enclave)
    proof, answer = (_median([one[name] for one in warm["clicks"]]) for name in ("proof", "answer"))
    grown = (large["peakKib"] - small["peakKib"]) / 1024
    size = len(page) / 1000
    return [
        _row(f"the page ({len(gzip.compress(page)) / 1000:.0f} kB gzipped)", size, 150, 1, "kB"),
        *_part_rows("Chromium", warm["results"]),
        *_part_rows("Firefox", elsewhere),
        _row("Chromium: from click to proof; base: Python", proof, python[0], 2),
        _row("Chromium: from click to answer; base: Python", answer, python[1], 2),
        _row("Chromium: memory for a picture of 16 MiB; base: its size", grown, 16, 16, "MiB"),
        _row("TypeScript of the page; base: with its tests", *_code_lines(), 1, "lines"),
    ]


def _part_rows(browser: str, times: list[list[float]]) -> list[Row]:
    verify, seal = map(_median, times)
    return [
        _row(f"{browser}: verify a document", verify, 60, 1),
        _row(f"{browser}: seal 400 kB", seal, 30, 1),
    ]


def _code_lines() -> tuple[int, int]:
    """Return the lines of the page's code, and with those of its tests and benchmarks."""
    counts = {
        name: sum(len(path.read_text().splitlines()) for path in (BROWSER / name).rglob("*.ts"))
        for name in ("src", "test", "bench")
    }
    return counts["src"], sum(counts.values())


def _row(what: str, ours: float, base: float, limit: float, unit: str = "ms") -> Row:
    digits = 1 if unit == "ms" else 0
    return Row(
        what=what,
        ours=f"{ours:.{digits}f} {unit}",
        base=f"{base:.{digits}f} {unit}",
        ratio=ours / base,
        limit=limit,
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


def _in_chromium(
    url: str, *calls: tuple[str, list[Any]], clicks: dict[str, Any] | None = None
) -> dict[str, Any]:
    order = {
        "chromium": str(CHROMIUM),
        "url": url,
        "calls": [{"name": name, "arguments": arguments} for name, arguments in calls],
        "clicks": clicks,
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


def _in_firefox(folder: Path, url: str, *calls: tuple[str, list[Any]]) -> list[list[float]]:
    found = []
    with firefox(folder) as browser:
        browser.go(url)
        browser.evaluate((BROWSER / "dist" / "bench" / "page.js").read_text())
        for name, arguments in calls:
            words = ", ".join(map(json.dumps, arguments))
            found.append(json.loads(browser.evaluate(f"bench.{name}({words}).then(JSON.stringify)")))
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
