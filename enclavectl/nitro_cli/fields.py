"""The members of an answer's JSON object, each checked when it is read.

Every function raises ``AnswerError`` for a member that is not what its first line says.
"""

from __future__ import annotations

from collections.abc import Mapping

from enclavectl.nitro_cli.stream import AnswerError

_MAX_TEXT = 4096


def read_text(value: Mapping[str, object], key: str) -> str:
    """Text of at most 4,096 characters."""
    found = value.get(key)
    if not isinstance(found, str) or len(found) > _MAX_TEXT:
        raise AnswerError(f"{key}: expected text, found {found!r:.60}")
    return found


def read_optional_text(value: Mapping[str, object], key: str) -> str | None:
    """The same, or None where there is none."""
    return None if value.get(key) is None else read_text(value, key)


def read_whole(value: Mapping[str, object], key: str) -> int:
    """A number of 64 bits."""
    found = value.get(key)
    if type(found) is not int or not 0 <= found < 2**64:
        raise AnswerError(f"{key}: expected a whole number, found {found!r:.60}")
    return found


def read_wholes(value: Mapping[str, object], key: str) -> tuple[int, ...]:
    """A list of numbers of 32 bits."""
    found = value.get(key)
    if not isinstance(found, list) or not all(type(one) is int and 0 <= one < 2**32 for one in found):
        raise AnswerError(f"{key}: expected whole numbers, found {found!r:.60}")
    return tuple(found)


def read_flag(value: Mapping[str, object], key: str) -> bool:
    """True or false."""
    found = value.get(key)
    if not isinstance(found, bool):
        raise AnswerError(f"{key}: expected true or false, found {found!r:.60}")
    return found


def read_optional_object(value: Mapping[str, object], key: str) -> Mapping[str, object] | None:
    """An object, or None where there is none."""
    found = value.get(key)
    if found is not None and not isinstance(found, dict):
        raise AnswerError(f"{key}: expected an object, found {found!r:.60}")
    return found
