"""The owner's log of releases: one JSON line a try, allowed or refused. It also counts against the limits."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from enclavectl.attestation.document import Claims
from enclavectl.attestation.emulated import unproven_claims
from enclavectl.client.exchange import VerifiedEnclave
from enclavectl.errors import EnclavectlError, HostError, StateError, UsageError
from enclavectl.files import read_bounded, status_at
from enclavectl.json_object import JsonError, JsonObject
from enclavectl.protocol.evidence import Evidence
from enclavectl.weights.key_file import ModelKey

LOG_SCHEMA = "enclavectl.release-try/1"
# A fleet that restarts comes in dozens; more in a minute is a loop.
TRIES_A_MINUTE = 60
# Lines have 1.5 kB: 40,000 tries.
_MAX_LOG_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """One try. ``pcrs`` and ``module_id`` of a refused one are its unproven words."""

    is_allowed: bool
    file_id: bytes
    model_id: str
    document_sha256: str | None
    module_id: str | None
    trust: str | None
    pcrs: dict[str, str]
    lease_s: int | None
    error: str | None

    @classmethod
    def allowed(cls, key: ModelKey, enclave: VerifiedEnclave, lease_s: int | None) -> Self:
        """Make the line for an enclave that gets the key."""
        document = enclave.document
        return cls(
            is_allowed=True,
            file_id=key.file_id,
            model_id=key.model_id,
            document_sha256=hashlib.sha256(enclave.evidence.document).hexdigest(),
            module_id=document.module_id,
            trust=str(document.trust),
            pcrs={str(index): value.hex() for index, value in document.pcrs.items() if any(value)},
            lease_s=lease_s,
            error=None,
        )

    @classmethod
    def refused(cls, key: ModelKey, evidence: Evidence | None, error: EnclavectlError) -> Self:
        """Make the line for one that does not."""
        claimed = None if evidence is None else _claimed(evidence.document)
        return cls(
            is_allowed=False,
            file_id=key.file_id,
            model_id=key.model_id,
            document_sha256=None if evidence is None else hashlib.sha256(evidence.document).hexdigest(),
            module_id=None if claimed is None else claimed.module_id,
            trust=None,
            pcrs={}
            if claimed is None
            else {str(index): value.hex() for index, value in claimed.pcrs.items() if any(value)},
            lease_s=None,
            error=f"{error.code}: {error.message}",
        )

    def to_json(self) -> dict[str, object]:
        """Return the line's object."""
        return {
            "schema": LOG_SCHEMA,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "result": "allowed" if self.is_allowed else "refused",
            "model": self.model_id,
            "file": self.file_id.hex(),
            "module_id": self.module_id,
            "trust": self.trust,
            "document_sha256": self.document_sha256,
            "pcrs": self.pcrs,
            "lease_s": self.lease_s,
            "error": self.error,
        }


class ReleaseLog:
    """The log, and what it lets through: so many releases of a file in all, so many tries a minute."""

    def __init__(self, path: Path | None, limit: int | None) -> None:
        """Count what an earlier log has; ``limit`` None: any number of releases.

        Raises:
            UsageError: the file is no log of releases.
        """
        self._path = path
        self._limit = limit
        self._tries: deque[float] = deque(maxlen=TRIES_A_MINUTE)
        self._released = [] if path is None or status_at(path) is None else _released(path)

    def admit(self) -> bool:
        """Count a try that begins; False if there were too many in the last minute."""
        now = time.monotonic()
        if len(self._tries) == TRIES_A_MINUTE and now - self._tries[0] < 60:
            return False
        self._tries.append(now)
        return True

    def require_room(self, key: ModelKey) -> None:
        """Check the limit of releases.

        Raises:
            StateError: it is reached.
        """
        count = self._released.count(key.file_id)
        if self._limit is not None and count >= self._limit:
            raise StateError(
                f"{key.model_id}: expected fewer than {self._limit} releases so far, found {count}",
                hint="raise --limit if these enclaves are meant; the log says which got the key",
                code="release-limit",
            )

    def write(self, line: Try) -> None:
        """Append a line, on the disk when this returns.

        Raises:
            HostError: it cannot be written; nothing may be released.
        """
        if line.is_allowed:
            self._released.append(line.file_id)
        if self._path is None:
            return
        data = json.dumps(line.to_json()).encode() + b"\n"
        try:
            descriptor = os.open(
                self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
            try:
                os.write(descriptor, data)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as exc:
            raise HostError(
                f"{self._path}: the log cannot be written ({exc.strerror}), so nothing is released",
                code="log",
            ) from exc


def _claimed(document: bytes) -> Claims | None:
    try:
        return unproven_claims(document)
    except EnclavectlError:
        return None


def _released(path: Path) -> list[bytes]:
    found = []
    data = read_bounded(path, _MAX_LOG_BYTES, what="log of releases")
    for number, line in enumerate(data.splitlines(), 1):
        try:
            value = JsonObject.parse(line)
            value.require_schema(LOG_SCHEMA)
            if value.string("result") == "allowed":
                found.append(value.hex("file"))
        except JsonError as exc:
            raise UsageError(f"{path}:{number}: expected a line of {LOG_SCHEMA} ({exc})") from exc
    return found
