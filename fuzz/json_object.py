"""Any bytes are a value that Python's reader reads alike and that writes itself back, or a JsonError."""

from __future__ import annotations

import contextlib
import json

from enclavectl.json_object import JsonError, JsonObject, parse_json, parse_prefix

SEEDS: list[bytes] = [
    b"",
    b"{}",
    b'{"a": 1, "b": [true, null, -1.5e3], "c": {"d": "\\u00e9\\ud83d\\ude00"}}',
    b'{"schema": "x/1", "started": "2026-11-24T12:00:00+00:00", "pcrs": {"0": "00ff"}}',
    b'{"a": 1, "a": 2}',
    b"[NaN, Infinity, 1e999]",
    b"[[[[[[[[1]]]]]]]]",
]


def one(data: bytes) -> None:
    try:
        value = parse_json(data)
    except JsonError:
        return
    assert value == json.loads(data)
    assert parse_json(json.dumps(value).encode()) == value
    text = data.decode()
    start = len(text) - len(text.lstrip(" \t\r\n"))
    assert parse_prefix(text, start)[0] == value
    if isinstance(value, dict):
        found = JsonObject.parse(data)
        for key in found:
            for read in (found.string, found.integer, found.boolean, found.time, found.object, found.list):
                with contextlib.suppress(JsonError):
                    read(key)
