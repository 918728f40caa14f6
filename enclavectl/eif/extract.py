"""The sections of an image as files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from enclavectl.eif.examine import read_image
from enclavectl.eif.format import SectionKind
from enclavectl.errors import HostError, StateError
from enclavectl.files import stage_file

_NAMES = {
    SectionKind.KERNEL: "kernel",
    SectionKind.CMDLINE: "cmdline",
    SectionKind.METADATA: "metadata.json",
    SectionKind.SIGNATURE: "signature.cbor",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Extracted:
    """One section, written to ``path``."""

    path: Path
    kind: str
    size: int


def extract_sections(file: BinaryIO, folder: Path) -> tuple[Extracted, ...]:
    """``folder`` is new and holds one file for each section of an image that the strict reader accepts.

    Ramdisks are numbered in boot order. Each file is whole or absent.

    Raises:
        EifError: the image breaks a rule; nothing was written.
        StateError: ``folder`` exists.
        HostError: the file system refused.
    """
    layout = read_image(file).layout
    try:
        folder.mkdir()
    except FileExistsError:
        raise StateError(
            f"{folder}: exists already, and nothing is overwritten", hint="name a new folder"
        ) from None
    except OSError as exc:
        raise HostError(f"{folder}: cannot make this folder ({exc.strerror})") from exc
    written = []
    ramdisks = 0
    for section in layout.sections:
        name = _NAMES.get(SectionKind(section.kind))
        if name is None:
            name, ramdisks = f"ramdisk{ramdisks}.cpio", ramdisks + 1
        path = folder / name
        with stage_file(folder, mode=0o644) as staged:
            for chunk in layout.blob(section).chunks():
                staged.file.write(chunk)
            staged.commit(path)
        written.append(Extracted(path=path, kind=section.name, size=section.size))
    return tuple(written)
