"""Text and values for HTML: escaped, and of the type that a page expects.

File names, labels and errors are untrusted data, so each one goes through ``text``.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import TypeAlias

from enclavectl.errors import UsageError, visible

Object: TypeAlias = Mapping[str, object]


def text(value: object) -> str:
    """Escape ``value`` for an element or a quoted attribute; write unprintable characters as escapes.

    These include the surrogates of undecodable file names, which UTF-8 cannot encode, and the marks that
    reverse a text's direction, which can make one name look like another.
    """
    return html.escape(visible(str(value)))


def percent(share: float) -> str:
    """Format a probability as a percentage."""
    return "&lt; 0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"


def objects(parent: Object, key: str) -> list[Object]:
    """Return the list of objects at ``key``.

    Raises:
        UsageError: there is none.
    """
    value = parent.get(key)
    if isinstance(value, list):
        return [_as_object(one, f"{key}[{index}]") for index, one in enumerate(value)]
    raise UsageError(f"report: {key}: expected a list, found {type(value).__name__}")


def as_object(parent: Object, key: str) -> Object:
    """Return the object at ``key``.

    Raises:
        UsageError: there is none.
    """
    return _as_object(parent.get(key), key)


def string(parent: Object, key: str) -> str:
    """Return the text at ``key``.

    Raises:
        UsageError: there is none.
    """
    value = parent.get(key)
    if isinstance(value, str):
        return value
    raise UsageError(f"report: {key}: expected text, found {type(value).__name__}")


def number(parent: Object, key: str) -> float:
    """Return the number at ``key``.

    Raises:
        UsageError: there is none, or it is not finite.
    """
    value = parent.get(key)
    if isinstance(value, int | float) and not isinstance(value, bool) and -1e9 < value < 1e9:
        return float(value)
    raise UsageError(f"report: {key}: expected a number, found {value!r}")


def _as_object(value: object, where: str) -> Object:
    if isinstance(value, Mapping):
        return value
    raise UsageError(f"report: {where}: expected an object, found {type(value).__name__}")
