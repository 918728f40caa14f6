"""An image held to its lock: the registers that it measures to, its card, and every other byte."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from enclave_payload.card import MAX_CARD_BYTES, model_register
from enclavectl.artifacts.lock import MODEL_REGISTER, Lock
from enclavectl.eif.examine import read_image
from enclavectl.eif.file_range import whole_file
from enclavectl.eif.format import SectionKind
from enclavectl.eif.layout import Layout
from enclavectl.eif.opening import open_image
from enclavectl.eif.ramdisk.stream import read_ramdisk
from enclavectl.errors import StateError
from enclavectl.files import status_at

# Where the payload's image has its card; the folder of Python's packages stands before it.
_CARD = b"/enclave_payload/model/model.json"


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
        HostError: reading it fails.
    """
    found = image or path.parent / str(lock.eif["file"])
    if status_at(found) is None:
        raise StateError(
            f"{found}: the lock's image is not there", hint="enclavectl build", code="lock-image"
        )
    with open_image(found) as file:
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
