"""The folder of remotes: how they are written, found and removed.

A remote is a folder of this user's only: ``remote.json`` and copies of the files that it names. The names of
the copies hold the beginning of their SHA-256: an update writes new files first, then ``remote.json`` in one
step, and removes what that names no more last. The user's configuration file is never written.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from enclavectl.errors import HostError, StateError, UsageError
from enclavectl.files import make_private_dir, read_bounded, require_private_dir, write_atomic
from enclavectl.json_object import JsonError, JsonObject
from enclavectl.net.address import parse_address
from enclavectl.suggest import suggestion

if TYPE_CHECKING:  # most hosts have no remote, and every command for an enclave looks for the default one
    from enclavectl.targets.remotes import Remote, RemoteContent
    from enclavectl.targets.target import Target
    from enclavectl.targets.verification import VerificationOptions

RECORD_SCHEMA = "enclavectl.remote-record/1"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_COPY = re.compile(r"[a-z-]{1,30}-[0-9a-f]{16}\.[a-z]{1,5}")
_RECORD = "remote.json"
# No name of a remote begins with a dot.
_DEFAULT = ".default"
_MAX_RECORD_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class DamagedRemote:
    """A remote that cannot be used, and why."""

    name: str
    is_default: bool
    error: StateError


class RemoteStore:
    """The remotes of this user."""

    def __init__(self, state_dir: Path) -> None:
        """Use the folder ``remotes`` of the state folder; it is made by the first ``add``."""
        self.folder = state_dir / "remotes"

    def names(self) -> list[str]:
        """Return the names, in alphabetical order.

        Raises:
            HostError: somebody else may have put something in the folder.
        """
        if not require_private_dir(self.folder):
            return []
        return sorted(
            path.name for path in self.folder.iterdir() if _NAME.fullmatch(path.name) and path.is_dir()
        )

    def all(self) -> list[Remote | DamagedRemote]:
        """Return every remote, in alphabetical order.

        Raises:
            HostError: somebody else may have put something in the folder.
        """
        return [self._look_at(name) for name in self.names()]

    def find(self, name: str) -> Remote:
        """Return the remote of this name.

        Raises:
            StateError: there is none, or it is damaged.
            HostError: somebody else may have put something in the folder.
        """
        self._require(name)
        return self._read(name)

    def target(self, name: str, options: VerificationOptions) -> Target:
        """Make the target for the remote of this name as it is now, while others may replace its parts.

        Raises:
            StateError: there is none of this name, or it is damaged.
            UsageError: a copy cannot be used, or the host's profile refuses its policy.
            HostError: somebody else may have put something in the folder.
        """
        from enclavectl.targets.remotes import target_of_remote

        while True:
            remote = self.find(name)
            try:
                return target_of_remote(remote, options)
            except UsageError:
                if self.find(name) == remote:
                    raise  # nobody replaced the copies meanwhile

    def default(self) -> Remote | None:
        """Return the remote that commands use without a name; None if there is none.

        Raises:
            StateError: it is damaged.
            HostError: somebody else may have put something in the folder.
        """
        name = self._default_name()
        return None if name is None or name not in self.names() else self._read(name)

    def require_new(self, name: str) -> None:
        """Check that a remote of this name can be added.

        Raises:
            UsageError: the name cannot be one.
            StateError: there is one of this name.
            HostError: somebody else may have put something in the folder.
        """
        if _NAME.fullmatch(name) is None:
            raise UsageError(
                f"remote {name!r:.80}: expected a name of at most 63 lower-case letters, digits and . _ -",
                hint="for example: hospital",
            )
        if name in self.names():
            raise _exists(name)

    def add(self, name: str, content: RemoteContent) -> Remote:
        """Store a new remote.

        Raises:
            UsageError: the name cannot be one.
            StateError: there is one of this name; it stays as it is.
            HostError: the folder cannot be written.
        """
        self.require_new(name)
        make_private_dir(self.folder)
        staged = self.folder / f".{name}-{os.urandom(8).hex()}"
        make_private_dir(staged)
        try:
            _write(staged, content)
            staged.rename(self.folder / name)
        except OSError as exc:
            _remove_folder(staged)
            if (self.folder / name).exists():
                raise _exists(name) from exc
            raise HostError(f"{self.folder}: cannot write ({exc.strerror})") from exc
        except BaseException:
            _remove_folder(staged)  # a copy of the token may be in it
            raise
        return self._read(name)

    def update(self, name: str, content: RemoteContent) -> Remote:
        """Replace what a remote is made of, all of it at once.

        Raises:
            StateError: there is none of this name.
            HostError: the folder cannot be written; the remote is as it was.
        """
        remote = self.find(name)
        kept = _write(self.folder / name, content)
        for path in remote.files.values():
            if path.name not in kept:
                path.unlink(missing_ok=True)
        return self._read(name)

    def remove(self, name: str) -> str | None:
        """Remove a remote and its secrets; return its address, None if it is damaged.

        Raises:
            StateError: there is none of this name.
            HostError: the folder cannot be written.
        """
        self._require(name)
        found = self._look_at(name)
        if found.is_default:
            (self.folder / _DEFAULT).unlink(missing_ok=True)
        gone = self.folder / f".{name}-{os.urandom(8).hex()}"
        try:
            (self.folder / name).rename(gone)  # in one step: no half of a remote is ever used
        except OSError as exc:
            raise HostError(f"{self.folder / name}: cannot be removed ({exc.strerror})") from exc
        _remove_folder(gone)
        return None if isinstance(found, DamagedRemote) else found.address

    def set_default(self, name: str | None) -> None:
        """Make a remote the default, or none.

        Raises:
            StateError: there is none of this name.
            HostError: the folder cannot be written.
        """
        if name is None:
            (self.folder / _DEFAULT).unlink(missing_ok=True)
            return
        self.find(name)
        write_atomic(self.folder / _DEFAULT, f"{name}\n".encode())

    def _default_name(self) -> str | None:
        if not require_private_dir(self.folder):
            return None
        try:
            return (self.folder / _DEFAULT).read_text(errors="replace").strip()
        except OSError:
            return None

    def _require(self, name: str) -> None:
        names = self.names()
        if name not in names:
            near = f"; {suggestion(name, names)}" if names else ""
            raise StateError(
                f"remote {name!r:.80}: there is none of this name{near}",
                hint="enclavectl remote list shows them; enclavectl remote add makes one",
                code="no-such-remote",
            )

    def _look_at(self, name: str) -> Remote | DamagedRemote:
        try:
            return self._read(name)
        except StateError as error:
            return DamagedRemote(name=name, is_default=self._default_name() == name, error=error)

    def _read(self, name: str) -> Remote:
        from enclavectl.targets.remotes import SUFFIXES, Remote

        folder = self.folder / name
        try:
            record = JsonObject.parse(read_bounded(folder / _RECORD, _MAX_RECORD_BYTES, what="record"))
            record.require_schema(RECORD_SCHEMA)
            copies = record.object("files")
            copies.require_keys({"policy"}, SUFFIXES)
            files = {word: folder / copies.string(word, pattern=_COPY) for word in copies}
            return Remote(
                name=name,
                address=str(parse_address(record.string("address"))),
                pin=record.optional_string("pin"),
                files=files,
                changed=record.time("changed"),
                is_default=self._default_name() == name,
            )
        except (JsonError, UsageError) as exc:
            raise StateError(
                f"remote {name}: damaged ({exc})",
                hint=f"enclavectl remote remove {name}, then add it again",
                code="remote-damaged",
            ) from exc


def _exists(name: str) -> StateError:
    return StateError(
        f"remote {name}: there is one of this name",
        hint=f"enclavectl remote update {name} changes it",
        code="remote-exists",
    )


def _write(folder: Path, content: RemoteContent) -> set[str]:
    """Write the copies, then the record that names them; return the names of the copies."""
    from hashlib import sha256

    from enclavectl.targets.remotes import SUFFIXES

    names: dict[str, str] = {}
    for word, data in content.copies().items():
        digest = sha256(data).hexdigest()[:16]
        names[word] = f"{word.replace('_', '-')}-{digest}.{SUFFIXES[word]}"
        write_atomic(folder / names[word], data)
    record = {
        "schema": RECORD_SCHEMA,
        "address": content.address,
        "pin": content.pin,
        "files": names,
        "changed": datetime.now(UTC).isoformat(),
    }
    write_atomic(folder / _RECORD, json.dumps(record, indent=2).encode())
    return set(names.values())


def _remove_folder(folder: Path) -> None:
    with suppress(OSError):  # what is left has a name that no command reads
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
