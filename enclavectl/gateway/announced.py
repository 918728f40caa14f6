"""The folder in which ``run`` announces enclaves to the gateway: an address and a release each, no more."""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Collection, Mapping
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
        # A file that stays keeps the gateway's lock on it.
        if _content(folder / name) != content:
            write_atomic(folder / name, content, mode=0o640)
    try:
        for path in folder.glob(f"{source}-*.json"):
            if path.name not in wanted:
                path.unlink(missing_ok=True)
    except OSError as exc:
        raise HostError(f"{folder}: cannot withdraw an announcement ({exc.strerror})") from exc


def announce_one(folder: Path, source: str, name: str, destination: Destination) -> None:
    """Write the file of one enclave, and remove those of others of its name: they ended without a word.

    Raises:
        HostError: the folder does not take files.
    """
    own = folder / f"{source}-{name}.json"
    write_atomic(own, announcement(destination), mode=0o640)
    try:
        for other, path in _announced(folder):
            if path != own and path.name.startswith(f"{source}-") and other.name == destination.name:
                path.unlink(missing_ok=True)
    except OSError as exc:
        raise HostError(f"{folder}: cannot withdraw an announcement ({exc.strerror})") from exc


def _content(path: Path) -> bytes | None:
    try:
        return read_bounded(path, _MAX_BYTES, what="announcement")
    except UsageError:
        return None


def withdraw(folder: Path, source: str, name: str) -> int | None:
    """Remove the file of one enclave; return a descriptor of it for ``is_let_go``, None if there is none.

    Raises:
        HostError: the folder does not let go of files.
    """
    path = folder / f"{source}-{name}.json"
    try:
        lease = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise HostError(f"{path}: cannot be opened ({exc.strerror})") from exc
    try:
        path.unlink(missing_ok=True)
    except OSError as exc:
        os.close(lease)
        raise HostError(f"{path}: cannot be withdrawn ({exc.strerror})") from exc
    return lease


def is_let_go(lease: int) -> bool:
    """Return whether no gateway has a session with the enclave of a withdrawn file any more."""
    try:
        fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Leases:
    """A gateway's shared locks on the announcements that it uses, kept while a session needs the enclave.

    So whoever withdraws an announcement learns when the last session of it has ended, without asking us.
    """

    def __init__(self) -> None:
        self._held: dict[Destination, int] = {}

    def hold(self, folder: Path) -> list[Destination]:
        """Read the announcements of a folder and take a lock on each; return the destinations.

        Raises:
            UsageError: as ``read_announced``.
        """
        found = _announced(folder)
        for destination, path in found:
            if destination not in self._held and (lease := _lock(path)) is not None:
                self._held[destination] = lease
        return [destination for destination, _ in found]

    def let_go(self, keep: Collection[Destination]) -> None:
        """Release the locks of all other destinations than these."""
        for destination in self._held.keys() - set(keep):
            os.close(self._held.pop(destination))


def _lock(path: Path) -> int | None:
    try:
        lease = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None  # just withdrawn
    try:
        fcntl.flock(lease, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        os.close(lease)
        return None  # somebody has withdrawn it and holds it
    return lease


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
    return [destination for destination, _ in _announced(folder)]


def _announced(folder: Path) -> list[tuple[Destination, Path]]:
    try:
        names = sorted(path.name for path in folder.iterdir() if _NAME.fullmatch(path.name))
    except OSError as exc:
        raise UsageError(f"{folder}: cannot read the announcements ({exc.strerror})") from exc
    if len(names) > _MAX_FILES:
        raise UsageError(f"{folder}: expected at most {_MAX_FILES} enclaves, found {len(names)}")
    found = []
    for name in names:
        try:
            data = read_bounded(folder / name, _MAX_BYTES, what="announcement")
            found.append((parse_announcement(data), folder / name))
        except (JsonError, UsageError):
            continue
    return found
