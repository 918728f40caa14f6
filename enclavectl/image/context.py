"""The build context: one deterministic tar with the payload, the model, the wheels and the Dockerfile."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import enclave_payload
from enclavectl.errors import HostError
from enclavectl.image import assemble, warmup
from enclavectl.image.wheels import INSTALLER, Wheel, WheelStore
from enclavectl.models import Model, load_weights

PAYLOAD = Path(enclave_payload.__file__).parent
_MTIME = 1492533000  # any constant; linuxkit's, which the ramdisks have too


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextFile:
    """One file of a context: ``data`` itself, or the ``path`` that has it."""

    name: str
    data: bytes | None = None
    path: Path | None = None


def payload_context(model: Model, wheels: Sequence[Wheel], store: WheelStore) -> list[ContextFile]:
    """What the payload's image is built from, sorted by name.

    Raises:
        UsageError: the weights are not those of the card.
    """
    files = [
        ContextFile(name="Dockerfile", path=PAYLOAD / "Dockerfile"),
        ContextFile(name="assemble.py", path=Path(assemble.__file__)),
        ContextFile(name="warmup.py", path=Path(warmup.__file__)),
        ContextFile(name="enclave_payload/model/model.tflite", data=load_weights(model)),
        ContextFile(name="enclave_payload/model/model.json", data=model.card.to_json()),
        ContextFile(name="wheels/requirements.txt", data=_requirements(wheels)),
    ]
    files += [ContextFile(name=f"enclave_payload/{path.name}", path=path) for path in PAYLOAD.glob("*.py")]
    for wheel in wheels:
        name = f"{INSTALLER}.whl" if wheel.name == INSTALLER else wheel.file
        files.append(ContextFile(name=f"wheels/{name}", path=store.path(wheel)))
    return sorted(files, key=lambda file: file.name)


def _requirements(wheels: Sequence[Wheel]) -> bytes:
    lines = [
        f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n"
        for wheel in wheels
        if wheel.name != INSTALLER
    ]
    return "".join(lines).encode()


def folder_context(folder: Path) -> list[ContextFile]:
    """Every file of a user's own context, which needs a ``Dockerfile``. There is no .dockerignore.

    Raises:
        HostError: a file cannot be read, or is neither a file nor a folder.
    """
    return sorted(_walk(folder), key=lambda file: file.name)


def _walk(folder: Path) -> Iterator[ContextFile]:
    for path in folder.rglob("*"):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise HostError(
                f"{path}: expected files and folders in a build context, found something else",
                hint="copy what the link names into the context",
            )
        if path.is_file():
            yield ContextFile(name=path.relative_to(folder).as_posix(), path=path)


def write_context(files: Sequence[ContextFile], sink: BinaryIO) -> None:
    """``sink`` has the tar of these files: the same bytes wherever and whenever it is written.

    Raises:
        HostError: a file cannot be read.
    """
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for file in files:
            info = tarfile.TarInfo(file.name)
            info.mtime, info.mode = _MTIME, 0o644
            try:
                if file.data is not None:
                    info.size = len(file.data)
                    archive.addfile(info, io.BytesIO(file.data))
                elif file.path is not None:
                    with file.path.open("rb") as source:
                        info.size = source.seek(0, io.SEEK_END)
                        source.seek(0)
                        if file.path.stat().st_mode & 0o100:
                            info.mode = 0o755
                        archive.addfile(info, source)
            except OSError as exc:
                raise HostError(f"{file.path or file.name}: cannot be read ({exc.strerror or exc})") from exc
