"""The patient's page in Firefox: another engine's WebCrypto, WebSocket and screen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from enclavectl.attestation import Release
from tests.browser.firefox import PROGRAM, Firefox, firefox
from tests.browser.lane import absent
from tests.browser.site import sample, site
from tests.local_enclave import LocalEnclave

pytestmark = pytest.mark.timeout(400)  # Firefox takes a minute to start on a machine that is very busy
OVER = "document.querySelector('#send') && !document.querySelector('#choose').disabled"
CODES = "[...document.querySelectorAll('.scores li:first-child')].map((one) => one.dataset.code).join()"
PROBLEM = "(document.querySelector('#problem [data-code]')?.dataset.code ?? '')"


@pytest.fixture(scope="module")
def fox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    """One Firefox for all tests: it takes seconds to start."""
    if PROGRAM is None:
        absent("Firefox is not here")
    with firefox(tmp_path_factory.mktemp("f")) as started:
        yield started


def test_pictures_get_their_labels(tmp_path: Path, enclave: LocalEnclave, fox: Firefox) -> None:
    with site(tmp_path, enclave) as here:
        fox.go(here.page.as_uri())
        fox.choose("#choose", sample("mel"), sample("nv"))
        fox.wait("document.querySelectorAll('#pictures li').length === 2")
        fox.evaluate("document.querySelector('#send').click()")
        fox.wait(f"{OVER} && document.querySelectorAll('.scores').length === 2")
        assert fox.evaluate(CODES) == "mel,nv"
        assert fox.evaluate(PROBLEM) == ""
        assert fox.evaluate("document.cookie + localStorage.length") == "0"


def test_another_program_is_refused(tmp_path: Path, enclave: LocalEnclave, fox: Firefox) -> None:
    policy = enclave.expectation.policy
    (release,) = policy.releases
    other = Release(name="reviewed", pcrs={**release.pcrs, 0: b"\x77" * 48})
    changed = replace(policy, releases=(other,))
    with site(tmp_path, enclave, policy=changed) as here:
        fox.go(here.page.as_uri())
        fox.choose("#choose", sample("mel"))
        fox.wait("document.querySelectorAll('#pictures li').length === 1")
        fox.evaluate("document.querySelector('#send').click()")
        fox.wait(f"{OVER} && {PROBLEM} !== ''")
        assert fox.evaluate(PROBLEM) == "pcr-mismatch"
        records = here.gateway.wait_for_records(1)
    assert sum(one["requests"] for one in records) == 0
