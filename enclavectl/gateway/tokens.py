"""Bearer tokens: 32 random bytes each, of which the file keeps the SHA-256."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from enclavectl.errors import StateError, UsageError
from enclavectl.files import read_bounded, stage_file, status_at
from enclavectl.folder_lock import folder_lock
from enclavectl.json_object import JsonError, JsonObject

TOKENS_SCHEMA = "enclavectl.gateway-tokens/1"
TOKEN_BYTES = 32
# Names are labels of metrics, of which each costs memory in whatever collects them.
MAX_TOKENS = 1000
_MAX_FILE_BYTES = 512 * 1024
_MODE = 0o600
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)
# 32 bytes in base64url without padding.
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEntry:
    """A token that was given out: a name, the hash of the token, and when it ends, if it does."""

    name: str
    sha256: bytes
    expires: datetime | None = None

    def is_valid(self, now: datetime) -> bool:
        """Return whether the token has not ended."""
        return self.expires is None or now < self.expires


@dataclass(frozen=True, slots=True)
class TokenSet:
    """The tokens of one file."""

    entries: tuple[TokenEntry, ...] = ()

    def find(self, token: str, now: datetime) -> TokenEntry | None:
        """Return the entry of a token that is valid now. Takes the same time whichever entry it is."""
        if _TOKEN.fullmatch(token) is None:
            return None
        digest = hashlib.sha256(token.encode()).digest()
        found = None
        for entry in self.entries:
            if hmac.compare_digest(entry.sha256, digest):
                found = entry
        return found if found is not None and found.is_valid(now) else None

    def keys(self, now: datetime) -> frozenset[str]:
        """Return the hashes, in hex, of the tokens that are valid now."""
        return frozenset(entry.sha256.hex() for entry in self.entries if entry.is_valid(now))

    def added(self, name: str, expires: datetime | None) -> tuple[TokenSet, str]:
        """Return the tokens with a new one, and that one, which nothing keeps.

        Raises:
            UsageError: the name has another form.
            StateError: the name is taken, or the file is full.
        """
        if _NAME.fullmatch(name) is None:
            raise UsageError(
                f"NAME: expected up to 64 letters, digits, and _ . - behind the first, found {name!r:.80}"
            )
        if any(entry.name == name for entry in self.entries):
            raise StateError(
                f"there is a token called {name} already",
                hint=f"enclavectl gateway token revoke {name} ends it and its sessions",
            )
        if len(self.entries) >= MAX_TOKENS:
            raise StateError(f"expected at most {MAX_TOKENS} tokens", hint="revoke those that have expired")
        token = base64.urlsafe_b64encode(secrets.token_bytes(TOKEN_BYTES)).rstrip(b"=").decode()
        entry = TokenEntry(name=name, sha256=hashlib.sha256(token.encode()).digest(), expires=expires)
        return TokenSet((*self.entries, entry)), token

    def revoked(self, name: str) -> TokenSet:
        """Return the tokens without that one.

        Raises:
            StateError: there is none of that name.
        """
        if all(entry.name != name for entry in self.entries):
            raise StateError(
                f"there is no token called {name!r:.80}", hint="enclavectl gateway token list shows them"
            )
        return TokenSet(tuple(entry for entry in self.entries if entry.name != name))

    def to_json(self) -> dict[str, object]:
        """Return the object that the file has."""
        return {"schema": TOKENS_SCHEMA, "tokens": [_entry_json(entry) for entry in self.entries]}


def parse_tokens(data: bytes) -> TokenSet:
    """Read a token file.

    Raises:
        JsonError: it is not one, or a name is there twice.
    """
    value = JsonObject.parse(data, limit=_MAX_FILE_BYTES)
    value.require_schema(TOKENS_SCHEMA)
    value.require_keys(("schema", "tokens"))
    entries = tuple(_entry(one) for one in value.objects("tokens"))
    if len({entry.name for entry in entries}) != len(entries) or len(entries) > MAX_TOKENS:
        raise JsonError(f"tokens: expected at most {MAX_TOKENS}, each name once")
    return TokenSet(entries)


def read_tokens(path: Path) -> TokenSet:
    """Read the tokens of a file; a file that does not exist has none.

    Raises:
        UsageError: it cannot be read, others may read it, or it is no token file.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return TokenSet()
    except OSError as exc:
        raise UsageError(f"{path}: cannot read the tokens ({exc.strerror})") from exc
    # A group may read it, as the group of a pod does; it has hashes, and whoever reads it learns names.
    if mode & 0o037:
        raise UsageError(
            f"{path}: expected a file that only its owner may change, and at most its group may read "
            f"(mode 0600 or 0640), found {mode & 0o777:04o}",
            hint=f"chmod 600 {path}",
        )
    try:
        return parse_tokens(read_bounded(path, _MAX_FILE_BYTES, what="token file"))
    except JsonError as exc:
        raise UsageError(f"{path}: {exc}", hint="enclavectl gateway token add writes this file") from exc


class TokenFile:
    """A token file that is read again when it changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: object = None
        self.tokens = TokenSet()
        # True once the file had a token, also if all were revoked since.
        self.has_had_tokens = False

    def refresh(self) -> TokenSet:
        """Return the tokens of the file as it is now.

        Raises:
            UsageError: as for ``read_tokens``; ``tokens`` are those that were read before.
        """
        try:
            found = self._path.stat()
            stamp: object = (found.st_mtime_ns, found.st_ino, found.st_size, found.st_mode)
        except OSError:
            stamp = None
        if stamp is None or stamp != self._stamp:
            self.tokens = read_tokens(self._path)
            self._stamp = stamp
            self.has_had_tokens = self.has_had_tokens or bool(self.tokens.entries)
        return self.tokens


def change_tokens(path: Path, change: Callable[[TokenSet], TokenSet]) -> TokenSet:
    """Change the tokens of a file and return them.

    Other commands wait: a token that one revokes must not come back with what another one writes.

    Raises:
        UsageError: as for ``read_tokens``.
        HostError: there is no such folder, or it cannot be written.
    """
    with folder_lock(path.parent):
        tokens = change(read_tokens(path))
        write_tokens(path, tokens)
    return tokens


def write_tokens(path: Path, tokens: TokenSet) -> None:
    """Write the tokens, for their owner only. Commands go through ``change_tokens``.

    A file that is there keeps its owner, its group and the group's right to read. Otherwise root's change
    would lock a gateway of another user out, which goes on with what it has read: with a revoked token.

    Raises:
        HostError: it cannot be written, or its owner cannot be kept.
    """
    before = status_at(path)
    mode = _MODE if before is None else _MODE | before.st_mode & 0o040
    with stage_file(path.parent, mode=mode) as staged:
        staged.file.write(json.dumps(tokens.to_json(), indent=2).encode() + b"\n")
        if before is not None:
            os.fchown(staged.file.fileno(), before.st_uid, before.st_gid)
        staged.commit(path)


def _entry(value: JsonObject) -> TokenEntry:
    value.require_keys(("name", "sha256", "expires"))
    expires = value.optional_time("expires")
    return TokenEntry(
        name=value.string("name", pattern=_NAME), sha256=value.hex("sha256", length=32), expires=expires
    )


def _entry_json(entry: TokenEntry) -> dict[str, object]:
    expires = None if entry.expires is None else entry.expires.isoformat()
    return {"name": entry.name, "sha256": entry.sha256.hex(), "expires": expires}
