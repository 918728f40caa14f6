"""Reply keys that ``send`` stores for ``listen``: one private file for each pending request.

Whoever reads such a file can read that one answer, so the folder is 0700, the files are 0600, and each is
removed when its answer has been opened, or by the first command that uses the folder a day later.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from enclavectl.attestation import Root, Standing, Trust, examine_archived
from enclavectl.attestation.document import PCR_BYTES
from enclavectl.client.exchange import PendingAnswer, SessionEvidence
from enclavectl.errors import AttestationError, StateError, UsageError
from enclavectl.files import (
    STAGED_GLOB,
    make_private_dir,
    read_bounded,
    require_private_dir,
    stage_file,
)
from enclavectl.json_object import JsonError, JsonObject
from enclavectl.protocol.answers import ContentError
from enclavectl.protocol.evidence import Evidence
from enclavectl.protocol.key_config import parse_key_config
from enclavectl.protocol.media import MediaType
from enclavectl.protocol.requests import REPLY_KEY_BYTES, REQUEST_ID_BYTES, REQUEST_SALT_BYTES

_SCHEMA = "enclavectl.pending/1"
# A file has keys, a name of at most 4 KiB, labels, and the session's evidence of at most 104 KiB, all in hex.
_MAX_BYTES = 384 * 1024
_HASH_BYTES = 32
KEEP_S = 24 * 3600
# Writing one takes milliseconds: what is older was left by a `send` that was killed, and holds a key.
_STAGED_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A picture that was sent: what opens its answer, and what to say beside it.

    ``standing`` is what the enclave had proven before it got the picture. It, and not the evidence of the
    connection that brings the answer, says what the answer is worth. ``evidence`` is what proved it: the
    answer's receipt is held to that. ``requested_at`` is when it was asked for. ``lock_sha256`` is of the
    lock that the enclave's image was launched with, None if that is not known.
    """

    pending: PendingAnswer
    standing: Standing
    evidence: Evidence
    requested_at: datetime
    lock_sha256: str | None
    image: str
    labels: Mapping[str, str]
    notice: str

    def session_evidence(self, root: Root) -> SessionEvidence:
        """Judge the session's document again, as it was when the picture was sent, under ``root``.

        Raises:
            AttestationError: the document does not end at this root, or the key configuration is none.
        """
        document = examine_archived(self.evidence.document, None, root=root)
        try:
            card = parse_key_config(self.evidence.key_config).card
        except ContentError as exc:
            raise AttestationError(f"key configuration: {exc}", code="key-config") from exc
        return SessionEvidence(document=document, received=self.evidence, card=card)


class PendingStore:
    """The folder of pending requests, shared by every ``send`` and ``listen`` of this user."""

    def __init__(self, state_dir: Path) -> None:
        """Remove what is too old.

        Raises:
            HostError: somebody else may have put something in the folder.
        """
        self.folder = state_dir / "pending"
        self._drop_old()

    def add(self, waiting: Waiting) -> None:
        """Keep the request. Call this before it is sent: the answer may be quick.

        Raises:
            HostError: the folder cannot be written, or there is a request of this id, which stays.
        """
        make_private_dir(self.folder)
        self._drop_old()
        value = {
            "schema": _SCHEMA,
            "reply_key": waiting.pending.reply_key.hex(),
            "salt": waiting.pending.salt.hex(),
            "image": os.fsencode(waiting.image).hex(),  # file names are bytes, which JSON cannot hold
            "sha256": waiting.pending.picture_sha256.hex(),
            "media_type": str(waiting.pending.media_type),
            "labels": dict(waiting.labels),
            "notice": waiting.notice,
            "standing": _standing_json(waiting.standing),
            "document": waiting.evidence.document.hex(),
            "key_config": waiting.evidence.key_config.hex(),
            "requested_at": waiting.requested_at.isoformat(),
            "lock_sha256": waiting.lock_sha256,
        }
        with stage_file(self.folder) as staged:
            staged.file.write(json.dumps(value).encode())
            staged.commit_new(self._path(waiting.pending.request_id))

    def find(self, request_id: bytes) -> Waiting | None:
        """Find the request with this id; None if it is not ours, or is answered already.

        Raises:
            StateError: its file is damaged.
            HostError: somebody else may have put it there.
        """
        path = self._path(request_id)
        self._drop_old()
        if not path.exists():
            return None
        try:
            value = JsonObject.parse(read_bounded(path, _MAX_BYTES, what="pending request"))
            value.require_schema(_SCHEMA)
            lock_sha256 = value.optional_hex("lock_sha256", length=_HASH_BYTES)
            return Waiting(
                pending=_parse_pending(request_id, value),
                image=os.fsdecode(value.hex("image")),
                labels=value.string_map("labels"),
                notice=value.string("notice"),
                standing=_parse_standing(value.object("standing")),
                evidence=Evidence(value.hex("document"), value.hex("key_config")),
                requested_at=value.time("requested_at"),
                lock_sha256=None if lock_sha256 is None else lock_sha256.hex(),
            )
        except UsageError:
            return None  # another `listen` took it between the two looks
        except JsonError as exc:
            raise StateError(
                f"{path}: damaged ({exc})", hint=f"rm '{path}' and send the picture again"
            ) from exc

    def remove(self, request_id: bytes) -> None:
        """Remove the request, and with it the key to its answer."""
        self._path(request_id).unlink(missing_ok=True)

    def _path(self, request_id: bytes) -> Path:
        if len(request_id) != REQUEST_ID_BYTES:
            raise ValueError(f"a request id has {REQUEST_ID_BYTES} bytes")
        return self.folder / f"{request_id.hex()}.json"

    def _drop_old(self) -> None:
        if not require_private_dir(self.folder):
            return
        now = time.time()
        for pattern, keep_s in (("*.json", KEEP_S), (STAGED_GLOB, _STAGED_S)):
            for path in self.folder.glob(pattern):
                with suppress(FileNotFoundError):  # answered, or written, in the meantime
                    if path.stat().st_mtime < now - keep_s:
                        path.unlink()


def _parse_pending(request_id: bytes, value: JsonObject) -> PendingAnswer:
    try:
        media_type = MediaType(value.string("media_type"))
    except ValueError as exc:
        raise JsonError(f"media_type: {exc}") from exc
    return PendingAnswer(
        request_id=request_id,
        reply_key=value.hex("reply_key", length=REPLY_KEY_BYTES),
        salt=value.hex("salt", length=REQUEST_SALT_BYTES),
        picture_sha256=value.hex("sha256", length=_HASH_BYTES),
        media_type=media_type,
    )


def _standing_json(standing: Standing) -> dict[str, object]:
    return {
        "module_id": standing.module_id,
        "timestamp": standing.timestamp.isoformat(),
        "trust": str(standing.trust),
        "release": standing.release,
        "root": standing.root,
        "root_fingerprint": standing.root_fingerprint,
        "pcrs": {str(index): value.hex() for index, value in standing.pcrs.items()},
    }


def _parse_standing(value: JsonObject) -> Standing:
    pcrs = value.object("pcrs")
    try:
        return Standing(
            module_id=value.string("module_id"),
            timestamp=value.time("timestamp"),
            trust=Trust(value.string("trust")),
            release=value.optional_string("release"),
            root=value.string("root"),
            root_fingerprint=value.string("root_fingerprint"),
            pcrs={int(index): pcrs.hex(index, length=PCR_BYTES) for index in pcrs},
        )
    except ValueError as exc:  # a trust or a number that is none
        raise JsonError(f"standing: {exc}") from exc
