"""A reader of the JSON values at the beginning of nitro-cli's standard output.

Releases up to 1.4.2 print one object after the other for ``terminate-enclave --all``, later ones an array;
an attached console follows the object of ``run-enclave``.
"""

from __future__ import annotations

from enclavectl.json_object import JsonError, JsonObject, JsonValue, parse_prefix

# The largest answer is describe-enclaves with the metadata of four images; this is a hundred times that.
MAX_BYTES = 16 * 1024 * 1024
# A host has at most a few dozen enclaves, since each takes a CPU core.
MAX_VALUES = 1024


def json_values(data: bytes) -> tuple[list[JsonValue], str]:
    """Return the values at the beginning, with arrays flattened, and the text after them.

    Raises:
        JsonError: too long, too many values, or a value that begins like JSON and is malformed.
    """
    if len(data) > MAX_BYTES:
        raise JsonError(f"expected at most {MAX_BYTES} bytes, found {len(data)}", rule="size")
    text = data.decode("utf-8", errors="replace")
    values: list[JsonValue] = []
    position = 0
    while True:
        while position < len(text) and text[position] in " \t\r\n":
            position += 1
        if text[position : position + 1] not in ("{", "["):
            return values, text[position:]
        start = position
        try:
            value, position = parse_prefix(text, start)
        except JsonError as exc:
            if values:
                return values, text[start:]  # a console may print brackets as well
            found = text[start : start + 60]
            raise JsonError(f"expected JSON, found {found!r} ({exc})", rule=exc.rule) from exc
        found_values = value if isinstance(value, list) else [value]
        if values and not all(isinstance(one, dict) for one in found_values):
            return values, text[start:]  # such as the time stamps of a kernel
        values += found_values
        if len(values) > MAX_VALUES:
            raise JsonError(f"expected at most {MAX_VALUES} values, found more", rule="size")


def one_object(data: bytes) -> JsonObject:
    """Return the first value, which must be an object.

    Raises:
        JsonError: there is no value, or it is no object.
    """
    values, rest = json_values(data)
    if not values or not isinstance(values[0], dict):
        raise JsonError(f"expected a JSON object, found {(rest or repr(values))[:60]!r}")
    return JsonObject(values[0])


def objects(data: bytes) -> list[JsonObject]:
    """Return all values, which must be objects; empty output has none.

    Raises:
        JsonError: a value is no object.
    """
    values, _ = json_values(data)
    return [JsonObject.of(value) for value in values]
