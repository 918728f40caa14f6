"""The owner's log of releases: one JSON line a try, allowed or refused. It also counts against the limits."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Self

from enclavectl.attestation.document import Claims
from enclavectl.attestation.emulated import unproven_claims
from enclavectl.client.exchange import VerifiedEnclave
from enclavectl.errors import EnclavectlError, HostError, StateError, UsageError
from enclavectl.files import open_regular, status_at
from enclavectl.json_object import JsonError, JsonObject
from enclavectl.new_files import append_whole
from enclavectl.protocol.evidence import Evidence
from enclavectl.weights.key_file import ModelKey

LOG_SCHEMA = "enclavectl.release-try/1"
# A fleet that restarts comes in dozens; more in a minute is a loop. Refusals beyond are not logged: anybody
# who connects makes one, and would fill the disk.
TRIES_A_MINUTE = 60
# Lines have 1.5 kB, with 32 registers 5.
_MAX_LINE_BYTES = 64 * 1024
# Characters of an error, which may have a stranger's words in it.
_MAX_ERROR = 300


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
            error=f"{error.code}: {error.message[:_MAX_ERROR]}",
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
    """The log, and what it lets through: so many releases of a file in all, so many in a minute.

    Several programs may write one log: each counts the lines of the others before it adds its own.
    """

    def __init__(self, path: Path | None, limit: int | None) -> None:
        """Count what an earlier log has; ``limit`` None: any number of releases.

        Raises:
            UsageError: the file is no log of releases.
        """
        self._path = path
        self._limit = limit
        self._lock = threading.Lock()
        # When the last releases and the last refusals were, each by themselves: strangers whom nothing is
        # released to must not keep it from others.
        self._recent = {is_allowed: deque[float](maxlen=TRIES_A_MINUTE) for is_allowed in (True, False)}
        self._released: Counter[bytes] = Counter()
        # The file that was counted, and how much of it.
        self._counted: tuple[int, int] | None = None
        self._end = 0
        if path is not None and status_at(path) is not None:
            with open_regular(path, what="log of releases") as file:
                self._count(file, path)

    def write(self, line: Try) -> None:
        """Append a line, on the disk when this returns. Of refusals there are so many in a minute at most.

        Raises:
            StateError: it is that of a release, and a limit of releases is reached; nothing was written.
            HostError: it cannot be written; nothing may be released.
        """
        with self._lock:
            self._write(line)

    def _write(self, line: Try) -> None:
        recent, now = self._recent[line.is_allowed], time.monotonic()
        if len(recent) == TRIES_A_MINUTE and now - recent[0] < 60:
            if line.is_allowed:
                raise StateError(
                    f"{line.model_id}: expected at most {TRIES_A_MINUTE} releases in a minute, found more",
                    hint="do its enclaves start again and again?",
                    code="rate",
                )
            return
        if self._path is None:
            self._require_room(line)
        else:
            try:
                self._append(line, self._path)
            except (OSError, UsageError) as exc:
                reason = exc.strerror if isinstance(exc, OSError) else exc
                raise HostError(
                    f"{self._path}: the log cannot be written ({reason}), so nothing is released", code="log"
                ) from exc
        self._released[line.file_id] += line.is_allowed
        recent.append(now)

    def _require_room(self, line: Try) -> None:
        count = self._released[line.file_id]
        if line.is_allowed and self._limit is not None and count >= self._limit:
            raise StateError(
                f"{line.model_id}: expected fewer than {self._limit} releases so far, found {count}",
                hint="raise --limit if these enclaves are meant; the log says which got the key",
                code="release-limit",
            )

    def _append(self, line: Try, path: Path) -> None:
        import fcntl  # noqa: PLC0415 - of POSIX alone, and sealing imports this everywhere

        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        with os.fdopen(os.open(path, flags, 0o600), "rb") as file:
            descriptor = file.fileno()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            self._require_in_place(file, path)
            self._count(file, path)
            self._require_room(line)
            data = json.dumps(line.to_json()).encode() + b"\n"
            if os.fstat(descriptor).st_size > self._end:  # never without need: a log may be append-only
                # What a power cut left of a line; its key was not sent, since that waits for the whole line.
                os.ftruncate(descriptor, self._end)
            append_whole(descriptor, data, size=self._end)
            self._end += len(data)

    def _require_in_place(self, file: BinaryIO, path: Path) -> None:
        """Check that a log which counts against a limit is the one that was counted, and still at ``path``.

        Raises:
            UsageError: it was moved or cut; what other programs wrote since may be lost.
        """
        found, named = os.fstat(file.fileno()), status_at(path)
        is_named = named is not None and os.path.samestat(found, named)
        is_counted = self._counted in (None, (found.st_dev, found.st_ino)) and found.st_size >= self._end
        if self._limit is not None and not (is_named and is_counted):
            raise UsageError("expected the one that the limit was counted by, found it moved or cut")

    def _count(self, file: BinaryIO, path: Path) -> None:
        """Count the releases in the lines that are new since the last time.

        Raises:
            UsageError: one is no line of this log.
        """
        status = os.fstat(file.fileno())
        if self._counted != (status.st_dev, status.st_ino) or status.st_size < self._end:
            # A new log, after the old one was moved away or emptied: what was in that still counts.
            self._counted, self._end = (status.st_dev, status.st_ino), 0
        file.seek(self._end)
        while (line := file.readline(_MAX_LINE_BYTES)).endswith(b"\n"):
            file_id = _released_in(line, path, self._end)
            if file_id is not None:
                self._released[file_id] += 1
            self._end += len(line)
        if len(line) == _MAX_LINE_BYTES:
            raise UsageError(f"{path}: expected lines of at most {_MAX_LINE_BYTES} bytes, found a longer one")


def _claimed(document: bytes) -> Claims | None:
    try:
        return unproven_claims(document)
    except EnclavectlError:
        return None


def _released_in(line: bytes, path: Path, at: int) -> bytes | None:
    """Return the id of the file whose key a line says was released; None for a refusal."""
    try:
        value = JsonObject.parse(line)
        value.require_schema(LOG_SCHEMA)
        return value.hex("file") if value.string("result") == "allowed" else None
    except JsonError as exc:
        raise UsageError(f"{path}: expected a line of {LOG_SCHEMA} at byte {at} ({exc})") from exc
