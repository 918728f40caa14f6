from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cli import wait_until
from tests.nitro.cli import NitroCli
from tests.nitro.host import FakeHost
from tests.nitro.hosts import HOSTS, make_host


@pytest.fixture(params=HOSTS)
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FakeHost]:
    """A Nitro host on which a test may launch what it likes; afterwards nothing of it runs."""
    with make_host(request.param, tmp_path / "host") as made:
        yield made
        made.end()
        wait_until(lambda: not made.daemons(), "the host's processes end")


@pytest.fixture
def cli(tmp_path: Path, host: FakeHost) -> Iterator[NitroCli]:
    """Commands on that host; what they started has ended afterwards."""
    (tmp_path / "home").mkdir()
    made = NitroCli(tmp_path, host=host)
    yield made
    for what in ("boot", "hash"):
        if host.place.held_up(what).exists():
            host.let_go(what)
    if host.enclaves():  # which may be no enclavectl's
        made.run("terminate", "--all")
    made.end_all()
    wait_until(lambda: not made.keepers(), "keepers end with their enclaves")
