"""The patient's page in Firefox: another engine's WebCrypto, WebSocket and screen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from enclavectl.attestation import Release
from tests.browser.firefox import PROGRAM, firefox
from tests.browser.lane import absent
from tests.browser.site import sample, site
from tests.local_enclave import LocalEnclave

pytestmark = pytest.mark.timeout(400)  # Firefox takes a minute to start on a machine that is very busy
OVER = "document.querySelector('#send') && !document.querySelector('#choose').disabled"
CODES = "[...document.querySelectorAll('.scores li:first-child')].map((one) => one.dataset.code).join()"
PROBLEM = "(document.querySelector('#problem [data-code]')?.dataset.code ?? '')"


@pytest.fixture(autouse=True)
def program() -> None:
    if PROGRAM is None:
        absent("Firefox is not here")


def test_pictures_get_their_labels(tmp_path: Path, enclave: LocalEnclave) -> None:
    with site(tmp_path, enclave) as here, firefox(tmp_path) as browser:
        browser.go(here.page.as_uri())
        browser.choose("#choose", sample("mel"), sample("nv"))
        browser.wait("document.querySelectorAll('#pictures li').length === 2")
        browser.evaluate("document.querySelector('#send').click()")
        browser.wait(f"{OVER} && document.querySelectorAll('.scores').length === 2")
        assert browser.evaluate(CODES) == "mel,nv"
        assert browser.evaluate(PROBLEM) == ""
        assert browser.evaluate("document.cookie + localStorage.length") == "0"


def test_another_program_is_refused(tmp_path: Path, enclave: LocalEnclave) -> None:
    policy = enclave.expectation.policy
    (release,) = policy.releases
    other = Release(name="reviewed", pcrs={**release.pcrs, 0: b"\x77" * 48})
    changed = replace(policy, releases=(other,))
    with site(tmp_path, enclave, policy=changed) as here, firefox(tmp_path) as browser:
        browser.go(here.page.as_uri())
        browser.choose("#choose", sample("mel"))
        browser.wait("document.querySelectorAll('#pictures li').length === 1")
        browser.evaluate("document.querySelector('#send').click()")
        browser.wait(f"{OVER} && {PROBLEM} !== ''")
        assert browser.evaluate(PROBLEM) == "pcr-mismatch"
        records = here.gateway.wait_for_records(1)
    assert sum(one["requests"] for one in records) == 0
