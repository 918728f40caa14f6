"""The key file of a sealed model: the owner's secret. It never leaves the owner's machine."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from enclave_payload.sealed import FILE_ID_BYTES, KEY_BYTES
from enclavectl.errors import HostError, UsageError
from enclavectl.files import read_bounded, stage_file
from enclavectl.json_object import JsonError, JsonObject

KEY_SCHEMA = "enclavectl.model-key/1"
_KEY_HINT = "enclavectl model seal writes one beside the sealed model"
_MAX_BYTES = 4096
_REGISTER_BYTES = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelKey:
    """The key of one sealed file. ``register`` is the PCR16 that an enclave must attest to get it."""

    model_id: str
    file_id: bytes
    key: bytes = field(repr=False)
    register: bytes

    def to_json(self) -> bytes:
        """Return the content of the key file."""
        value = {
            "schema": KEY_SCHEMA,
            "model": self.model_id,
            "file": self.file_id.hex(),
            "pcr16": self.register.hex(),
            "key": self.key.hex(),
        }
        return json.dumps(value, indent=2).encode() + b"\n"


def write_key(path: Path, key: ModelKey) -> None:
    """Write a new key file with mode 0600. One that is there is never overwritten: its file would be lost.

    Raises:
        HostError: something is at ``path``, or it cannot be written.
    """
    with stage_file(path.parent) as staged:
        staged.file.write(key.to_json())
        staged.commit_new(path)


def read_key(path: Path) -> ModelKey:
    """Read a key file that only its owner can read.

    Raises:
        UsageError: it cannot be read, or is no key file.
        HostError: others may read it: its key is no secret any more.
    """
    if path.suffix == ".sealed":
        raise UsageError(
            f"{path}: expected the key, found the sealed model",
            hint=f"name {path.with_suffix('.key')}, which enclavectl model seal wrote beside it",
        )
    data = read_bounded(path, _MAX_BYTES, what="model key", hint_if_missing=_KEY_HINT)
    if path.stat().st_mode & 0o077:
        raise HostError(
            f"{path}: expected mode 0600, found {path.stat().st_mode & 0o777:04o}: others may have read it",
            hint=f"chmod 600 '{path}' if nobody else has an account here; else seal the model anew",
            code="key-mode",
        )
    try:
        value = JsonObject.parse(data)
        value.require_schema(KEY_SCHEMA)
        value.require_keys(("schema", "model", "file", "pcr16", "key"))
        return ModelKey(
            model_id=value.string("model"),
            file_id=value.hex("file", length=FILE_ID_BYTES),
            key=value.hex("key", length=KEY_BYTES),
            register=value.hex("pcr16", length=_REGISTER_BYTES),
        )
    except JsonError as exc:
        raise UsageError(
            f"{path}: expected a model key of schema {KEY_SCHEMA} ({exc})",
            hint=_KEY_HINT,
        ) from exc
