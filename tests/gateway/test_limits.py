from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from enclavectl.config.load import SETTINGS
from enclavectl.gateway.limits import GatewayLimits

PAGE = Path(__file__).resolve().parents[2] / "docs" / "gateway.md"


def test_every_bound_but_the_clocks_own_is_a_setting_with_the_same_default() -> None:
    found = (one for one in SETTINGS if one.key.startswith("gateway."))
    settings = {one.key.removeprefix("gateway."): one.default for one in found}
    bounds = {one.name: getattr(GatewayLimits(), one.name) for one in fields(GatewayLimits)}
    del settings["announce"], bounds["sweep_s"]
    assert settings == bounds
    rows = re.findall(r"^\| `([a-z_]+)` \| (\d+) \|", PAGE.read_text(), re.MULTILINE)
    assert {name: int(value) for name, value in rows} == settings
