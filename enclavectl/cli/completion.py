"""Shell completion of names: enclaves, models and lint rules of this host.

A completion that fails returns nothing and prints nothing: output would appear in the command line that the
user is typing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import typer

from enclavectl.errors import EnclavectlError

if TYPE_CHECKING:
    from enclavectl.config.load import Config

# Imports are inside the functions: every command imports this module, and completion is rare.


def enclave_names(context: typer.Context) -> list[str]:
    """Return the names of the enclaves on the backend that the command line names so far."""
    from enclavectl.backends.registry import choose_backend  # noqa: PLC0415 - see above

    return _or_nothing(context, lambda config: (one.name for one in choose_backend(config).enclaves()))


def ended_names(context: typer.Context) -> list[str]:
    """Return the names of the enclaves that have ended."""
    from enclavectl.backends.history import History  # noqa: PLC0415 - see above

    return _or_nothing(context, lambda config: (one.name for one in History(config.state_dir).all()))


def model_names(context: typer.Context) -> list[str]:
    """Return the ids of the installed models."""
    from enclavectl.models.find import installed_models  # noqa: PLC0415 - see above

    return _or_nothing(context, lambda config: installed_models(config.data_dir))


def published_models() -> list[str]:
    """Return the models that `model fetch` can download."""
    from enclavectl.models.fetch import PUBLISHED  # noqa: PLC0415 - see above

    return sorted(PUBLISHED)


def remote_names(context: typer.Context) -> list[str]:
    """Return the names of the remotes."""
    from enclavectl.targets.remote_store import RemoteStore  # noqa: PLC0415 - see above

    return _or_nothing(context, lambda config: RemoteStore(config.state_dir).names())


def rule_names() -> list[str]:
    """Return the rules of the lint that ``--allow`` accepts, as the beginnings of its values."""
    from enclavectl.image.findings import BLOCKING  # noqa: PLC0415 - see above

    return sorted(f"{rule}=" for rule in BLOCKING)


def release_names(context: typer.Context) -> list[str]:
    """Return the names of the releases in the policy that the command line names."""
    from enclavectl.backends.registry import load_policy  # noqa: PLC0415 - see above

    try:
        policy = load_policy(context.params["file"], allow_debug=False)
    except (EnclavectlError, OSError, ValueError, KeyError, TypeError):
        return []
    return [release.name for release in policy.releases]


def schema_names() -> list[str]:
    """Return the names that `schema` takes."""
    from enclavectl.schemas.store import schema_names as stored_names  # noqa: PLC0415 - see above

    return stored_names()


def _or_nothing(context: typer.Context, names: Callable[[Config], Iterable[str]]) -> list[str]:
    from enclavectl.config.load import load_config  # noqa: PLC0415 - see above

    given = context.params
    try:
        config = load_config(
            path=given.get("config"), environ=os.environ, flags={"backend": given.get("backend")}
        )
        return sorted(set(names(config)))
    except (EnclavectlError, OSError, ValueError):
        return []
