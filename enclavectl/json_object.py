"""The strict, bounded reader of JSON; it raises exactly one exception.

Python's ``json`` accepts duplicate keys (the last one wins), NaN, Infinity and text that is not Unicode;
``int(...)`` around a member accepts "3" and 3.9. This reader refuses all of these. A member has the type that
its reader asked for, or ``JsonError`` names the member, the expected type and the value found.

It imports only fast modules: the supervisor of a local enclave loads it before the payload starts.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import NoReturn, Self, TypeGuard, TypeVar

JsonValue = None | bool | int | float | str | Sequence["JsonValue"] | Mapping[str, "JsonValue"]

# Far deeper than any object that we read, and far below the depth at which Python's own decoder fails.
MAX_DEPTH = 64
# Bytes. Records, answers and locks are smaller; callers that read larger objects pass their own limit.
DEFAULT_LIMIT = 1 << 20
# Signed 64 bits: integers that every language reads alike.
MAX_INTEGER = 2**63 - 1
_DIGITS = 640  # of a whole number: far above what is used, and quickly read
_SHOWN = 60  # characters of a found value in a message: recognizable, and still one line
_T = TypeVar("_T")


class JsonError(ValueError):
    """Bytes that are not the JSON that was expected.

    ``rule`` is the rule that they break: ``size``, ``json`` (not one JSON value in UTF-8), ``depth``,
    ``duplicate-key`` or ``member`` (a key is missing or unknown, or its value is of another type).
    """

    def __init__(self, message: str, *, rule: str = "member") -> None:
        super().__init__(message)
        self.rule = rule


class _DuplicateKeyError(ValueError):
    """Two equal keys in one object."""


def parse_json(data: bytes, *, limit: int = DEFAULT_LIMIT) -> JsonValue:
    """Read one JSON value: UTF-8 without a byte order mark, finite numbers, at most 64 deep.

    Raises:
        JsonError: more than ``limit`` bytes, not one such value, or a key twice in one object.
    """
    if len(data) > limit:
        raise JsonError(f"expected at most {limit} bytes, found {len(data)}", rule="size")
    return _checked(lambda: _DECODER.decode(data.decode()))


def parse_prefix(text: str, start: int) -> tuple[JsonValue, int]:
    """Read the JSON value that begins at ``start``; return it with the position after it.

    Raises:
        JsonError: there is none, or it breaks a rule of ``parse_json``.
    """
    end = start

    def decode() -> JsonValue:
        nonlocal end
        value: JsonValue
        value, end = _DECODER.raw_decode(text, start)
        return value

    return _checked(decode), end


class JsonObject:
    """A JSON object with typed readers of its members.

    The ``optional_`` readers return None for an absent member and for null; to the others both are errors.
    Unread members are ignored, unless ``require_keys`` is called.
    """

    __slots__ = ("_members", "_where")

    def __init__(self, members: Mapping[str, JsonValue], where: str = "") -> None:
        """Wrap parsed members; ``where`` is the path of this object in messages, such as ``model``."""
        self._members = members
        self._where = where

    @classmethod
    def parse(cls, data: bytes, *, limit: int = DEFAULT_LIMIT) -> Self:
        """Parse ``data`` as one object.

        Raises:
            JsonError: as ``parse_json``, or the value is no object.
        """
        return cls.of(parse_json(data, limit=limit))

    @classmethod
    def of(cls, value: object, where: str = "") -> Self:
        """Wrap a parsed value.

        Raises:
            JsonError: it is no object.
        """
        if not isinstance(value, dict):
            raise JsonError(f"{where + ': ' if where else ''}expected an object, found {_shown(value)}")
        return cls(value, where)

    def __contains__(self, key: str) -> bool:
        return key in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    @property
    def members(self) -> Mapping[str, JsonValue]:
        """All members, untyped, for values that are only passed on."""
        return self._members

    def require_keys(self, required: Collection[str], optional: Collection[str] = ()) -> None:
        """Check that every key of ``required`` is present, and no key beside these and ``optional``.

        Raises:
            JsonError: a key is missing or unknown.
        """
        missing = sorted(set(required) - set(self._members))
        unknown = sorted(set(self._members) - set(required) - set(optional))
        if missing or unknown:
            problem = (
                f"expected the key {missing[0]}" if missing else f"found the unknown key {unknown[0]:.60}"
            )
            expected = ", ".join(sorted(required))
            raise JsonError(f"{self._where + ': ' if self._where else ''}{problem} (keys: {expected})")

    def require_schema(self, schema: str) -> None:
        """Check that the member ``schema`` equals ``schema``.

        Raises:
            JsonError: it differs or is absent.
        """
        if (found := self._members.get("schema")) != schema:
            raise JsonError(f"schema: expected {schema}, found {_shown(found)}")

    def string(
        self, key: str, *, maximum: int = DEFAULT_LIMIT, pattern: re.Pattern[str] | None = None
    ) -> str:
        """Return text of at most ``maximum`` characters that matches ``pattern`` from end to end."""
        found = self._members.get(key)
        if not isinstance(found, str):
            raise self._wrong(key, "text")
        if len(found) > maximum:
            raise self._wrong(key, f"text of at most {maximum} characters")
        if pattern is not None and pattern.fullmatch(found) is None:
            raise self._wrong(key, f"text of the form {pattern.pattern}")
        return found

    def integer(self, key: str, *, minimum: int = 0, maximum: int = MAX_INTEGER) -> int:
        """Return a whole number within the bounds; 3.0, "3" and true are refused."""
        found = self._members.get(key)
        if not _is_integer(found, minimum, maximum):
            raise self._wrong(key, _range(minimum, maximum))
        return found

    def boolean(self, key: str) -> bool:
        """Return true or false."""
        found = self._members.get(key)
        if not isinstance(found, bool):
            raise self._wrong(key, "true or false")
        return found

    def time(self, key: str) -> datetime:
        """Return a time in ISO 8601 with a time zone."""
        try:
            found = datetime.fromisoformat(self.string(key, maximum=_SHOWN))
        except ValueError:
            raise self._wrong(key, "a time such as 2026-11-24T12:00:00+00:00") from None
        if found.tzinfo is None:
            raise self._wrong(key, "a time with its zone, such as 2026-11-24T12:00:00+00:00")
        return found

    def hex(self, key: str, *, length: int | None = None) -> bytes:
        """Return ``length`` bytes (None: any number), written as lower-case hex.

        Errors do not show the value: it may be a key.
        """
        found = self._members.get(key)
        if not isinstance(found, str) or not _HEX.fullmatch(found) or length not in (None, len(found) // 2):
            digits = "" if length is None else f"{2 * length} "
            raise JsonError(
                f"{self._path(key)}: expected {digits}lower-case hex digits, found something else"
            )
        return bytes.fromhex(found)

    def object(self, key: str) -> JsonObject:
        """Return an object."""
        found = self._members.get(key)
        if not isinstance(found, dict):
            raise self._wrong(key, "an object")
        return JsonObject(found, self._path(key))

    def objects(self, key: str) -> tuple[JsonObject, ...]:
        """Return a list of objects."""
        return tuple(
            JsonObject.of(one, f"{self._path(key)}[{index}]") for index, one in enumerate(self.list(key))
        )

    def strings(self, key: str) -> tuple[str, ...]:
        """Return a list of texts."""
        found = self.list(key)
        if not all(isinstance(one, str) for one in found):
            raise self._wrong(key, "a list of texts")
        return tuple(str(one) for one in found)

    def integers(self, key: str, *, minimum: int = 0, maximum: int = MAX_INTEGER) -> tuple[int, ...]:
        """Return a list of whole numbers, each within the bounds."""
        found = [one for one in self.list(key) if _is_integer(one, minimum, maximum)]
        if len(found) != len(self.list(key)):
            raise self._wrong(key, f"a list of {_range(minimum, maximum)}")
        return tuple(found)

    def list(self, key: str) -> Sequence[JsonValue]:
        """Return a list with unchecked elements."""
        found = self._members.get(key)
        if not isinstance(found, list):
            raise self._wrong(key, "a list")
        return found

    def string_map(self, key: str) -> dict[str, str]:
        """Return an object whose values are all text."""
        inner = self.object(key)
        return {name: inner.string(name) for name in inner}

    def optional_string(self, key: str, *, maximum: int = DEFAULT_LIMIT) -> str | None:
        """Return ``string``, or None if the member is absent or null."""
        return self._optional(key, lambda: self.string(key, maximum=maximum))

    def optional_integer(self, key: str, *, minimum: int = 0, maximum: int = MAX_INTEGER) -> int | None:
        """Return ``integer``, or None if the member is absent or null."""
        return self._optional(key, lambda: self.integer(key, minimum=minimum, maximum=maximum))

    def optional_time(self, key: str) -> datetime | None:
        """Return ``time``, or None if the member is absent or null."""
        return self._optional(key, lambda: self.time(key))

    def optional_hex(self, key: str, *, length: int | None = None) -> bytes | None:
        """Return ``hex``, or None if the member is absent or null."""
        return self._optional(key, lambda: self.hex(key, length=length))

    def optional_object(self, key: str) -> JsonObject | None:
        """Return ``object``, or None if the member is absent or null."""
        return self._optional(key, lambda: self.object(key))

    def _optional(self, key: str, read: Callable[[], _T]) -> _T | None:
        return None if self._members.get(key) is None else read()

    def _path(self, key: str) -> str:
        return f"{self._where}.{key}" if self._where else key

    def _wrong(self, key: str, expected: str) -> JsonError:
        found = _shown(self._members[key]) if key in self._members else "nothing"
        return JsonError(f"{self._path(key)}: expected {expected}, found {found}")


def _checked(decode: Callable[[], JsonValue]) -> JsonValue:
    try:
        value = decode()
        is_deep = _is_deeper(value, MAX_DEPTH)
        if not is_deep:
            _refuse_lone_surrogates(value)
    except _DuplicateKeyError as exc:
        raise JsonError(str(exc), rule="duplicate-key") from None
    except RecursionError:
        is_deep, value = True, None
    except ValueError as exc:
        raise JsonError(f"not JSON ({exc})", rule="json") from exc
    if is_deep:
        raise JsonError(f"nested deeper than {MAX_DEPTH}", rule="depth")
    return value


def _is_deeper(value: JsonValue, limit: int) -> bool:
    """Return whether objects and lists are nested deeper than ``limit``. Walk level by level, without
    recursion.
    """
    level: list[JsonValue] = [value]
    for _ in range(limit):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return any(isinstance(one, dict | list) for one in level)


def _refuse_lone_surrogates(value: JsonValue) -> None:
    # A lone surrogate, which only an escape can write, is no text, and no encoder could print it.
    json.dumps(value, ensure_ascii=False).encode()


def _pairs(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _DuplicateKeyError("a key stands twice in one object")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _integer(text: str) -> int:
    # Python's own bound on digits has a message about Python.
    if len(text) > _DIGITS:
        raise ValueError(f"{text[:32]}... has {len(text)} digits, more than {_DIGITS}")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:32]} is out of range")
    return value


def _is_integer(value: object, minimum: int, maximum: int) -> TypeGuard[int]:
    return type(value) is int and minimum <= value <= maximum


def _range(minimum: int, maximum: int) -> str:
    if maximum == MAX_INTEGER:
        return f"a whole number of at least {minimum}"
    return f"a whole number of {minimum} to {maximum}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


_HEX = re.compile(r"([0-9a-f]{2})*")
_DECODER = json.JSONDecoder(
    object_pairs_hook=_pairs, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_integer
)
