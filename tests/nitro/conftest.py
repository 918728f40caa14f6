from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cli import wait_until
from tests.nitro.host import FakeHost, fake_host


@pytest.fixture
def host(tmp_path: Path) -> Iterator[FakeHost]:
    """A fake Nitro host on which a test may launch what it likes; afterwards nothing of it runs."""
    with fake_host(tmp_path / "host") as made:
        yield made
        made.end()
        wait_until(lambda: not made.daemons(), "the fake host's processes end")
