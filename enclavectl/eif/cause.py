"""One change between two images, and the sentence that sums many of them up."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

_MODEL = re.compile(r"\.tflite$")
_DIST_INFO = re.compile(r"/([^/]+?)-[^/-]+\.dist-info(?:/|$)")
_SITE_PACKAGE = re.compile(r"/(?:site|dist)-packages/([^/]+)")
_SYSTEM_PACKAGE = re.compile(
    r"/(?:var/lib/dpkg|lib/apk/db|var/lib/rpm|usr/lib/sysimage/rpm)(?:/info/([^/.:]+)|/|$)"
)


class What(StrEnum):
    """In which respect something changed."""

    ADDED = "added"
    REMOVED = "removed"
    CONTENT = "content"
    TARGET = "target"
    KIND = "kind"
    MODE = "mode"
    OWNER = "owner"
    MTIME = "mtime"
    LAYOUT = "layout"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """``where`` is a section, ``header:FIELD`` or ``ramdiskN:/path``; the values are for people."""

    where: str
    what: What
    before: str | None = None
    after: str | None = None
    note: str | None = None

    @property
    def path(self) -> str | None:
        """The path inside a ramdisk, if it is about one."""
        section, colon, path = self.where.partition(":")
        return path if colon and section.startswith("ramdisk") else None

    def to_json(self) -> dict[str, str]:
        """The change as JSON values, without the fields that are empty."""
        value = {"where": self.where, "what": self.what.value}
        optional = {"before": self.before, "after": self.after, "note": self.note}
        return value | {key: text for key, text in optional.items() if text is not None}


def likely_cause(changes: Sequence[Change], pcrs_changed: Sequence[str]) -> str:
    """One sentence: what differs, the most telling first, and whether a PCR moved because of it."""
    if not changes:
        return "the images are identical"
    reasons = list(dict.fromkeys(_reasons(changes)))
    text = "; ".join(reasons)
    return text if pcrs_changed else f"{text}; no PCR changes"


def _reasons(changes: Sequence[Change]) -> Iterator[str]:
    sections = {change.where for change in changes if change.path is None}
    if "kernel" in sections:
        yield "another kernel"
    if "cmdline" in sections:
        yield "another kernel command line"
    paths = [change for change in changes if change.path is not None]
    yield from _path_reasons(paths)
    for change in changes:
        if change.path is None and change.where.startswith("ramdisk"):
            yield f"{change.where} {'is stored differently' if change.what is What.LAYOUT else change.what}"
    only = " only" if sections <= {"metadata", "signature"} and not paths else ""
    if "signature" in sections:
        yield f"the signature{only}" if sections == {"signature"} else "the signature"
    if "metadata" in sections:
        yield f"the metadata{only}" if sections == {"metadata"} else "the metadata"
    if any(where.startswith("header:") for where in sections):
        yield "header fields"


def _path_reasons(paths: Sequence[Change]) -> Iterator[str]:
    if not paths:
        return
    if all(change.what is What.MTIME for change in paths):
        yield f"time stamps only ({len(paths)} files); build in reproducible mode to be free of them"
        return
    telling = [change for change in paths if change.what is not What.MTIME]
    rest = []
    packages: set[str] = set()
    for change in telling:
        package = _package(change.path or "")
        if _MODEL.search(change.path or ""):
            yield f"the model ({change.path})"
        elif change.where.startswith("ramdisk0:"):
            yield f"the boot files ({change.path})"
        elif package is not None:
            packages.add(package)
        else:
            rest.append(change)
    if packages:
        named = sorted(packages)
        shown = ", ".join(named[:5]) + (f" and {len(named) - 5} more" if len(named) > 5 else "")
        yield f"packages ({shown})"
    if rest:
        more = f" and {len(rest) - 1} more" if len(rest) > 1 else ""
        yield f"files ({rest[0].path} {rest[0].what}{more})"


def _package(path: str) -> str | None:
    for pattern in (_DIST_INFO, _SITE_PACKAGE):
        match = pattern.search(path)
        if match:
            return match[1]
    match = _SYSTEM_PACKAGE.search(path)
    return (match[1] or "the system's package manager") if match else None
