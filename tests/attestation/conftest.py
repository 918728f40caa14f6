from __future__ import annotations

import pytest

from tests.forge import EnclaveForge


@pytest.fixture(scope="session")
def forge() -> EnclaveForge:
    return EnclaveForge()
