from __future__ import annotations

from pathlib import Path

import pytest

from enclavectl.attestation import Policy, Release, Trust, render_policy
from tests.cli.desk import Desk, lay_desk
from tests.cli.policies import COMMENT, REGISTERS, lock_of
from tests.forge import PCRS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a lock, another one, and a policy of the first with a comment."""
    (tmp_path / "a.json").write_bytes(lock_of(REGISTERS).to_bytes())
    (tmp_path / "b.json").write_bytes(lock_of({**REGISTERS, "PCR0": "20" * 48}).to_bytes())
    policy = Policy(
        accept=frozenset({Trust.NITRO}), releases=(Release(name="1.0", pcrs=PCRS, notes="by Ada"),)
    )
    (tmp_path / "p.yaml").write_text(f"{COMMENT}\n{render_policy(policy)}")
    return tmp_path


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A desk with a session's evidence on it."""
    return lay_desk(tmp_path_factory.mktemp("desk"))
