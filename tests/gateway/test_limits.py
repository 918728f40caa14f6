from __future__ import annotations

from dataclasses import fields

from enclavectl.config.load import SETTINGS
from enclavectl.gateway.limits import GatewayLimits


def test_every_bound_but_the_clocks_own_is_a_setting_with_the_same_default() -> None:
    settings = {
        one.key.removeprefix("gateway."): one.default for one in SETTINGS if one.key.startswith("gateway.")
    }
    bounds = {one.name: getattr(GatewayLimits(), one.name) for one in fields(GatewayLimits)}
    del settings["announce"], bounds["sweep_s"]
    assert settings == bounds
