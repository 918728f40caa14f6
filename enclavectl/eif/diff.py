"""Why two images measure differently: section by section, and in ramdisks entry by entry."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from enclavectl.eif.blob import Blob
from enclavectl.eif.cause import Change, What, likely_cause
from enclavectl.eif.cpio import CpioReader, show
from enclavectl.eif.errors import CpioError
from enclavectl.eif.examine import Image
from enclavectl.eif.format import MAX_CMDLINE, Section, SectionKind
from enclavectl.eif.layout import Layout
from enclavectl.eif.stream import open_ramdisk


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Two images compared. ``pcrs_changed`` is in order; ``cause`` is one sentence for people."""

    identical: bool
    pcrs_changed: tuple[str, ...]
    changes: tuple[Change, ...]
    cause: str

    def to_json(self) -> dict[str, object]:
        """The ``enclavectl.eif-diff/1`` object."""
        return {
            "schema": "enclavectl.eif-diff/1",
            "identical": self.identical,
            "pcrs_changed": list(self.pcrs_changed),
            "changes": [change.to_json() for change in self.changes],
            "cause": self.cause,
        }


@dataclass(frozen=True, slots=True)
class _File:
    """What a ramdisk says of one path; ``digest`` covers the content."""

    kind: str
    mode: int
    owner: tuple[int, int]
    mtime: int
    rdev: tuple[int, int]
    size: int
    digest: bytes
    target: bytes


def compare_images(before: Image, after: Image) -> Difference:
    """Every difference between two images, whose files are still open. Memory grows with the number of paths,
    not with the size of files.
    """
    identical = _digest(before.layout) == _digest(after.layout)
    changes = () if identical else tuple(_changes(before, after))
    registers = before.measurements.registers(), after.measurements.registers()
    names = sorted(registers[0] | registers[1])
    moved = tuple(name for name in names if registers[0].get(name) != registers[1].get(name))
    return Difference(
        identical=identical, pcrs_changed=moved, changes=changes, cause=likely_cause(changes, moved)
    )


def _digest(layout: Layout) -> bytes:
    return _hash(Blob(file=layout.file, offset=0, size=layout.size))


def _hash(blob: Blob) -> bytes:
    digest = hashlib.sha256()
    for chunk in blob.chunks():
        digest.update(chunk)
    return digest.digest()


def _changes(before: Image, after: Image) -> Iterator[Change]:
    yield from _header_changes(before, after)
    for kind in (SectionKind.KERNEL, SectionKind.CMDLINE, SectionKind.METADATA, SectionKind.SIGNATURE):
        old, new = before.layout.first(kind), after.layout.first(kind)
        where = kind.name.lower()
        if old is None or new is None:
            if old is not new:
                yield Change(where=where, what=What.ADDED if old is None else What.REMOVED)
            continue
        first, second = before.layout.blob(old), after.layout.blob(new)
        if _hash(first) != _hash(second):
            yield _section_change(where, kind, first, second)
    old_ramdisks = before.layout.all_of(SectionKind.RAMDISK)
    new_ramdisks = after.layout.all_of(SectionKind.RAMDISK)
    for index in range(max(len(old_ramdisks), len(new_ramdisks))):
        where = f"ramdisk{index}"
        if index >= len(old_ramdisks) or index >= len(new_ramdisks):
            added = index >= len(old_ramdisks)
            yield Change(where=where, what=What.ADDED if added else What.REMOVED)
            continue
        yield from _ramdisk_changes(
            where, before.layout.blob(old_ramdisks[index]), after.layout.blob(new_ramdisks[index])
        )


def _header_changes(before: Image, after: Image) -> Iterator[Change]:
    old, new = before.layout.header, after.layout.header
    for name in ("version", "flags", "default_memory", "default_cpus"):
        first, second = getattr(old, name), getattr(new, name)
        if first != second:
            yield Change(where=f"header:{name}", what=What.CONTENT, before=str(first), after=str(second))
    if _order(before.layout.sections) != _order(after.layout.sections):
        yield Change(
            where="header:sections",
            what=What.LAYOUT,
            before=" ".join(section.name for section in before.layout.sections),
            after=" ".join(section.name for section in after.layout.sections),
        )


def _order(sections: tuple[Section, ...]) -> list[int]:
    """The order of what is always there; a section more or less is a change of its own."""
    seen = dict.fromkeys(section.kind for section in sections if section.kind != SectionKind.SIGNATURE)
    return list(seen)


def _section_change(where: str, kind: SectionKind, first: Blob, second: Blob) -> Change:
    if kind is SectionKind.CMDLINE:
        texts = [show(blob.head(MAX_CMDLINE)) for blob in (first, second)]
        return Change(where=where, what=What.CONTENT, before=texts[0], after=texts[1])
    return Change(where=where, what=What.CONTENT, before=_fingerprint(first), after=_fingerprint(second))


def _fingerprint(blob: Blob) -> str:
    return f"{blob.size} bytes, sha256 {_hash(blob).hex()}"


def _ramdisk_changes(where: str, first: Blob, second: Blob) -> Iterator[Change]:
    if _hash(first) == _hash(second):
        return
    try:
        old, new = _files(first), _files(second)
    except CpioError as exc:
        yield Change(
            where=where,
            what=What.CONTENT,
            before=_fingerprint(first),
            after=_fingerprint(second),
            note=f"not compared entry by entry: {exc.message}",
        )
        return
    found = False
    for name in sorted(old.keys() | new.keys(), key=lambda path: path.split(b"/")):
        for change in _file_changes(f"{where}:/{show(name)}", old.get(name), new.get(name)):
            found = True
            yield change
    if not found:
        yield Change(
            where=where,
            what=What.LAYOUT,
            note="the same files, stored in another order or with other inode numbers",
        )


def _files(blob: Blob) -> Mapping[bytes, _File]:
    """The paths of a ramdisk. Where one stands twice the last record counts, as it does for the kernel."""
    files: dict[bytes, _File] = {}
    reader = CpioReader(open_ramdisk(blob))
    for entry in reader:
        digest, target = hashlib.sha256(), b""
        for chunk in reader.data():
            digest.update(chunk)
            if entry.kind == "link":
                target = (target + chunk)[:4096]
        files[entry.name.rstrip(b"/")] = _File(
            kind=entry.kind,
            mode=entry.mode & 0o7777,
            owner=(entry.uid, entry.gid),
            mtime=entry.mtime,
            rdev=entry.rdev,
            size=entry.size,
            digest=digest.digest(),
            target=target,
        )
    return files


def _file_changes(where: str, old: _File | None, new: _File | None) -> Iterator[Change]:
    if old is None or new is None:
        if new is not None:
            yield Change(where=where, what=What.ADDED, after=f"{new.kind}, {new.size} bytes")
        elif old is not None:
            yield Change(where=where, what=What.REMOVED, before=f"{old.kind}, {old.size} bytes")
        return
    if old.kind != new.kind or old.rdev != new.rdev:
        yield Change(where=where, what=What.KIND, before=old.kind, after=new.kind)
    elif old.digest != new.digest:
        if old.kind == "link":
            yield Change(where=where, what=What.TARGET, before=show(old.target), after=show(new.target))
        else:
            yield Change(where=where, what=What.CONTENT, before=_content(old), after=_content(new))
    if old.mode != new.mode:
        yield Change(where=where, what=What.MODE, before=f"{old.mode:04o}", after=f"{new.mode:04o}")
    if old.owner != new.owner:
        texts = [f"{uid}:{gid}" for uid, gid in (old.owner, new.owner)]
        yield Change(where=where, what=What.OWNER, before=texts[0], after=texts[1])
    if old.mtime != new.mtime:
        yield Change(where=where, what=What.MTIME, before=str(old.mtime), after=str(new.mtime))


def _content(file: _File) -> str:
    return f"{file.size} bytes, sha256 {file.digest.hex()}"
