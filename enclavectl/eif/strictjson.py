"""JSON in image files, read by ``enclavectl.json_object``; its errors become ``EifError``."""

from __future__ import annotations

from enclavectl.eif.errors import EifError
from enclavectl.json_object import JsonError, JsonValue
from enclavectl.json_object import parse_json as _parse_json


def parse_json(data: bytes, *, what: str, limit: int) -> JsonValue:
    """Read one JSON value; ``what`` names the part of the image.

    Raises:
        EifError: ``section-too-large`` (more than ``limit`` bytes), or a code that begins with ``what``:
            ``-json``, ``-depth`` or ``-duplicate-key``.
    """
    try:
        return _parse_json(data, limit=limit)
    except JsonError as exc:
        code = "section-too-large" if exc.rule == "size" else f"{what}-{exc.rule}"
        raise EifError(f"{what}: {exc}", code=code) from exc
