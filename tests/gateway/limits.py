"""The bounds of a gateway by default, or with changes: only the loader makes the section otherwise."""

from __future__ import annotations

from pathlib import Path

from enclavectl.config.gateway import GatewayConfig
from enclavectl.config.setting import PathContext, settings_of


def gateway_limits(**changes: float) -> GatewayConfig:
    around = PathContext(base=Path("/"), environ={})
    defaults = {one.key: one.resolve_default(around) for one in settings_of(GatewayConfig)}
    return GatewayConfig(**{**defaults, **changes})  # type: ignore[arg-type]  # the kinds are the loader's
