"""What tests over a network share: an enclave in this process, an issuer, no proxy of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.in_process import InProcess, start_in_process
from tests.net.certificates import Authority


@pytest.fixture
def enclave(tmp_path: Path) -> Iterator[InProcess]:
    with start_in_process(tmp_path) as found:
        yield found


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
