"""Images before their launch: their checks, and an immutable copy.

A file may be rebuilt between its measuring and its launch, and nitro-cli reads it again after the enclave has
booted. So we launch and measure a read-only copy, whose name contains its hash.
"""

from __future__ import annotations

import hashlib
import os
import platform
import time
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from enclave_payload.card import MODEL_PCR, model_register
from enclavectl.artifacts.lock import MODEL_REGISTER, LockFile, read_lock_file
from enclavectl.artifacts.locked_image import compare_with_lock
from enclavectl.artifacts.names import EIF_NAME, LOCK_NAME
from enclavectl.backends.base import SealedModel
from enclavectl.eif.errors import EifError, naming
from enclavectl.eif.examine import Image, read_image
from enclavectl.eif.signature import certificate_facts, check_validity, verify_signature
from enclavectl.errors import StateError, UsageError
from enclavectl.files import StagedFile, make_private_dir, open_regular, stage_file
from enclavectl.nitro_cli.limits import minimum_memory_mib
from enclavectl.progress import Progress

# Large enough that reading costs almost nothing beside hashing.
_CHUNK = 1 << 20
# Often enough that a progress bar moves smoothly.
_TELL_S = 0.2
# A month is enough time to sign again before the image can no longer start.
_EXPIRES_SOON = timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmittedImage:
    """A checked copy of an image, ready to launch.

    ``model`` and PCR16 are known if a lock names them; ``lock_sha256`` is the hash of that lock's file.
    ``is_runtime``: the lock says that the image has no weights.
    """

    path: Path
    name: str
    size: int
    sha256: str
    pcrs: dict[int, bytes]
    model: tuple[str, str] | None
    lock_sha256: str | None
    is_runtime: bool = False

    def with_model(self, sealed: SealedModel | None) -> AdmittedImage:
        """Return the image as it attests once it has the sealed model; unchanged with None.

        Raises:
            UsageError: by its lock the image has weights beside a sealed model, or none and no model comes.
        """
        if sealed is None and self.is_runtime:
            raise UsageError(
                f"{self.name}: expected a model with this image: its lock says that it has no weights",
                hint="enclavectl run --model FILE.sealed brings one; enclavectl build puts one into an image",
                code="image-without-weights",
            )
        if sealed is None:
            return self
        if self.model is not None:
            raise UsageError(
                f"{self.name}: expected an image without weights for a sealed model, found {self.model[0]} "
                "in it",
                hint="enclavectl build --model none makes one; or leave --model out",
                code="image-with-weights",
            )
        card = sealed.card
        pcrs = {**self.pcrs, MODEL_PCR: model_register(card.to_json())}
        return replace(self, pcrs=pcrs, model=(card.model_id, card.sha256))


def image_to_run(given: Path | None) -> Path:
    """Return the named image, or the one in the current folder.

    Raises:
        StateError: no image was named, and the folder has none.
    """
    if given is not None:
        return given.absolute()
    found = Path.cwd() / EIF_NAME
    if not found.exists():
        raise StateError(
            f"expected an image, found no {EIF_NAME} in {found.parent}",
            hint="enclavectl build makes one; or name one: enclavectl run IMAGE.eif",
            code="no-image",
        )
    return found


def check_memory(size: int, memory_mib: int) -> None:
    """Check that an image of ``size`` bytes can be started with this memory.

    Raises:
        UsageError: nitro-cli would refuse it (E26).
    """
    least = minimum_memory_mib(size)
    if memory_mib < least:
        raise UsageError(
            f"memory: expected at least {least} MiB (4 times the image of {size / 2**20:.1f} MiB), "
            f"found {memory_mib}",
            hint=f"enclavectl run --memory {least + least % 2}, if the host has it: enclavectl plan",
            code="memory-below-image",
        )


def admit_image(source: Path, store: Path, *, now: datetime, progress: Progress) -> AdmittedImage:
    """Check ``source`` and copy it into ``store``, unless the store has an equal copy.

    Raises:
        UsageError: the file is missing, for another processor, or not a valid image (EifError):
            layout, CRC, metadata, signature, or a certificate that is not valid now.
        StateError: the lock beside it names this file with another content.
        HostError: it cannot be copied; the partial copy is removed.
    """
    beside = _lock_beside(source)
    make_private_dir(store)
    remove_halves(store)
    if is_unchangeable(source):
        path = source
        with open_regular(source, what="image file") as file:
            size, sha256 = _copy(source, None, progress)
            lock = _of_image(beside, source, sha256)
            registers = _checked_registers(file, source, lock, sha256, now, progress)
    else:
        with stage_file(store, mode=0o400) as staged:
            size, sha256 = _copy(source, staged, progress)
            staged.file.seek(0)
            lock = _of_image(beside, source, sha256)
            registers = _checked_registers(staged.file, source, lock, sha256, now, progress)
            path = store / f"{source.stem}-{registers['PCR0'][:16]}-{sha256[:8]}.eif"
            if not path.exists():
                staged.commit(path)
    model = None if lock is None else lock.lock.model
    return AdmittedImage(
        path=path,
        name=source.stem,
        size=size,
        sha256=sha256,
        pcrs={int(name.removeprefix("PCR")): bytes.fromhex(value) for name, value in registers.items()},
        model=(model["id"], model["sha256"]) if model and {"id", "sha256"} <= set(model) else None,
        lock_sha256=None if lock is None else lock.sha256,
        is_runtime=lock is not None and lock.lock.is_runtime,
    )


def is_unchangeable(source: Path) -> bool:
    """Return whether an image needs no copy: it lies on a read-only file system, as in a container's image.

    A copy would cost a pod as much memory or disk again, and a boot the time to write it.
    """
    try:
        return bool(os.statvfs(source).f_flag & os.ST_RDONLY)
    except OSError:
        return False  # opening it says what is wrong


def _checked_registers(
    file: BinaryIO,
    source: Path,
    found: LockFile | None,
    sha256: str,
    now: datetime,
    progress: Progress,
) -> dict[str, str]:
    """Check an image and return its registers, with that of the lock's model."""
    image = _read(file, source)
    registers = image.measurements.registers()
    if found is not None:
        compare_with_lock(found.lock, found.path, source, registers=registers, sha256=sha256)
        if found.lock.model_register is not None:
            registers[MODEL_REGISTER] = found.lock.model_register
    _check_machine(image, source)
    _check_signature(image, now, progress)
    for warning in image.warnings:
        progress.note(f"{source}: {warning.message}; {warning.hint}")
    if image.metadata is not None and not isinstance(image.metadata.custom, dict | None):
        progress.note(
            "the image's custom metadata is no object: nitro-cli describe-enclaves --metadata would end "
            "the enclave; enclavectl never asks so"
        )
    return registers


def remove_halves(store: Path) -> None:
    """Remove unfinished copies. The caller must hold the lock of starts."""
    for path in store.glob(".enclavectl-*.tmp"):
        path.unlink(missing_ok=True)


def _lock_beside(source: Path) -> LockFile | None:
    path = source.parent / LOCK_NAME
    return read_lock_file(path) if path.exists() else None


def _of_image(lock: LockFile | None, source: Path, sha256: str) -> LockFile | None:
    """Return the lock if it names the image's file, or has its hash: then the file was renamed."""
    if lock is None:
        return None
    named = lock.path.parent / str(lock.lock.eif["file"])
    is_its = named.resolve() == source.resolve() or lock.lock.eif["sha256"] == sha256
    return lock if is_its else None


def _copy(source: Path, staged: StagedFile | None, progress: Progress) -> tuple[int, str]:
    """Hash an image, and copy it where a copy is wanted; return its size and SHA-256."""
    digest = hashlib.sha256()
    copied = 0
    start = time.monotonic()
    told = start
    with open_regular(source, what="image file") as file:
        size = os.fstat(file.fileno()).st_size
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            if staged is not None:
                staged.file.write(chunk)
            copied += len(chunk)
            if (now := time.monotonic()) - told > _TELL_S:
                told = now
                elapsed = now - start
                progress.update("copying and measuring the image", elapsed, elapsed * size / copied)
    if staged is not None:
        staged.file.flush()
    return copied, digest.hexdigest()


def _read(file: BinaryIO, source: Path) -> Image:
    hint = f"enclavectl eif verify '{source}' says all that is wrong; enclavectl build makes a new one"
    with naming(source, hint=hint):
        return read_image(file)


def _check_machine(image: Image, source: Path) -> None:
    built_for = image.layout.header.arch.machine
    if (here := platform.machine()) != built_for:
        raise UsageError(
            f"{source}: expected an image for {here}, found one for {built_for}",
            hint="build it on, or for, this kind of machine: enclavectl build --help",
            code="image-machine",
        )


def _check_signature(image: Image, now: datetime, progress: Progress) -> None:
    if image.signature is None:
        return
    try:
        verify_signature(image.signature, pcr0=image.measurements.pcr0)
        certificate, _ = certificate_facts(image.signature)
        check_validity(certificate, now)
    except EifError as exc:
        raise EifError(
            exc.reason,
            code=exc.code,
            hint="nitro-cli would refuse it (E59); enclavectl eif sign signs it again",
        ) from exc
    left = certificate.not_valid_after_utc - now
    if left < _EXPIRES_SOON:
        progress.note(
            f"the image's certificate expires in {left.days} days; no enclave starts from it afterwards"
        )
