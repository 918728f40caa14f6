"""The build context: one deterministic tar with the payload, the model, the wheels and the Dockerfile."""

from __future__ import annotations

import base64
import errno
import io
import os
import shutil
import stat
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import enclave_payload
import enclavectl.protocol
from enclave_payload.card import SEALED_MARK, SEALED_MARK_CONTENT
from enclavectl import json_object
from enclavectl.artifacts.wheel import Wheel
from enclavectl.eif.ramdisk.ramdisks import EPOCH
from enclavectl.errors import HostError, UsageError
from enclavectl.files import is_regular
from enclavectl.image import assemble, model_probe, warmup
from enclavectl.image.bundle import bundle
from enclavectl.image.dockerignore import IgnoreRules, Verdict, read_ignore_rules
from enclavectl.image.wheels import INSTALLER, WheelStore
from enclavectl.models import observation
from enclavectl.models.weights import Model, load_weights

PAYLOAD = Path(enclave_payload.__file__).parent
PROTOCOL = Path(enclavectl.protocol.__file__).parent
IGNORE_FILE = ".dockerignore"
_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextFile:
    """A file (its ``data``, or the ``path`` of its content), a link to ``target``, or a folder.

    ``is_for_docker`` marks a file that the ignore file leaves out but Docker itself reads, such as the
    Dockerfile; COPY must not see it.
    """

    name: str
    data: bytes | None = None
    path: Path | None = None
    target: str | None = None
    is_folder: bool = False
    is_for_docker: bool = False


def payload_context(
    model: Model, wheels: Sequence[Wheel], store: WheelStore, *, is_sealed: bool = False
) -> list[ContextFile]:
    """List the files that the payload's image is built from, sorted by name.

    With ``is_sealed`` the model is no part of the image: only the warm-up's script has it.

    Raises:
        UsageError: the weights are not those of the card.
    """
    weights = load_weights(model)  # checked; the warm-up loads the weights again while the image is built
    files = [
        ContextFile(name="Dockerfile", path=PAYLOAD / "Dockerfile"),
        ContextFile(name="assemble.py", path=Path(assemble.__file__)),
        ContextFile(name="wheels/requirements.txt", data=_requirements(wheels)),
    ]
    if is_sealed:
        brought = (model.card.to_json(), weights)
        files += [
            # The weights come later, and their owner's policy says which runtime they are for.
            ContextFile(name="model_probe.py", data=b""),
            ContextFile(name="warmup.py", data=warmup_script(brought).encode()),
            ContextFile(name=f"enclave_payload/model/{SEALED_MARK}", data=SEALED_MARK_CONTENT),
        ]
    else:
        files += [
            ContextFile(name="model_probe.py", data=probe_script().encode()),
            ContextFile(name="warmup.py", data=warmup_script().encode()),
            ContextFile(name="enclave_payload/model/model.tflite", path=model.weights_path),
            ContextFile(name="enclave_payload/model/model.json", data=model.card.to_json()),
        ]
    files += [ContextFile(name=f"enclave_payload/{path.name}", path=path) for path in PAYLOAD.glob("*.py")]
    for wheel in wheels:
        name = f"{INSTALLER}.whl" if wheel.name == INSTALLER else wheel.file
        files.append(ContextFile(name=f"wheels/{name}", path=store.path(wheel)))
    return sorted(files, key=lambda file: file.name)


def warmup_sources() -> dict[str, str]:
    """Read the sources of the modules that the warm-up brings, by their names."""
    sources = {f"enclavectl.protocol.{path.stem}": path.read_text() for path in PROTOCOL.glob("[!_]*.py")}
    sources |= {"enclavectl": "", "enclavectl.protocol": "", "warmup": Path(warmup.__file__).read_text()}
    return {**sources, "enclavectl.json_object": Path(json_object.__file__).read_text()}


def warmup_script(brought: tuple[bytes, bytes] | None = None) -> str:
    """Bundle the warm-up and the client's half of the protocol, which the warm-up uses, as one script.

    ``brought`` are the card and the weights that the warm-up brings to an image without a model.
    """
    sources = warmup_sources()
    if brought is not None:
        card, weights = (base64.b85encode(part).decode() for part in brought)
        sources["warmup_model"] = f"CARD = {card!r}\nWEIGHTS = {weights!r}\n"
    return bundle(sources, "warmup")


def probe_script() -> str:
    """Bundle the probe of the model as one script."""
    sources = {
        "enclavectl": "",
        "enclavectl.models": "",
        "enclavectl.models.observation": Path(observation.__file__).read_text(),
        "model_probe": Path(model_probe.__file__).read_text(),
    }
    return bundle(sources, "model_probe")


def _requirements(wheels: Sequence[Wheel]) -> bytes:
    lines = [
        f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n"
        for wheel in wheels
        if wheel.name != INSTALLER
    ]
    return "".join(lines).encode()


@dataclass(frozen=True, slots=True)
class FolderContext:
    """A user's own context without what its ignore file names. Each iteration reads the folder again."""

    folder: Path
    dockerfile: str

    @property
    def ignore_file(self) -> Path:
        """The ignore file: one for this Dockerfile only has precedence, as in BuildKit."""
        own = self.folder / f"{self.dockerfile}{IGNORE_FILE}"
        return own if own.is_file() else self.folder / IGNORE_FILE

    def __iter__(self) -> Iterator[ContextFile]:
        """Yield each folder, file and link; links are not followed.

        Raises:
            UsageError: the ignore file has a line that is no pattern.
            HostError: an entry cannot be read, or is neither folder, file nor link.
        """
        try:
            yield from self._walk(self.folder, "", read_ignore_rules(self.ignore_file), None)
        except OSError as exc:
            raise HostError(f"{exc.filename or self.folder}: cannot be read ({exc.strerror or exc})") from exc

    def _walk(
        self, folder: Path, prefix: str, rules: IgnoreRules, above: Verdict | None
    ) -> Iterator[ContextFile]:
        with os.scandir(folder) as entries:
            bases = sorted(entry.name for entry in entries)
        for base in bases:
            path, name = folder / base, prefix + base
            mode = path.lstat().st_mode
            verdict = rules.judge(name, above)
            is_for_docker = verdict.is_left_out and name in (self.dockerfile, IGNORE_FILE)
            if stat.S_ISDIR(mode):
                if not verdict.is_left_out:
                    yield ContextFile(name=name, is_folder=True)
                if not verdict.is_left_out or rules.has_exceptions:
                    yield from self._walk(path, f"{name}/", rules, verdict)
            elif verdict.is_left_out and not is_for_docker:
                continue
            elif stat.S_ISLNK(mode):
                target = str(path.readlink())
                yield ContextFile(name=name, target=target, is_for_docker=is_for_docker)
            elif stat.S_ISREG(mode):
                yield ContextFile(name=name, path=path, is_for_docker=is_for_docker)
            else:
                raise HostError(
                    f"{path}: expected files, folders and links in a build context, found something else",
                    hint=f"name it in {self.ignore_file}",
                )


def folder_context(path: Path) -> FolderContext:
    """Open a user's own context: a folder with a ``Dockerfile``, or the folder of a Dockerfile of any name.

    Raises:
        UsageError: there is no Dockerfile.
    """
    if is_regular(path):
        return FolderContext(path.parent, path.name)
    if not is_regular(path / "Dockerfile"):
        raise UsageError(
            f"{path}: expected a Dockerfile, or a folder with a file of that name",
            hint="one of another name: enclavectl build --dockerfile FOLDER/NAME",
        )
    return FolderContext(path, "Dockerfile")


def write_context_folder(files: Iterable[ContextFile], folder: Path) -> None:
    """Create ``folder`` with these files: as ``write_context`` does, but with the current time.

    Raises:
        HostError: a file cannot be read.
        OSError: the disk is full.
    """
    folder.mkdir(mode=0o755)
    for file in files:
        path = folder / file.name
        try:
            made = path if file.is_folder else path.parent
            made.mkdir(mode=0o755, parents=True, exist_ok=True)
            if file.target is not None:
                path.symlink_to(file.target)
            elif not file.is_folder:
                is_program = file.path is not None and file.path.stat().st_mode & 0o100
                if file.path is not None:
                    shutil.copyfile(file.path, path)
                else:
                    path.write_bytes(file.data or b"")
                path.chmod(0o755 if is_program else 0o644)
        except OSError as exc:
            if exc.errno in _FULL:
                raise  # a full disk is not this file's fault
            raise HostError(f"{file.path or path}: cannot be copied ({exc.strerror or exc})") from exc


def write_context(files: Iterable[ContextFile], sink: BinaryIO) -> None:
    """Write the tar of these files to ``sink``: the same bytes on every machine and at any time.

    Of a file's mode, only the owner's execute bit counts: Git keeps no other.

    Raises:
        HostError: a file cannot be read.
    """
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for file in files:
            info = tarfile.TarInfo(file.name)
            info.mtime, info.mode = EPOCH, 0o644
            try:
                if file.is_folder:
                    info.type, info.mode = tarfile.DIRTYPE, 0o755
                    archive.addfile(info)
                elif file.target is not None:
                    info.type, info.mode, info.linkname = tarfile.SYMTYPE, 0o777, file.target
                    archive.addfile(info)
                elif file.data is not None:
                    info.size = len(file.data)
                    archive.addfile(info, io.BytesIO(file.data))
                elif file.path is not None:
                    with file.path.open("rb") as source:
                        info.size = source.seek(0, io.SEEK_END)
                        source.seek(0)
                        if file.path.stat().st_mode & 0o100:
                            info.mode = 0o755
                        archive.addfile(info, source)
                archive.members.clear()  # type: ignore[attr-defined]  # tarfile keeps every member to list it
            except OSError as exc:
                raise HostError(f"{file.path or file.name}: cannot be read ({exc.strerror or exc})") from exc
