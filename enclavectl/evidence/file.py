"""The evidence file, ``enclavectl.evidence/1``: what one session proved, kept for others to judge.

It holds what came over the wire (document, key configuration), what was asked (nonce, time), what it was held
to (hashes of root, lock and policy) and the receipts of its answers. It holds no picture and no reply key.
Nothing in it is trusted: ``enclavectl.attestation`` judges the document, and the rest is held to the document
where it can be. ``content_sha256`` finds damage; whoever forges a file computes it anew.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from hashlib import sha256

from enclavectl import __version__
from enclavectl.attestation.cose import MAX_DOCUMENT_BYTES
from enclavectl.attestation.policy_file import MAX_POLICY_BYTES
from enclavectl.attestation.trust import Root
from enclavectl.errors import AttestationError
from enclavectl.json_object import JsonError, JsonObject
from enclavectl.protocol.evidence import NONCE_BYTES
from enclavectl.protocol.key_config import MAX_KEY_CONFIG_BYTES

SCHEMA = "enclavectl.evidence/1"
RECEIPT_SCHEMA = "enclavectl.receipt/1"
MAX_EVIDENCE_FILE_BYTES = 1 << 20  # a document, a key configuration and a policy take at most 350 KiB
# A batch's receipts go to a file of their own, one on a line; this file has those of a picture or two.
MAX_RECEIPTS = 64
# A line of a batch's receipts, in base64: a receipt takes about 700 bytes, its statements up to 4 KiB.
MAX_RECEIPT_BYTES = 65_536
MAX_STATEMENT_BYTES = 8 * 1024
MAX_RECEIPT_LINE_BYTES = 128 * 1024
# Of a batch. A session lasts three hours at most, and answers a few pictures a second for each CPU; a line
# has 1 KiB, with its statements 2.
MAX_BATCH_RECEIPTS = 65_536
MAX_BATCH_BYTES = 128 << 20

_KEYS = (
    *("schema", "document", "key_config", "nonce", "requested_at", "root", "lock_sha256", "policy_sha256"),
    *("policy", "receipts", "tool", "content_sha256"),
)
_RECEIPT_KEYS = ("receipt", "request_statement", "answer_statement")
_HASH_BYTES = 32
_NAME_CHARACTERS = 4096  # of a root: the path of its file
_VERSION = re.compile(r"([a-z.]{1,40})/([1-9][0-9]{0,5})")
_NEWER_HINT = "The file is of a newer enclavectl: judge it with that one, or a later one."
_TOOL = re.compile(r"[ -~]{1,100}")


class EvidenceCode(StrEnum):
    """The stable ``code`` of an error of an evidence file, beside those of its document and its receipts."""

    FILE = "evidence-file"
    ENCODING = "encoding"
    ROOT = "evidence-root"
    POLICY = "evidence-policy"
    TIME = "evidence-time"
    KEY_CONFIG = "key-config"
    MODEL_REGISTER = "model-register"
    OTHER_ENCLAVE = "other-enclave"
    NO_POLICY = "no-policy"


_HINTS = {
    EvidenceCode.FILE: "The file was damaged or changed: get it again from whoever kept it.",
    EvidenceCode.ENCODING: "Get the document again as a file: binary, hex or base64.",
    EvidenceCode.ROOT: (
        "Name the root that you trust with --root; what the file says of it does not count. The development "
        "root of a machine is local/root/certificate.pem in its state_dir (enclavectl config show)."
    ),
    EvidenceCode.POLICY: "The file was changed: use a policy that you have from elsewhere.",
    EvidenceCode.TIME: "The file was changed, or the client's clock was wrong when it asked.",
    EvidenceCode.KEY_CONFIG: "Use a client of the release that the enclave was built with.",
    EvidenceCode.MODEL_REGISTER: "Do not rely on it: the enclave measured another model than it declares.",
    EvidenceCode.OTHER_ENCLAVE: (
        "enclavectl list shows what runs; does something else listen at the enclave's address?"
    ),
    EvidenceCode.NO_POLICY: (
        "Name what is enough: --policy FILE or --lock FILE. --no-policy accepts any enclave, of any code."
    ),
}


class EvidenceError(AttestationError):
    """An evidence file cannot be read, or contradicts its document."""

    def __init__(self, code: EvidenceCode, message: str, *, hint: str | None = None) -> None:
        """``message`` says what was expected and what was found; ``hint`` replaces that of the code."""
        super().__init__(message, hint=hint or _HINTS[code], code=code)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptReceipt:
    """The receipt of an answer as a file has it. The statements are there only if the client chose so."""

    receipt: bytes
    request_statement: bytes | None = None
    answer_statement: bytes | None = None

    def completed_by(self, other: KeptReceipt) -> KeptReceipt:
        """Return this receipt with the statements that only the ``other`` copy of it was kept with."""
        return replace(
            self,
            request_statement=self.request_statement or other.request_statement,
            answer_statement=self.answer_statement or other.answer_statement,
        )

    def to_json(self) -> dict[str, object]:
        """Return the object in a file."""
        return {
            "receipt": _base64(self.receipt),
            "request_statement": _optional_base64(self.request_statement),
            "answer_statement": _optional_base64(self.answer_statement),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RootName:
    """The root to which the session's client held the document."""

    name: str
    sha256: str

    @classmethod
    def of(cls, root: Root) -> RootName:
        """Return the name of ``root``."""
        # Without its folder: who gets the file need not know where the client keeps its certificates.
        return cls(name=root.name.rpartition("/")[2], sha256=root.fingerprint)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceFile:
    """The content of an evidence file. Whoever wrote the file chose every value.

    ``policy`` is the text of the policy that the client used: the prover's word, never used unless the
    verifier says so. ``policy_sha256`` is its hash, or None if there was no policy. ``lock_sha256`` is of the
    lock that the client named in place of a policy, or else of the one that its host launched the enclave's
    image with; None if the client knew of neither.
    """

    document: bytes
    key_config: bytes
    nonce: bytes
    requested_at: datetime
    root: RootName
    lock_sha256: str | None = None
    policy_sha256: str | None = None
    policy: str | None = None
    receipts: tuple[KeptReceipt, ...] = ()
    tool: str = f"enclavectl {__version__}"

    def to_bytes(self) -> bytes:
        """Encode the content as the file has it."""
        members: dict[str, object] = {
            "schema": SCHEMA,
            "document": _base64(self.document),
            "key_config": _base64(self.key_config),
            "nonce": _base64(self.nonce),
            "requested_at": _iso(self.requested_at),
            "root": {"name": self.root.name, "sha256": self.root.sha256},
            "lock_sha256": self.lock_sha256,
            "policy_sha256": self.policy_sha256,
            "policy": self.policy,
            "receipts": [one.to_json() for one in self.receipts],
            "tool": self.tool,
        }
        return (json.dumps({**members, "content_sha256": content_sha256(members)}, indent=2) + "\n").encode()


def parse_evidence_file(data: bytes) -> EvidenceFile:
    """Read an evidence file; nothing in it is judged.

    Raises:
        EvidenceError: ``evidence-file``; more than 1 MiB, not JSON, a key is missing, unknown or doubled, a
            value has another form, or the content is not what its hash says. ``evidence-policy``: so for the
            policy.
    """
    try:
        return _parse(JsonObject.parse(data, limit=MAX_EVIDENCE_FILE_BYTES))
    except JsonError as exc:
        raise EvidenceError(EvidenceCode.FILE, f"evidence file: {exc}") from exc


def _require_schema(value: JsonObject, schema: str, where: str) -> None:
    """Check the schema. Raises: JsonError; EvidenceError, if it is a later version of ``schema``."""
    try:
        value.require_schema(schema)
    except JsonError as exc:
        name, _, version = schema.partition("/")
        found = _VERSION.fullmatch(str(value.members.get("schema")))
        if found is None or found[1] != name or int(found[2]) <= int(version):
            raise
        raise EvidenceError(EvidenceCode.FILE, f"{where}: {exc}", hint=_NEWER_HINT) from exc


def _parse(value: JsonObject) -> EvidenceFile:
    _require_schema(value, SCHEMA, "evidence file")
    value.require_keys(_KEYS)
    if value.hex("content_sha256", length=_HASH_BYTES).hex() != content_sha256(value.members):
        raise JsonError("content_sha256: it is not the hash of this content")
    root = value.object("root")
    root.require_keys(("name", "sha256"))
    policy = value.optional_string("policy", maximum=MAX_POLICY_BYTES)
    policy_sha256 = _optional_hash(value, "policy_sha256")
    if policy is not None and policy_sha256 != sha256(policy.encode()).hexdigest():
        raise EvidenceError(EvidenceCode.POLICY, "policy: policy_sha256 is not the hash of this policy")
    receipts = value.objects("receipts")
    if len(receipts) > MAX_RECEIPTS:
        raise JsonError(f"receipts: expected at most {MAX_RECEIPTS}, found {len(receipts)}")
    nonce = _bytes(value, "nonce", NONCE_BYTES)
    if len(nonce) != NONCE_BYTES:
        raise JsonError(f"nonce: expected {NONCE_BYTES} bytes, found {len(nonce)}")
    return EvidenceFile(
        document=_bytes(value, "document", MAX_DOCUMENT_BYTES),
        key_config=_bytes(value, "key_config", MAX_KEY_CONFIG_BYTES),
        nonce=nonce,
        requested_at=_time(value, "requested_at"),
        root=RootName(
            name=root.string("name", maximum=_NAME_CHARACTERS),
            sha256=root.hex("sha256", length=_HASH_BYTES).hex(),
        ),
        lock_sha256=_optional_hash(value, "lock_sha256"),
        policy_sha256=policy_sha256,
        policy=policy,
        receipts=tuple(_receipt(one) for one in receipts),
        tool=value.string("tool", pattern=_TOOL),
    )


def receipt_line(receipt: KeptReceipt, index: int) -> bytes:
    """Encode one receipt of a batch as a line; ``index`` counts the answers of the batch from 0.

    No file name: the names of patients' pictures often say whose they are.
    """
    value = {"schema": RECEIPT_SCHEMA, "index": index, **receipt.to_json()}
    return (json.dumps(value) + "\n").encode()


def parse_receipt_line(line: bytes, *, where: str = "receipts") -> KeptReceipt:
    """Read a line that ``receipt_line`` wrote; ``where`` names it in messages.

    Raises:
        EvidenceError: ``evidence-file``.
    """
    try:
        value = JsonObject.parse(line, limit=MAX_RECEIPT_LINE_BYTES)
        _require_schema(value, RECEIPT_SCHEMA, where)
        value.require_keys(("schema", "index", *_RECEIPT_KEYS))
        value.integer("index")
        return _receipt_members(value)
    except JsonError as exc:
        raise EvidenceError(EvidenceCode.FILE, f"{where}: {exc}") from exc


def _receipt(value: JsonObject) -> KeptReceipt:
    value.require_keys(_RECEIPT_KEYS)
    return _receipt_members(value)


def _receipt_members(value: JsonObject) -> KeptReceipt:
    return KeptReceipt(
        receipt=_bytes(value, "receipt", MAX_RECEIPT_BYTES),
        request_statement=_optional_bytes(value, "request_statement", MAX_STATEMENT_BYTES),
        answer_statement=_optional_bytes(value, "answer_statement", MAX_STATEMENT_BYTES),
    )


def content_sha256(members: Mapping[str, object]) -> str:
    """Hash all members but the hash, in a form that does not depend on their order or on spaces."""
    rest = {key: member for key, member in members.items() if key != "content_sha256"}
    return sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _optional_hash(value: JsonObject, key: str) -> str | None:
    return None if value.members[key] is None else value.hex(key, length=_HASH_BYTES).hex()


def _time(value: JsonObject, key: str) -> datetime:
    """Read a time in the one spelling that this module writes."""
    found = value.time(key)
    if _iso(found) != value.string(key):
        raise JsonError(f"{key}: expected milliseconds and an offset, such as 2026-11-24T12:00:00.000+00:00")
    return found


def _iso(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _optional_base64(data: bytes | None) -> str | None:
    return None if data is None else _base64(data)


def _bytes(value: JsonObject, key: str, limit: int) -> bytes:
    """Read 1 to ``limit`` bytes in the one base64 that they have: padded, and with no bit to spare."""
    text = value.string(key, maximum=4 * -(-limit // 3))
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise JsonError(f"{key}: expected base64") from None
    if not 1 <= len(data) <= limit or _base64(data) != text:
        raise JsonError(f"{key}: expected 1 to {limit} bytes in base64")
    return data


def _optional_bytes(value: JsonObject, key: str, limit: int) -> bytes | None:
    return None if value.members[key] is None else _bytes(value, key, limit)
