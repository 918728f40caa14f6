"""One change between two images, and the sentence that summarizes many changes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

_MODEL = re.compile(r"\.tflite$")
# The payload's layout in the build context of enclavectl/image/context.py.
_CARD = re.compile(r"/enclave_payload/model/[^/]+\.json$")
_PAYLOAD = re.compile(r"/enclave_payload/")
_DIST_INFO = re.compile(r"/([^/]+?)-[^/-]+\.dist-info(?:/|$)")
_SITE_PACKAGE = re.compile(r"/(?:site|dist)-packages/([^/]+)")
_SYSTEM_PACKAGE = re.compile(
    r"/(?:var/lib/dpkg|lib/apk/db|var/lib/rpm|usr/lib/sysimage/rpm)(?:/info/([^/.:]+)|/|$)"
)


class ChangeKind(StrEnum):
    """The kind of a change."""

    ADDED = "added"
    REMOVED = "removed"
    CONTENT = "content"
    TARGET = "target"
    KIND = "kind"
    MODE = "mode"
    OWNER = "owner"
    MTIME = "mtime"
    LAYOUT = "layout"


class _Part(StrEnum):
    """The part that a path belongs to, the most telling first."""

    MODEL = "the model"
    CARD = "the model's card"
    PAYLOAD = "the payload"
    PACKAGES = "packages"
    BOOT = "the boot files"
    FILES = "files"
    TIMES = "time stamps"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change. ``where`` is a section, ``header:FIELD`` or ``ramdiskN:/path``; values are for people."""

    where: str
    what: ChangeKind
    before: str | None = None
    after: str | None = None
    note: str | None = None

    @property
    def path(self) -> str | None:
        """The path inside a ramdisk; None if the change is elsewhere."""
        section, colon, path = self.where.partition(":")
        return path if colon and section.startswith("ramdisk") else None

    def to_json(self) -> dict[str, str]:
        """Return the change as JSON values, without the fields that are empty."""
        value = {"where": self.where, "what": self.what.value}
        optional = {"before": self.before, "after": self.after, "note": self.note}
        return value | {key: text for key, text in optional.items() if text is not None}


def likely_cause(changes: Sequence[Change], pcrs_changed: Sequence[str]) -> str:
    """Say in one sentence what differs, the most telling first, and whether a PCR moved because of it.

    Changes that follow from other changes are not named: a folder's time stamp follows from its content;
    metadata and a signature by the same key follow from what is measured.
    """
    if not changes:
        return "the images are identical"
    text = "; ".join(_reasons(changes, pcrs_changed))
    return text if pcrs_changed else f"{text}; no PCR changes"


def _reasons(changes: Sequence[Change], pcrs_changed: Sequence[str]) -> Iterator[str]:
    sections = {change.where: change for change in changes if change.path is None}
    ramdisks = [where for where in sections if where.startswith("ramdisk")]
    paths = [change for change in changes if change.path is not None]
    if "kernel" in sections:
        yield "another kernel"
    if "cmdline" in sections:
        yield "another kernel command line"
    yield from _path_reasons(paths)
    for where in ramdisks:
        what = sections[where].what
        yield f"{where} {'is stored differently' if what is ChangeKind.LAYOUT else what}"
    is_measured = bool(paths or ramdisks or sections.keys() & {"kernel", "cmdline"})
    if "signature" in sections and ("PCR8" in pcrs_changed or not is_measured):
        yield "the signature only" if len(sections) == 1 and not is_measured else "the signature"
    if "metadata" in sections and not is_measured:
        yield "the metadata only" if len(sections) == 1 else "the metadata"
    if any(where.startswith("header:") for where in sections):
        yield "header fields"


def _path_reasons(changes: Sequence[Change]) -> Iterator[str]:
    parts: dict[_Part, dict[str, ChangeKind]] = {part: {} for part in _Part}
    for change in changes:
        parts[_part(change)].setdefault(change.path or "", change.what)
    times = parts.pop(_Part.TIMES)
    told = {path for paths in parts.values() for path in paths}
    if times and not told:
        yield f"time stamps only ({len(times)} files); build in reproducible mode to be free of them"
        return
    if parts[_Part.MODEL] and parts[_Part.CARD]:
        yield f"the model ({_paths(parts.pop(_Part.MODEL))}) with its card"
        del parts[_Part.CARD]
    for part, paths in parts.items():
        if part is _Part.PACKAGES and paths:
            yield f"packages ({_some(sorted({_package(path) or path for path in paths}), 5)})"
        elif paths:
            yield f"{part} ({_paths(paths)})"
    # The time stamps of a named path and of its folders follow from the named change.
    folders = {path[:end] for path in told for end, letter in enumerate(path) if letter == "/"}
    others = [path for path in times if path not in told | folders]
    if others:
        yield f"time stamps ({_some(others, 1)})"


def _part(change: Change) -> _Part:
    path = change.path or ""
    if change.what is ChangeKind.MTIME:
        return _Part.TIMES
    if change.where.startswith("ramdisk0:"):
        return _Part.BOOT
    for part, pattern in ((_Part.MODEL, _MODEL), (_Part.CARD, _CARD), (_Part.PAYLOAD, _PAYLOAD)):
        if pattern.search(path):
            return part
    return _Part.FILES if _package(path) is None else _Part.PACKAGES


def _paths(paths: Mapping[str, ChangeKind]) -> str:
    return _some(
        [path if what is ChangeKind.CONTENT else f"{path} {what}" for path, what in paths.items()], 1
    )


def _some(names: Sequence[str], count: int) -> str:
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more


def _package(path: str) -> str | None:
    for pattern in (_DIST_INFO, _SITE_PACKAGE):
        match = pattern.search(path)
        if match:
            return match[1]
    match = _SYSTEM_PACKAGE.search(path)
    return (match[1] or "the system's package manager") if match else None
