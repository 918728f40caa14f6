"""The names of a report's pages, and the removal of those that an earlier, longer report left.

Such a page has previews of patients' pictures, and its links lead into the report that took the earlier one's
place.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path
from urllib.parse import quote

from enclavectl.errors import HostError, UsageError
from enclavectl.files import status_at
from enclavectl.new_files import read_head
from enclavectl.results.html import MARK

# A page's links come after its style, its heading and the notice of the model, which take a few KiB.
_HEAD_BYTES = 1 << 16
_NAVIGATION = '<nav aria-label="Pages">'
OVERVIEW = "Overview"


def numbered(path: Path, number: int) -> Path:
    """Return the path of page ``number``, counted from 1, of the report at ``path``."""
    return path.with_name(f"{path.stem}-{number:03}{path.suffix}")


def link_to(path: Path) -> str:
    """Return the address of a page from the pages beside it."""
    # "./" keeps a file name from being read as an address with a scheme.
    return f"./{quote(os.fsencode(path.name))}"


def render_links(links: Sequence[tuple[str, Path]]) -> str:
    """Render the links of a page, names and the pages' paths."""
    items = " ".join(_anchor(name, path) for name, path in links)
    return f"{_NAVIGATION}{items}</nav>"


def _anchor(name: str, path: Path) -> str:
    return f'<a href="{link_to(path)}">{name}</a>'


def old_pages(path: Path, first: int) -> list[Path]:
    """Return the pages of an earlier report at ``path`` from number ``first`` on.

    A file is such a page only if it links to this report's index as ``render_links`` writes that. The first
    number that is none ends the search: what is behind it may be somebody's own.
    """
    marks = MARK.encode(), f"{_NAVIGATION}{_anchor(OVERVIEW, path)}".encode()
    found: list[Path] = []
    for number in count(first):
        page = numbered(path, number)
        head = _head(page)
        if any(mark not in head for mark in marks):
            return found
        found.append(page)
    return found


def _head(page: Path) -> bytes:
    """Return the first bytes of a regular file; nothing of a link, and of what is none or cannot be read."""
    try:
        status = status_at(page, follows_links=False)
        if status is None or not stat.S_ISREG(status.st_mode):
            return b""
        return read_head("--report", page, "a report", within=_HEAD_BYTES)
    except UsageError:
        return b""


def remove_pages(pages: Iterable[Path]) -> None:
    """Remove pages, the last one first: whoever is stopped half-way leaves none that ``old_pages`` misses.

    Raises:
        HostError: one cannot be removed.
    """
    for page in reversed([*pages]):
        try:
            page.unlink(missing_ok=True)
        except OSError as exc:
            raise HostError(f"{page}: cannot be removed ({exc.strerror})") from exc
