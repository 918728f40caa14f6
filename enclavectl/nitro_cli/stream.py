"""The JSON values at the beginning of what nitro-cli wrote to standard output.

Releases up to 1.4.2 print one object after the other for ``terminate-enclave --all``, later ones an array;
an attached console follows the object of ``run-enclave``.
"""

from __future__ import annotations

import json
from json import JSONDecodeError

# The largest answer is describe-enclaves with four images' metadata; this is a hundred times that.
MAX_BYTES = 16 * 1024 * 1024
MAX_VALUES = 1024


class AnswerError(ValueError):
    """What nitro-cli printed is not what this release of enclavectl knows how to read."""


def json_values(data: bytes) -> tuple[list[object], str]:
    """The values at the beginning, arrays taken apart, and the text after them.

    Raises:
        AnswerError: too long, too many values, or one that begins like JSON and is none.
    """
    if len(data) > MAX_BYTES:
        raise AnswerError(f"expected at most {MAX_BYTES} bytes, found {len(data)}")
    text = data.decode("utf-8", errors="replace")
    decoder = json.JSONDecoder()
    values: list[object] = []
    position = 0
    while True:
        while position < len(text) and text[position] in " \t\r\n":
            position += 1
        if text[position : position + 1] not in ("{", "["):
            return values, text[position:]
        start = position
        try:
            value, position = decoder.raw_decode(text, start)
        except (JSONDecodeError, RecursionError) as exc:
            if values:
                return values, text[start:]  # a console may print brackets, too
            raise AnswerError(f"expected JSON, found {text[start : start + 60]!r}") from exc
        found = value if isinstance(value, list) else [value]
        if values and not all(isinstance(one, dict) for one in found):
            return values, text[start:]  # such as the time stamps of a kernel
        values += found
        if len(values) > MAX_VALUES:
            raise AnswerError(f"expected at most {MAX_VALUES} values, found more")


def one_object(data: bytes) -> dict[str, object]:
    """The first value, which is an object.

    Raises:
        AnswerError: there is none, or it is something else.
    """
    values, rest = json_values(data)
    if not values or not isinstance(values[0], dict):
        raise AnswerError(f"expected a JSON object, found {(rest or repr(values))[:60]!r}")
    return values[0]


def objects(data: bytes) -> list[dict[str, object]]:
    """Every value, all of them objects. Nothing at all is no objects.

    Raises:
        AnswerError: one is something else.
    """
    values, _ = json_values(data)
    found = [value for value in values if isinstance(value, dict)]
    if len(found) != len(values):
        raise AnswerError("expected only JSON objects, found other values among them")
    return found
