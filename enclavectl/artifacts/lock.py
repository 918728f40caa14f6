"""``enclavectl.lock.json``: what went into an enclave image, and what it measures as.

``enclavectl.lock/1``. Paths are relative to the lock's folder. Whoever builds from the same lock takes the
same wheels; ``lock check`` says whether the image on the disk is still the one that was locked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from enclavectl.artifacts.wheel import Wheel
from enclavectl.eif.errors import naming
from enclavectl.eif.examine import read_image
from enclavectl.errors import StateError, UsageError
from enclavectl.files import open_regular, read_bounded

LOCK_SCHEMA = "enclavectl.lock/1"
MAX_LOCK = 1 << 20
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
    """What is pinned. ``model`` is None for images that are not the payload's; their wheels are nobody's."""

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

    def to_json(self) -> dict[str, object]:
        """Return the object in the file."""
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
        """Return the bytes of the file."""
        return (json.dumps(self.to_json(), indent=2) + "\n").encode()


def read_lock(path: Path) -> Lock:
    """Read the lock in a file.

    Raises:
        UsageError: there is none, or it is not a lock.
    """
    hint = "enclavectl build writes one beside the image; --lock names another"
    return parse_lock(read_bounded(path, MAX_LOCK, what="lock", hint_if_missing=hint), str(path))


def parse_lock(data: bytes, name: str) -> Lock:
    """Read a lock from bytes; ``name`` names the file in messages.

    Raises:
        UsageError: not JSON, a key is missing, unknown or twice, or a value has the wrong type.
    """
    try:
        value = json.loads(data.decode(), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as exc:
        raise UsageError(f"{name}: expected a lock, found no JSON ({exc})") from exc
    if not isinstance(value, dict) or value.get("schema") != LOCK_SCHEMA:
        raise UsageError(f"{name}: expected a lock ({LOCK_SCHEMA})")
    if set(value) != _KEYS:
        odd = sorted(set(value) ^ _KEYS)
        raise UsageError(f"{name}: a lock has the keys {', '.join(sorted(_KEYS))}; wrong: {', '.join(odd)}")
    eif = _mapping(value["eif"], "eif", name)
    if not all(
        isinstance(eif.get(key), kind) for key, kind in (("file", str), ("sha256", str), ("size", int))
    ):
        raise UsageError(f"{name}: eif: expected file, sha256 and size")
    return Lock(
        eif=eif,
        pcrs=_texts(value["pcrs"], "pcrs", name),
        mode=_text(value["mode"], "mode", name),
        image=_mapping(value["image"], "image", name),
        model=None if value["model"] is None else _texts(value["model"], "model", name),
        wheels=tuple(_wheel(item, name) for item in _list(value["wheels"], "wheels", name)),
        blobs=_texts(value["blobs"], "blobs", name),
        tools=_texts(value["tools"], "tools", name),
        findings=tuple(
            _mapping(item, "findings", name) for item in _list(value["findings"], "findings", name)
        ),
        allowed=_texts(value["allowed"], "allowed", name),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """An image that is what its lock says."""

    path: Path
    pcrs: Mapping[str, str]


def check_lock(lock: Lock, path: Path, *, image: Path | None = None) -> Checked:
    """Check that the image that the lock at ``path`` names, or ``image``, is byte for byte the locked one.

    Raises:
        StateError: there is no image, or it is another one; the message says which register moved.
        EifError: it is no sound image.
    """
    found = image or path.parent / str(lock.eif["file"])
    if not found.exists():
        raise StateError(
            f"{found}: the lock's image is not there", hint="enclavectl build", code="lock-image"
        )
    digest = hashlib.sha256()
    with open_regular(found, what="image file") as file:
        with naming(found):
            registers = read_image(file).measurements.registers()
        file.seek(0)
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    compare_with_lock(lock, path, found, registers=registers, sha256=digest.hexdigest())
    return Checked(path=found, pcrs=registers)


def compare_with_lock(
    lock: Lock, path: Path, found: Path, *, registers: Mapping[str, str], sha256: str
) -> None:
    """Return if an image with these registers and this hash is the one that the lock at ``path`` names.

    Raises:
        StateError: it is another one; the message says which register moved.
    """
    moved = [name for name in sorted({*registers, *lock.pcrs}) if registers.get(name) != lock.pcrs.get(name)]
    if moved:
        raise StateError(
            f"{found}: {', '.join(moved)} differ from the lock {path}: "
            f"{moved[0]} is {registers.get(moved[0], 'absent')}, locked {lock.pcrs.get(moved[0], 'absent')}",
            hint="enclavectl eif diff OLD NEW says what moved them; enclavectl build makes a new lock",
            code="lock-pcrs",
        )
    if sha256 != lock.eif["sha256"]:
        raise StateError(
            f"{found}: the same PCRs, but another file than the lock {path} names (metadata or signature)",
            hint="enclavectl eif show FILE shows what is not measured",
            code="lock-file",
        )


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key is used twice")
    return value


def _mapping(value: object, where: str, name: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise UsageError(f"{name}: {where}: expected an object")
    return value


def _list(value: object, where: str, name: str) -> list[object]:
    if not isinstance(value, list):
        raise UsageError(f"{name}: {where}: expected a list")
    return value


def _text(value: object, where: str, name: str) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{name}: {where}: expected text")
    return value


def _texts(value: object, where: str, name: str) -> Mapping[str, str]:
    found = _mapping(value, where, name)
    if not all(isinstance(item, str) for item in found.values()):
        raise UsageError(f"{name}: {where}: expected text values")
    return cast("Mapping[str, str]", found)


def _wheel(value: object, name: str) -> Wheel:
    found = _texts(value, "wheels", name)
    if set(found) != {"name", "version", "file", "sha256"} or "/" in found["file"] or "/" in found["sha256"]:
        raise UsageError(f"{name}: wheels: expected name, version, file and sha256")
    return Wheel(**found)
