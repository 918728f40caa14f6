from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser.lane import built_page
from tests.local_enclave import LocalEnclave, start_local_enclave


@pytest.fixture(scope="module")
def enclave(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEnclave]:
    """One enclave for all visits of a file, and the page's code."""
    built_page()
    with start_local_enclave(tmp_path_factory.mktemp("e")) as started:
        yield started
