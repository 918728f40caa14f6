"""The folder in which ``run`` announces enclaves to the gateway: an address and a release each, no more."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from enclavectl.errors import HostError, UsageError
from enclavectl.files import read_bounded, write_atomic
from enclavectl.gateway.routing import Destination
from enclavectl.json_object import JsonError, JsonObject
from enclavectl.net.address import parse_host_address

ANNOUNCEMENT_SCHEMA = "enclavectl.announcement/1"
_MAX_BYTES = 4096
# A host has four enclaves at most; more files than this are a mistake.
_MAX_FILES = 64
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}\.json", re.ASCII)
# It is a label of metrics and stands in notes.
_ENCLAVE = re.compile(r"[!-~]{1,200}", re.ASCII)


def announcement(destination: Destination) -> bytes:
    """Return the content of an enclave's file."""
    value = {
        "schema": ANNOUNCEMENT_SCHEMA,
        "enclave": destination.name,
        "address": str(destination.address),
        "release": destination.release,
    }
    return json.dumps(value, indent=2).encode() + b"\n"


def announce(folder: Path, source: str, destinations: Mapping[str, Destination]) -> None:
    """Make the files of ``source`` (a backend) those of these enclaves, by their ids; others' files stay.

    Group and mode let the folder's group read them: make it the gateway's, with the set-group-id bit.

    Raises:
        HostError: the folder does not take files.
    """
    wanted = {f"{source}-{name}.json": announcement(one) for name, one in destinations.items()}
    for name, content in wanted.items():
        write_atomic(folder / name, content, mode=0o640)
    try:
        for path in folder.glob(f"{source}-*.json"):
            if path.name not in wanted:
                path.unlink(missing_ok=True)
    except OSError as exc:
        raise HostError(f"{folder}: cannot withdraw an announcement ({exc.strerror})") from exc


def parse_announcement(data: bytes) -> Destination:
    """Read an enclave's file.

    Raises:
        JsonError: it is none.
        UsageError: its address or its release has another form.
    """
    value = JsonObject.parse(data, limit=_MAX_BYTES)
    value.require_schema(ANNOUNCEMENT_SCHEMA)
    value.require_keys(("schema", "enclave", "address", "release"))
    return Destination(
        name=value.string("enclave", pattern=_ENCLAVE),
        address=parse_host_address(value.string("address", maximum=500)),
        release=value.string("release", maximum=100),
    )


def read_announced(folder: Path) -> list[Destination]:
    """Read the files of a folder; a file that is none is left out, since one enclave must not stop others.

    Raises:
        UsageError: the folder cannot be read, or has more files than a host has enclaves.
    """
    try:
        names = sorted(path.name for path in folder.iterdir() if _NAME.fullmatch(path.name))
    except OSError as exc:
        raise UsageError(f"{folder}: cannot read the announcements ({exc.strerror})") from exc
    if len(names) > _MAX_FILES:
        raise UsageError(f"{folder}: expected at most {_MAX_FILES} enclaves, found {len(names)}")
    found = []
    for name in names:
        try:
            found.append(parse_announcement(read_bounded(folder / name, _MAX_BYTES, what="announcement")))
        except (JsonError, UsageError):
            continue
    return found
