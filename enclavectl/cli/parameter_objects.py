"""Options that several commands share, as one parameter: a frozen dataclass whose fields are the options."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from inspect import Parameter, Signature, signature
from typing import Any, get_type_hints


def with_parameter_objects(command: Callable[..., None]) -> Callable[..., None]:
    """Show Typer the fields of each parameter that is a dataclass as options of the command itself.

    They stand where the parameter does, so the help page has them there. The command gets the object.
    """
    hints = get_type_hints(command, include_extras=True)
    objects: dict[str, type] = {}
    parameters: list[Parameter] = []
    for name, parameter in signature(command).parameters.items():
        kind = hints[name]
        if isinstance(kind, type) and is_dataclass(kind):
            objects[name] = kind
            field_hints = get_type_hints(kind, include_extras=True)
            parameters += [_parameter(one, field_hints[one.name]) for one in fields(kind)]
        else:
            parameters.append(parameter.replace(annotation=kind, kind=Parameter.KEYWORD_ONLY))

    @functools.wraps(command)
    def spread(**values: Any) -> None:
        made = {
            name: kind(**{one.name: values.pop(one.name) for one in fields(kind)})
            for name, kind in objects.items()
        }
        command(**values, **made)

    # What Typer reads: it asks `inspect.signature` for the defaults, and the annotations for the types.
    spread.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    spread.__annotations__ = {one.name: one.annotation for one in parameters} | {"return": None}
    return spread


def _parameter(field: Field[Any], annotation: object) -> Parameter:
    default = Parameter.empty if field.default is MISSING else field.default
    return Parameter(field.name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
