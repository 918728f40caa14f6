"""Option values, checked by hand as src/common/commands_parser.rs does."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from tests.nitro.fake.arguments import Matches
from tests.nitro.fake.failure import Failure, os_error

_PARSER = "src/common/commands_parser.rs"
_UNITS = {"": 1, "M": 1, "m": 1, "G": 1024, "g": 1024, "T": 1024**2, "t": 1024**2}
_U32 = 2**32
_U64 = 2**64


def run_arguments(matches: Matches, release: tuple[int, ...]) -> dict[str, Any]:
    """The object of ``run-enclave``, from its options or its configuration file.

    Raises:
        Failure: E01, E02, E03, E17 or E19.
    """
    try:
        config = matches.one("config")
        return _from_file(config) if config is not None else _from_options(matches, release)
    except Failure as failure:
        raise failure.sub("Failed to construct RunEnclave arguments") from failure.__cause__


def console_timeout(matches: Matches) -> float | None:
    """The seconds of ``--disconnect-timeout``; 0 never disconnects.

    Raises:
        Failure: E03.
    """
    text = matches.one("disconnect-timeout")
    if text is None:
        return None
    seconds = _number(
        text, _U64, "disconnect-timeout", "`disconnect-timeout` argument can't be parsed as a number", 469
    )
    if isinstance(seconds, Failure):
        raise seconds.sub("Parse disconnect timeout", "Failed to construct Console arguments")
    return float(seconds) or None


def _from_options(matches: Matches, release: tuple[int, ...]) -> dict[str, Any]:
    count = matches.one("cpu-count")
    return {
        "cpu_count": None if count is None else _cpu_count(count),
        "eif_path": matches.one("eif-path"),
        "enclave_cid": _cid(matches.one("enclave-cid")),
        "memory_mib": _memory(str(matches.one("memory")), release),
        "cpu_ids": [_cpu_id(text) for text in matches["cpu-ids"]] if "cpu-ids" in matches else None,
        "debug_mode": matches.flag("debug-mode") or matches.flag("attach-console"),
        "attach_console": matches.flag("attach-console"),
        "enclave_name": matches.one("enclave-name"),
    }


def _number(text: str, below: int, name: str, reason: str, line: int) -> int | Failure:
    if re.fullmatch(r"\+?[0-9]{1,20}", text) and int(text) < below:
        return int(text)
    return Failure("E03", reason, f"{_PARSER}:{line}", info=(name, text))


def _cpu_count(text: str) -> int:
    count = _number(text, _U32, "cpu-count", "`cpu-count` is not a number", 502)
    if isinstance(count, Failure):
        raise count.sub("Parse CPU count")
    return count


def _cpu_id(text: str) -> int:
    cpu = _number(text, _U32, "cpu-id", "`cpu-id` is not a number", 487)
    if isinstance(cpu, Failure):
        raise cpu.sub("Parse CPU IDs")
    return cpu


def _memory(text: str, release: tuple[int, ...]) -> int:
    match = re.fullmatch(r"([0-9]*)(.*)", text, re.DOTALL)
    assert match is not None
    info = ("memory", text)
    units = _UNITS if release >= (1, 2, 3) else {"": 1}
    if not match[1] or int(match[1]) >= _U64:
        reason = "`memory` argument does not contain a number"
        raise Failure("E03", reason, f"{_PARSER}:352", info=info).sub("Parse memory")
    if match[2] not in units:
        reason = "`memory` argument does not contain a valid size indicator"
        raise Failure("E03", reason, f"{_PARSER}:360", info=info).sub("Parse memory")
    return int(match[1]) * units[match[2]]


def _cid(text: str | None) -> int | None:
    if text is None:
        return None
    cid = _number(text, _U64, "enclave-cid", "`enclave-cid` is not a number", 384)
    if isinstance(cid, Failure):
        raise cid.sub("Parse enclave CID")
    if cid == 0:
        print("The enclave CID will be auto-generated as the provided CID is 0", file=sys.stderr)
    reason, line = None, 0
    if 0 < cid <= 2 or cid == _U32 - 1:
        line = 402 if cid <= 2 else 409
        reason = f"CID {cid} is a well-known CID, not to be used for enclaves"
    elif cid == 3:
        reason, line = f"CID {cid} is the CID of the parent VM, not to be used for enclaves", 417
    elif cid >= _U32:
        reason = f"CID {cid} is higher than the maximum supported (u32 max) for a vsock device"
        line = 427
    if reason is not None:
        raise Failure("E03", reason, f"{_PARSER}:{line}").sub("Parse enclave CID")
    return cid


def _from_file(path: str) -> dict[str, Any]:
    try:
        text = Path(path).read_bytes()
    except OSError as exc:
        reason = f"Failed to open config file: {os_error(exc)}"
        raise Failure("E19", reason, f"{_PARSER}:47", info=(path, "Open")) from exc
    try:
        value = json.loads(text)
        found = {
            "eif_path": _typed(value, "eif_path", str),
            "memory_mib": _typed(value, "memory_mib", int),
            "enclave_cid": _typed(value, "enclave_cid", int, None),
            "cpu_ids": _typed(value, "cpu_ids", list, None),
            "cpu_count": _typed(value, "cpu_count", int, None),
            "debug_mode": _typed(value, "debug_mode", bool, False),
            "attach_console": _typed(value, "attach_console", bool, False),
            "enclave_name": _typed(value, "enclave_name", str, None),
        }
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        reason = f'Invalid JSON format for config file: Error("{exc}", line: 1, column: 1)'
        raise Failure("E17", reason, f"{_PARSER}:55") from exc
    if found["cpu_count"] is None and found["cpu_ids"] is None:
        raise Failure("E01", "Missing both `cpu-count` and `cpu-ids`", f"{_PARSER}:61")
    if found["cpu_count"] is not None and found["cpu_ids"] is not None:
        raise Failure("E02", "`cpu-count` and `cpu-ids` cannot be used together", f"{_PARSER}:67")
    found["debug_mode"] = found["debug_mode"] or found["attach_console"]
    return found


_REQUIRED = object()


def _typed(value: dict[str, Any], key: str, kind: type, default: object = _REQUIRED) -> Any:
    found = value.get(key, default)
    if found is _REQUIRED:
        raise ValueError(f"missing field `{key}`")
    if found is not default and type(found) is not kind:
        raise ValueError(f"invalid type: {type(found).__name__}, expected {kind.__name__}")
    return found
