"""The table of differences between the fake and the real nitro-cli is the one that the page shows."""

from __future__ import annotations

import re
from pathlib import Path

from tests.nitro.differences import ON_THE_FAKE_ONLY

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_has_the_table() -> None:
    page = (ROOT / "docs" / "testing.md").read_text()
    rows = dict(re.findall(r"^\| `(test_\w+)` \| (.+) \|$", page, re.MULTILINE))
    assert rows == ON_THE_FAKE_ONLY


def test_every_test_in_it_exists() -> None:
    sources = [*(ROOT / "tests" / "nitro").rglob("*.py"), *(ROOT / "tests" / "e2e").glob("*.py")]
    text = "".join(path.read_text() for path in sources)
    for name in ON_THE_FAKE_ONLY:
        assert f"def {name}(" in text
