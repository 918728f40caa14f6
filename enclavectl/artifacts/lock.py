"""``enclavectl.lock.json``: the inputs and the measurements of an enclave image.

Its schema is ``enclavectl.lock/1``. Paths are relative to the lock's folder. A build from the same lock takes
the same wheels. ``lock check`` compares the image on the disk with the lock.

The registers are PCR0, PCR1 and PCR2, PCR8 of a signed image, and ``MODEL_REGISTER`` of an image with the
payload. The payload extends that one when it starts, with the hash of the model card in the image.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256 as hash_sha256
from pathlib import Path

from enclave_payload.card import MODEL_PCR
from enclavectl.artifacts.wheel import Wheel
from enclavectl.errors import UsageError
from enclavectl.files import read_bounded
from enclavectl.json_object import JsonError, JsonObject

LOCK_SCHEMA = "enclavectl.lock/1"
MODEL_REGISTER = f"PCR{MODEL_PCR}"
_REGISTER = re.compile(r"(?!0{96})[0-9a-f]{96}")  # SHA-384 of anything
_REGISTER_NAME = re.compile(r"PCR(?:[0-9]|[12][0-9]|3[01])")
_REGISTER_VALUE = re.compile(r"[0-9a-fA-F]{96}")
_CODE_REGISTERS = ("PCR0", "PCR1", "PCR2")
_MISSING_HINT = "enclavectl build writes one beside the image"
# For the commands that have the option.
LOCK_OPTION_HINT = f"{_MISSING_HINT}; --lock names another"
_REGISTERS_HINT = "enclavectl build writes a lock with them; enclavectl lock check compares it with the image"
# Name and version become a file name in the store of wheels.
_FILE_NAME = re.compile(r"[^/]*")
MAX_LOCK = 1 << 20  # bytes; a lock has a few KiB
_KEYS = {
    "schema",
    "eif",
    "pcrs",
    "mode",
    "image",
    "model",
    "wheels",
    "blobs",
    "tools",
    "findings",
    "allowed",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """The content of a lock. ``model`` is None for images without the payload; these have no wheels."""

    eif: Mapping[str, object]
    pcrs: Mapping[str, str]
    mode: str
    image: Mapping[str, object]
    model: Mapping[str, str] | None
    wheels: tuple[Wheel, ...]
    blobs: Mapping[str, str]
    tools: Mapping[str, str]
    findings: tuple[Mapping[str, object], ...]
    allowed: Mapping[str, str]

    @property
    def is_runtime(self) -> bool:
        """True for the payload without weights: only images of the payload have wheels."""
        return self.model is None and bool(self.wheels)

    @property
    def model_register(self) -> str | None:
        """PCR16 in hex; None for an image without the payload, or one built before the model was pinned."""
        return self.pcrs.get(MODEL_REGISTER)

    def registers(self, source: str) -> dict[int, bytes]:
        """Return the registers by index, PCR0, PCR1 and PCR2 among them; ``source`` names the lock.

        Raises:
            UsageError: one has another name than PCR0 to PCR31, or is not 48 bytes in hex; or one of these
                three, which every build writes, is missing.
        """
        missing = [name for name in _CODE_REGISTERS if name not in self.pcrs]
        for name, value in self.pcrs.items():
            if _REGISTER_NAME.fullmatch(name) is None or _REGISTER_VALUE.fullmatch(value) is None:
                raise UsageError(
                    f"{source}: pcrs: expected PCR0, PCR1, ... with 96 hex digits each, "
                    f"found {name:.20} with {value!r:.100}",
                    hint=_REGISTERS_HINT,
                )
        if missing:
            raise UsageError(
                f"{source}: pcrs: expected {', '.join(_CODE_REGISTERS)}, found no {', '.join(missing)}",
                hint=_REGISTERS_HINT,
            )
        return {int(name.removeprefix("PCR")): bytes.fromhex(value) for name, value in self.pcrs.items()}

    def to_json(self) -> dict[str, object]:
        """Return the lock as JSON values."""
        return {
            "schema": LOCK_SCHEMA,
            "eif": dict(self.eif),
            "pcrs": dict(self.pcrs),
            "mode": self.mode,
            "image": dict(self.image),
            "model": None if self.model is None else dict(self.model),
            "wheels": [wheel.to_json() for wheel in self.wheels],
            "blobs": dict(self.blobs),
            "tools": dict(self.tools),
            "findings": [dict(finding) for finding in self.findings],
            "allowed": dict(self.allowed),
        }

    def to_bytes(self) -> bytes:
        """Encode the lock as the content of its file."""
        return (json.dumps(self.to_json(), indent=2) + "\n").encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class LockFile:
    """A lock with its file. ``sha256`` is of the very bytes that ``lock`` was read from, in hex."""

    path: Path
    lock: Lock
    sha256: str


def read_lock_file(path: Path, *, hint_if_missing: str = _MISSING_HINT) -> LockFile:
    """Read a lock, and keep the hash of its file.

    Raises:
        UsageError: the file is missing or not a lock.
    """
    data = read_bounded(path, MAX_LOCK, what="lock", hint_if_missing=hint_if_missing)
    return LockFile(path=path, lock=parse_lock(data, str(path)), sha256=hash_sha256(data).hexdigest())


def read_lock(path: Path, *, hint_if_missing: str = _MISSING_HINT) -> Lock:
    """Read a lock.

    Raises:
        UsageError: the file is missing or not a lock.
    """
    return read_lock_file(path, hint_if_missing=hint_if_missing).lock


def parse_lock(data: bytes, name: str) -> Lock:
    """Parse a lock; ``name`` names the file in messages.

    Raises:
        UsageError: not JSON, a key is missing, unknown or duplicate, or a value has the wrong type.
    """
    try:
        return _lock(JsonObject.parse(data, limit=MAX_LOCK))
    except JsonError as exc:
        hint = "a lock is the JSON file that enclavectl build writes; a policy is none"
        raise UsageError(f"{name}: expected a lock ({LOCK_SCHEMA}): {exc}", hint=hint) from exc


def _lock(value: JsonObject) -> Lock:
    value.require_schema(LOCK_SCHEMA)
    value.require_keys(_KEYS)
    eif = value.object("eif")
    for key in ("file", "sha256"):
        eif.string(key)
    eif.integer("size")
    pcrs = value.string_map("pcrs")
    # The others are compared with the image. This one goes into policies as it stands.
    if MODEL_REGISTER in pcrs and _REGISTER.fullmatch(pcrs[MODEL_REGISTER]) is None:
        raise JsonError(f"pcrs.{MODEL_REGISTER}: expected 96 lower-case hex digits that are not all zero")
    return Lock(
        eif=eif.members,
        pcrs=pcrs,
        mode=value.string("mode"),
        image=value.object("image").members,
        model=None if value.optional_object("model") is None else value.string_map("model"),
        wheels=tuple(_wheel(one) for one in value.objects("wheels")),
        blobs=value.string_map("blobs"),
        tools=value.string_map("tools"),
        findings=tuple(one.members for one in value.objects("findings")),
        allowed=value.string_map("allowed"),
    )


def _wheel(value: JsonObject) -> Wheel:
    value.require_keys({"name", "version", "file", "sha256"})
    return Wheel(
        name=value.string("name"),
        version=value.string("version"),
        file=value.string("file", pattern=_FILE_NAME),
        sha256=value.string("sha256", pattern=_FILE_NAME),
    )
