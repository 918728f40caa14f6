from __future__ import annotations

import re
from pathlib import Path

from enclavectl.config.gateway import GatewayConfig
from enclavectl.config.setting import settings_of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "gateway.md"


def test_the_page_has_every_bound_with_its_default() -> None:
    defaults = {one.key: one.default for one in settings_of(GatewayConfig)}
    del defaults["announce"]
    rows = re.findall(r"^\| `([a-z_]+)` \| (\d+) \|", PAGE.read_text(), re.MULTILINE)
    assert {name: int(value) for name, value in rows} == defaults
