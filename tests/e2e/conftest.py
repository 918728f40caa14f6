from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.built import Builder, make_builder
from tests.e2e.cli import Cli
from tests.e2e.nitro import NitroStage, nitro_stage
from tests.nitro.hosts import HOSTS


def _cli(base: Path) -> Iterator[Cli]:
    (base / "home").mkdir()
    cli = Cli(base)
    yield cli
    cli.end_all()
    cli.assert_nothing_left()


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    """Commands with folders that nobody used; nothing is left of them afterwards."""
    yield from _cli(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """Commands that share folders in this module, with an enclave called ``shared`` that runs."""
    for cli in _cli(tmp_path_factory.mktemp("shared")):
        cli.ok("run", "--name", "shared")
        yield cli


@pytest.fixture(scope="session")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    """What builds images of real parts."""
    return make_builder(tmp_path_factory.mktemp("builder"))


@pytest.fixture(scope="session")
def built(builder: Builder) -> Path:
    """An image of real parts with the demo model; its lock is beside it."""
    return builder.build(builder.home / "payload")


@pytest.fixture(params=HOSTS)
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NitroStage]:
    """Commands on a Nitro host of the test's own."""
    with nitro_stage(tmp_path, request.param) as made:
        yield made
