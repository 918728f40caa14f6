"""Either nitro-cli, and what it is asked about."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.eif import samples
from tests.nitro.host import FakeHost, fake_host
from tests.nitro.real import NitroCli, real_nitro_cli

REAL = pytest.param("real", marks=pytest.mark.nitro_cli)


@pytest.fixture(scope="package")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHost]:
    """A fake host without the driver, as any machine that is no Nitro host."""
    home = tmp_path_factory.mktemp("bare") / "host"
    with fake_host(home, module=False, device="missing") as host:
        yield host


@pytest.fixture(params=["fake", REAL])
def nitro_cli(request: pytest.FixtureRequest, tmp_path: Path) -> NitroCli:
    """Either nitro-cli, with empty folders."""
    for name in ("log", "run"):
        (tmp_path / name).mkdir()
    if request.param == "real":
        return NitroCli(real_nitro_cli(), tmp_path)
    bare: FakeHost = request.getfixturevalue("bare")
    return NitroCli(bare.program, tmp_path)


@pytest.fixture
def real(tmp_path: Path) -> NitroCli:
    """A real one, where the fake's own tables are what is tested."""
    for name in ("log", "run"):
        (tmp_path / name).mkdir()
    return NitroCli(real_nitro_cli(), tmp_path)


@pytest.fixture
def eif(tmp_path: Path) -> Path:
    path = tmp_path / "sample.eif"
    path.write_bytes(samples.image())
    return path
