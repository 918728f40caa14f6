from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser.driving import close_browser
from tests.browser.lane import built_page
from tests.browser.site import Site, site
from tests.local_enclave import LocalEnclave, start_local_enclave


@pytest.fixture(scope="session", autouse=True)
def browser() -> Iterator[None]:
    """End the browser that the first visit starts."""
    yield
    close_browser()


@pytest.fixture(scope="session")
def enclave(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEnclave]:
    """One enclave for all visits, and the page's code."""
    built_page()
    with start_local_enclave(tmp_path_factory.mktemp("e")) as started:
        yield started


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory, enclave: LocalEnclave) -> Iterator[Site]:
    """A site at which nothing is odd, for the visits that need no other."""
    with site(tmp_path_factory.mktemp("p"), enclave) as opened:
        yield opened
