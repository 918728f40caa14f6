"""The metadata section: a strict JSON reader, and a writer of exactly the official builder's bytes.

No PCR measures the metadata: it is an unverified claim of whoever built or changed the file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

from enclavectl.eif.errors import EifError
from enclavectl.eif.format import MAX_METADATA
from enclavectl.eif.strictjson import parse_json
from enclavectl.json_object import MAX_DEPTH, JsonValue

_TYPE_NAMES = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}
_TOP = ("ImageName", "ImageVersion", "BuildMetadata", "DockerInfo", "CustomMetadata")
_BUILD = ("BuildTime", "BuildTool", "BuildToolVersion", "OperatingSystem", "KernelVersion")
_INT_RANGE = (-(2**63), 2**64 - 1)  # serde_json turns other integers into floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """The section's content. ``docker_info`` and ``custom`` are any JSON value, mostly null or an object."""

    image_name: str
    image_version: str
    build_time: str
    build_tool: str
    build_tool_version: str
    operating_system: str
    kernel_version: str
    docker_info: JsonValue = None
    custom: JsonValue = None

    def build_fields(self) -> dict[str, str]:
        """Return the five build fields under their names in the file, in its order."""
        values = (
            self.build_time,
            self.build_tool,
            self.build_tool_version,
            self.operating_system,
            self.kernel_version,
        )
        return dict(zip(_BUILD, values, strict=True))

    def to_bytes(self) -> bytes:
        """Return the section's bytes as the official builder writes them.

        Raises:
            EifError: ``metadata-value``, a number that the official reader would change or text that is not
                Unicode; ``section-too-large``, more than 1 MiB.
        """
        build = ",".join(f"{_quote(key)}:{_quote(value)}" for key, value in self.build_fields().items())
        text = (
            f'{{"ImageName":{_quote(self.image_name)},"ImageVersion":{_quote(self.image_version)},'
            f'"BuildMetadata":{{{build}}},"DockerInfo":{_dump(self.docker_info)},'
            f'"CustomMetadata":{_dump(self.custom)}}}'
        )
        try:
            data = text.encode()
        except UnicodeEncodeError as exc:
            raise EifError(f"metadata: not Unicode text ({exc})", code="metadata-value") from None
        if len(data) > MAX_METADATA:
            raise EifError(
                f"metadata: expected at most {MAX_METADATA} bytes, found {len(data)}",
                code="section-too-large",
            )
        return data


def parse_metadata(data: bytes) -> Metadata:
    """Read a metadata section.

    Raises:
        EifError: ``metadata-json`` (not one JSON value in UTF-8), ``metadata-depth`` (nested deeper than 64),
            ``metadata-duplicate-key``, ``metadata-type``, ``metadata-missing-key``, ``metadata-unknown-key``
            or ``section-too-large``.
    """
    value = parse_json(data, what="metadata", limit=MAX_METADATA)
    top = _object(value, "metadata", _TOP)
    build = _object(top["BuildMetadata"], "BuildMetadata", _BUILD)
    return Metadata(
        image_name=_text(top, "ImageName"),
        image_version=_text(top, "ImageVersion"),
        build_time=_text(build, "BuildTime"),
        build_tool=_text(build, "BuildTool"),
        build_tool_version=_text(build, "BuildToolVersion"),
        operating_system=_text(build, "OperatingSystem"),
        kernel_version=_text(build, "KernelVersion"),
        docker_info=top["DockerInfo"],
        custom=top["CustomMetadata"],
    )


def _object(value: JsonValue, where: str, keys: tuple[str, ...]) -> Mapping[str, JsonValue]:
    if not isinstance(value, Mapping):
        found = _TYPE_NAMES.get(type(value), "number")
        raise EifError(f"{where}: expected an object, found {found}", code="metadata-type")
    missing = [key for key in keys if key not in value]
    if missing:
        raise EifError(f"{where}: missing {', '.join(missing)}", code="metadata-missing-key")
    unknown = sorted(set(value) - set(keys))
    if unknown:
        raise EifError(f"{where}: unknown key {unknown[0][:64]!r}", code="metadata-unknown-key")
    return value


def _text(value: Mapping[str, JsonValue], key: str) -> str:
    text = value[key]
    if not isinstance(text, str):
        raise EifError(f"metadata: expected {key} to be a string", code="metadata-type")
    return text


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # which escapes as serde_json does


def _dump(value: JsonValue, depth: int = 2) -> str:
    """Write compact JSON, object keys sorted by their UTF-8 bytes, as serde_json's default map does."""
    if value is None or isinstance(value, bool | str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, int):
        if not _INT_RANGE[0] <= value <= _INT_RANGE[1]:
            raise EifError(f"metadata: integer {value} needs more than 64 bits", code="metadata-value")
        return str(value)
    if isinstance(value, float):
        return _float(value)
    if depth > MAX_DEPTH:
        raise EifError(f"metadata: nested deeper than {MAX_DEPTH}", code="metadata-depth")
    if isinstance(value, Mapping):
        # Code point order is the order of the UTF-8 bytes.
        return "{" + ",".join(f"{_quote(key)}:{_dump(value[key], depth + 1)}" for key in sorted(value)) + "}"
    return "[" + ",".join(_dump(item, depth + 1) for item in value) + "]"


def _float(value: float) -> str:
    """Return the shortest digits that read back as ``value``, laid out as serde_json (ryu) does.

    https://github.com/dtolnay/ryu/blob/1.0.18/src/pretty/mod.rs
    """
    if not math.isfinite(value):
        raise EifError(f"metadata: {value} is not a JSON number", code="metadata-value")
    sign = "-" if math.copysign(1, value) < 0 else ""
    if value == 0:
        return sign + "0.0"
    mantissa, _, exponent = f"{value!r}".lstrip("-").partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    # The value is 0.DIGITS times ten to the power of `point`.
    point = len(whole) + int(exponent or 0)
    if whole == "0":
        point -= len(fraction) - len(fraction.lstrip("0")) + 1
    digits = digits.rstrip("0") or "0"
    if 0 < point <= 16:
        digits = digits.ljust(point, "0")
        return f"{sign}{digits[:point]}.{digits[point:] or '0'}"
    if -5 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    tail = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{tail}e{point - 1}"
