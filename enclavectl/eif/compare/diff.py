"""Why two images measure differently: section by section, and in ramdisks entry by entry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from enclavectl.eif.compare.cause import Change, ChangeKind, likely_cause
from enclavectl.eif.compare.ramdisks import ramdisk_changes
from enclavectl.eif.errors import CpioError
from enclavectl.eif.examine import Image
from enclavectl.eif.file_range import FileRange
from enclavectl.eif.format import MAX_CMDLINE, Section, SectionKind
from enclavectl.eif.layout import Layout
from enclavectl.eif.ramdisk.cpio import show

MAX_CHANGES = 10_000  # held in memory, about 300 bytes each; more are too many to read


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Two images compared. ``pcrs_changed`` is in order; ``cause`` is one sentence for people.

    ``omitted`` is the number of further changes, which are not listed.
    """

    identical: bool
    pcrs_changed: tuple[str, ...]
    changes: tuple[Change, ...]
    cause: str
    omitted: int = 0

    def to_json(self) -> dict[str, object]:
        """Return the ``enclavectl.eif-diff/1`` object."""
        return {
            "schema": "enclavectl.eif-diff/1",
            "identical": self.identical,
            "pcrs_changed": list(self.pcrs_changed),
            "changes": [change.to_json() for change in self.changes],
            "cause": self.cause,
            **({"omitted": self.omitted} if self.omitted else {}),
        }


def compare_images(before: Image, after: Image, *, limit: int = MAX_CHANGES) -> Difference:
    """Compare two images, whose files must still be open, in constant memory.

    At most ``limit`` changed time stamps are listed, and at most ``limit`` other changes.

    Raises:
        HostError: the disk has no room for the lists of their files.
    """
    identical = _digest(before.layout) == _digest(after.layout)
    changes, omitted = ((), 0) if identical else _first_of(_changes(before, after), limit)
    registers = before.measurements.registers(), after.measurements.registers()
    names = sorted(registers[0] | registers[1])
    moved = tuple(name for name in names if registers[0].get(name) != registers[1].get(name))
    return Difference(
        identical=identical,
        pcrs_changed=moved,
        changes=changes,
        cause=likely_cause(changes, moved) + (f"; and {omitted} more changes" if omitted else ""),
        omitted=omitted,
    )


def _digest(layout: Layout) -> str:
    return FileRange(file=layout.file, offset=0, size=layout.size).sha256()


def _changes(before: Image, after: Image) -> Iterator[Change]:
    yield from _header_changes(before, after)
    for kind in (SectionKind.KERNEL, SectionKind.CMDLINE, SectionKind.METADATA, SectionKind.SIGNATURE):
        old, new = before.layout.first(kind), after.layout.first(kind)
        where = kind.name.lower()
        if old is None or new is None:
            if old is not new:
                yield Change(where=where, what=ChangeKind.ADDED if old is None else ChangeKind.REMOVED)
            continue
        first, second = before.layout.data(old), after.layout.data(new)
        if first.sha256() != second.sha256():
            yield _section_change(where, kind, first, second)
    old_ramdisks = before.layout.all_of(SectionKind.RAMDISK)
    new_ramdisks = after.layout.all_of(SectionKind.RAMDISK)
    for index in range(max(len(old_ramdisks), len(new_ramdisks))):
        where = f"ramdisk{index}"
        if index >= len(old_ramdisks) or index >= len(new_ramdisks):
            added = index >= len(old_ramdisks)
            yield Change(where=where, what=ChangeKind.ADDED if added else ChangeKind.REMOVED)
            continue
        yield from _ramdisk_changes(
            where, before.layout.data(old_ramdisks[index]), after.layout.data(new_ramdisks[index])
        )


def _header_changes(before: Image, after: Image) -> Iterator[Change]:
    old, new = before.layout.header, after.layout.header
    for name in ("version", "flags", "default_memory", "default_cpus"):
        first, second = getattr(old, name), getattr(new, name)
        if first != second:
            yield Change(
                where=f"header:{name}", what=ChangeKind.CONTENT, before=str(first), after=str(second)
            )
    if _order(before.layout.sections) != _order(after.layout.sections):
        yield Change(
            where="header:sections",
            what=ChangeKind.LAYOUT,
            before=" ".join(section.name for section in before.layout.sections),
            after=" ".join(section.name for section in after.layout.sections),
        )


def _order(sections: tuple[Section, ...]) -> list[int]:
    """Return the order of the sections that both images have; a missing section is a change of its own."""
    seen = dict.fromkeys(section.kind for section in sections if section.kind != SectionKind.SIGNATURE)
    return list(seen)


def _section_change(where: str, kind: SectionKind, first: FileRange, second: FileRange) -> Change:
    if kind is SectionKind.CMDLINE:
        texts = [show(data.head(MAX_CMDLINE)) for data in (first, second)]
        return Change(where=where, what=ChangeKind.CONTENT, before=texts[0], after=texts[1])
    return Change(
        where=where, what=ChangeKind.CONTENT, before=_fingerprint(first), after=_fingerprint(second)
    )


def _fingerprint(data: FileRange) -> str:
    return f"{data.size} bytes, sha256 {data.sha256()}"


def _ramdisk_changes(where: str, first: FileRange, second: FileRange) -> Iterator[Change]:
    if first.sha256() == second.sha256():
        return
    try:
        yield from ramdisk_changes(where, first, second)
    except CpioError as exc:
        yield Change(
            where=where,
            what=ChangeKind.CONTENT,
            before=_fingerprint(first),
            after=_fingerprint(second),
            note=f"not compared entry by entry: {exc.message}",
        )


def _first_of(changes: Iterator[Change], limit: int) -> tuple[tuple[Change, ...], int]:
    """Keep the first changes of time stamps and the first of anything else; count the others."""
    kept: list[Change] = []
    counts: Counter[bool] = Counter()
    for change in changes:
        is_time = change.what is ChangeKind.MTIME
        counts[is_time] += 1
        if counts[is_time] <= limit:
            kept.append(change)
    return tuple(kept), counts.total() - len(kept)
