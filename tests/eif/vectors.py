"""Where the official and hostile files are, and the test's skip where they are not."""

from __future__ import annotations

from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2] / ".." / "shared" / "vectors" / "eif"


def real_archive(name: str) -> Path:
    """An image archive that another builder wrote, beside the project; skips the test where there is none."""
    path = _ROOT.parents[1] / "cases" / "turn2" / "real-archives" / name
    if not path.is_file():
        pytest.skip(f"no archive {path}")
    return path


def vectors(folder: str) -> Path:
    """The folder ``vectors/eif/NAME`` beside the project; skips the test where there is none."""
    path = _ROOT / folder
    if not path.is_dir():
        pytest.skip(f"no vectors in {path}")
    return path
