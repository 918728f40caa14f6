"""``enclavectl.lock.json``: the inputs and the measurements of an enclave image.

Its schema is ``enclavectl.lock/1``. Paths are relative to the lock's folder. A build from the same lock takes
the same wheels. ``lock check`` compares the image on the disk with the lock.

The registers are PCR0, PCR1 and PCR2, PCR8 of a signed image, and ``MODEL_REGISTER`` of an image with the
payload. The payload extends that one when it starts, with the hash of the model card in the image.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from enclave_payload.card import MAX_CARD_BYTES, MODEL_PCR, model_register
from enclavectl.artifacts.wheel import Wheel
from enclavectl.eif.errors import naming
from enclavectl.eif.examine import read_image
from enclavectl.eif.file_range import whole_file
from enclavectl.eif.format import SectionKind
from enclavectl.eif.layout import Layout
from enclavectl.eif.ramdisk.stream import read_ramdisk
from enclavectl.errors import StateError, UsageError
from enclavectl.files import open_regular, read_bounded
from enclavectl.json_object import JsonError, JsonObject

LOCK_SCHEMA = "enclavectl.lock/1"
MODEL_REGISTER = f"PCR{MODEL_PCR}"
# Where the payload's image has its card; the folder of Python's packages stands before it.
_CARD = b"/enclave_payload/model/model.json"
_REGISTER = re.compile(r"(?!0{96})[0-9a-f]{96}")  # SHA-384 of anything
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


def read_lock(path: Path) -> Lock:
    """Read a lock.

    Raises:
        UsageError: the file is missing or not a lock.
    """
    hint = "enclavectl build writes one beside the image; --lock names another"
    return parse_lock(read_bounded(path, MAX_LOCK, what="lock", hint_if_missing=hint), str(path))


def parse_lock(data: bytes, name: str) -> Lock:
    """Parse a lock; ``name`` names the file in messages.

    Raises:
        UsageError: not JSON, a key is missing, unknown or duplicate, or a value has the wrong type.
    """
    try:
        return _lock(JsonObject.parse(data, limit=MAX_LOCK))
    except JsonError as exc:
        raise UsageError(f"{name}: expected a lock ({LOCK_SCHEMA}): {exc}") from exc


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


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedImage:
    """An image that matches its lock. ``pcrs`` has PCR16 if the lock has it."""

    path: Path
    pcrs: Mapping[str, str]


def check_lock(lock: Lock, path: Path, *, image: Path | None = None) -> CheckedImage:
    """Check that the image that the lock at ``path`` names, or ``image``, is byte for byte the locked one.

    PCR16 of the lock is compared with the card in the image.

    Raises:
        StateError: there is no image, or another one; the message names the register that differs.
        EifError: it is not a valid image.
    """
    found = image or path.parent / str(lock.eif["file"])
    if not found.exists():
        raise StateError(
            f"{found}: the lock's image is not there", hint="enclavectl build", code="lock-image"
        )
    with open_regular(found, what="image file") as file, naming(found):
        image_read = read_image(file)
        registers = image_read.measurements.registers()
        compare_with_lock(lock, path, found, registers=registers, sha256=whole_file(file).sha256())
        if lock.model_register is not None:
            cards = list(_cards(image_read.layout))
            measured = model_register(cards[0]).hex() if len(cards) == 1 else "absent"
            if measured != lock.model_register:
                raise _moved(lock, path, found, {MODEL_REGISTER: measured})
            registers[MODEL_REGISTER] = measured
    return CheckedImage(path=found, pcrs=registers)


def _cards(layout: Layout) -> Iterator[bytes]:
    """Yield the model cards in an image; that of the payload has exactly one.

    Raises:
        CpioError: a ramdisk cannot be read.
    """
    for section in layout.all_of(SectionKind.RAMDISK):
        reader = read_ramdisk(layout.data(section))
        for entry in reader:
            if entry.name.endswith(_CARD) and entry.size <= MAX_CARD_BYTES:
                yield b"".join(reader.data())


def compare_with_lock(
    lock: Lock, path: Path, found: Path, *, registers: Mapping[str, str], sha256: str
) -> None:
    """Check that these registers of an image file and this hash are those of the lock at ``path``.

    Raises:
        StateError: they differ; the message names the register.
    """
    locked = {name: value for name, value in lock.pcrs.items() if name != MODEL_REGISTER}
    names = sorted({*registers, *locked})
    moved = {name: registers.get(name, "absent") for name in names if registers.get(name) != locked.get(name)}
    if moved:
        raise _moved(lock, path, found, moved)
    if sha256 != lock.eif["sha256"]:
        raise StateError(
            f"{found}: the same PCRs, but another file than the lock {path} names (metadata or signature)",
            hint="enclavectl eif show FILE shows what is not measured",
            code="lock-file",
        )


def _moved(lock: Lock, path: Path, found: Path, moved: Mapping[str, str]) -> StateError:
    """Make the error for registers that are not the lock's; ``moved`` is not empty."""
    first, value = next(iter(moved.items()))
    return StateError(
        f"{found}: {', '.join(moved)} differ from the lock {path}: "
        f"{first} is {value}, locked {lock.pcrs.get(first, 'absent')}",
        hint="enclavectl eif diff OLD NEW says what moved them; enclavectl build makes a new lock",
        code="lock-pcrs",
    )


def _wheel(value: JsonObject) -> Wheel:
    value.require_keys({"name", "version", "file", "sha256"})
    return Wheel(
        name=value.string("name"),
        version=value.string("version"),
        file=value.string("file", pattern=_FILE_NAME),
        sha256=value.string("sha256", pattern=_FILE_NAME),
    )
