"""JSON as a security tool must read it: one value, one meaning, bounded."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import NoReturn

from enclavectl.eif.errors import EifError

MAX_DEPTH = 64  # `docker inspect` nests less than ten deep; Python's reader gives up near a thousand
JsonValue = None | bool | int | float | str | Sequence["JsonValue"] | Mapping[str, "JsonValue"]
# A string (an unclosed one reaches to the end, so that the scan stays linear) or a bracket.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)|[\[{]|[\]}]', re.DOTALL)


class _DuplicateKeyError(ValueError):
    """Two equal keys in one object."""


def parse_json(data: bytes, *, what: str, limit: int) -> JsonValue:
    """Parse one JSON value: UTF-8, no byte order mark, no duplicate keys, at most 64 deep, finite numbers.

    Raises:
        EifError: ``section-too-large`` (more than ``limit`` bytes), or a code that begins with ``what``:
            ``-json``, ``-depth`` or ``-duplicate-key``.
    """
    if len(data) > limit:
        raise EifError(f"{what}: expected at most {limit} bytes, found {len(data)}", code="section-too-large")
    try:
        text = data.decode()
        if _depth(text) > MAX_DEPTH:
            raise EifError(f"{what}: nested deeper than {MAX_DEPTH}", code=f"{what}-depth")
        value: JsonValue = json.loads(
            text, object_pairs_hook=_pairs, parse_constant=_refuse, parse_float=_finite
        )
        json.dumps(value, ensure_ascii=False).encode()  # lone surrogates are not text
    except _DuplicateKeyError as exc:
        raise EifError(f"{what}: {exc}", code=f"{what}-duplicate-key") from None
    except (ValueError, RecursionError) as exc:
        raise EifError(f"{what}: not JSON ({exc})", code=f"{what}-json") from exc
    return value


def _depth(text: str) -> int:
    deepest = depth = 0
    for match in _TOKEN.finditer(text):
        mark = text[match.start()]
        if mark in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif mark in "]}":
            depth -= 1
    return deepest


def _pairs(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _DuplicateKeyError("a key stands twice in one object")
    return value


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:32]} is out of range")
    return value
