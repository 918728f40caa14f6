"""The sections of an image as files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from enclavectl.eif.examine import read_image
from enclavectl.eif.format import SectionKind
from enclavectl.eif.layout import Layout
from enclavectl.errors import HostError, StateError
from enclavectl.files import stage_file, status_at
from enclavectl.scratch import temporary_folder

_NAMES = {
    SectionKind.KERNEL: "kernel",
    SectionKind.CMDLINE: "cmdline",
    SectionKind.METADATA: "metadata.json",
    SectionKind.SIGNATURE: "signature.cbor",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractedSection:
    """One section, written to ``path``."""

    path: Path
    kind: str
    size: int


def extract_sections(file: BinaryIO, folder: Path) -> tuple[ExtractedSection, ...]:
    """Write one file for each section of an image that the strict reader accepts into a new ``folder``.

    Ramdisks are numbered in boot order. On failure there is no folder.

    Raises:
        EifError: the image breaks a rule.
        StateError: ``folder`` exists.
        HostError: the file system failed.
    """
    layout = read_image(file).layout
    if status_at(folder, follows_links=False) is not None:
        raise StateError(f"{folder}: exists already, and nothing is overwritten", hint="name a new folder")
    try:
        with temporary_folder(folder.parent) as scratch:
            made = scratch / "parts"
            made.mkdir()
            written = _write_parts(layout, made)
            made.rename(folder)
    except OSError as exc:
        raise HostError(f"{folder}: cannot make this folder ({exc.strerror})") from exc
    return tuple(replace(one, path=folder / one.path.name) for one in written)


def _write_parts(layout: Layout, folder: Path) -> list[ExtractedSection]:
    written: list[ExtractedSection] = []
    ramdisks = 0
    for section in layout.sections:
        name = _NAMES.get(SectionKind(section.kind))
        if name is None:
            name, ramdisks = f"ramdisk{ramdisks}.cpio", ramdisks + 1
        path = folder / name
        with stage_file(folder, mode=0o644) as staged:
            for chunk in layout.data(section).chunks():
                staged.file.write(chunk)
            staged.commit(path)
        written.append(ExtractedSection(path=path, kind=section.name, size=section.size))
    return written
