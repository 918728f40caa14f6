"""Options that several commands share as a group: a frozen dataclass whose fields are the options."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from typing import get_type_hints

# As click calls commands.
_BY_NAME = inspect.Parameter.KEYWORD_ONLY


def spreads_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Spell the options of each group for the command line, and hand the command the group.

    Typer reads a command's signature. In the one that it sees, the fields of a dataclass stand in the place
    of the parameter of that type.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, type] = {
        name: hint for name, hint in hints.items() if isinstance(hint, type) and is_dataclass(hint)
    }

    @functools.wraps(command)
    def spread(**values: object) -> None:
        for name, group in groups.items():
            values[name] = group(**{one.name: values.pop(one.name) for one in fields(group)})
        command(**values)

    parameters = []
    for parameter in inspect.signature(command).parameters.values():
        group = groups.get(parameter.name)
        if group is None:
            parameters.append(parameter.replace(annotation=hints[parameter.name], kind=_BY_NAME))
        else:
            parameters.extend(_options(group))
    vars(spread)["__signature__"] = inspect.Signature(parameters)
    spread.__annotations__ = {one.name: one.annotation for one in parameters} | {"return": None}
    return spread


def _options(group: type) -> Iterator[inspect.Parameter]:
    """Yield a parameter for each field of a group."""
    hints = get_type_hints(group, include_extras=True)
    for one in fields(group):
        default = inspect.Parameter.empty if one.default is MISSING else one.default
        yield inspect.Parameter(one.name, _BY_NAME, default=default, annotation=hints[one.name])
