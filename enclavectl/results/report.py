"""A report on the disk: one page, or for a long batch an index with numbered pages beside it.

Each page is written as soon as its answers are complete, so a report takes the memory of one page. The pages
get their names together, at the end: a report is whole, or the one before it is untouched. A command that is
killed between two names leaves no index and no page of the report before, so that a page of one report is
never reached from another's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from enclavectl.client.formats import media_type_of
from enclavectl.errors import EnclavectlError, UsageError
from enclavectl.files import (
    refuse_input,
    replace_file,
    require_output,
    require_replaceable,
    stage_file,
    status_at,
)
from enclavectl.new_files import read_head, require_own_or_new
from enclavectl.results.cards import card_id, render_card
from enclavectl.results.html import MARK, render_cards, render_evidence, render_heading, render_page
from enclavectl.results.markup import Object, as_object, string
from enclavectl.results.overview import Overview
from enclavectl.results.page_files import OVERVIEW, link_to, numbered, old_pages, remove_pages, render_links
from enclavectl.results.previews import preview_of

if TYPE_CHECKING:
    from enclavectl.client.pictures import Picture

# With previews of about 40 kB, a page has 6 MB, which browsers open at once.
PICTURES_PER_PAGE = 100
# A page without a picture.
_LEAST_BYTES = 1 << 14
_WHAT = "a report"
_FORCE_HINT = "choose another name, or write over it with --force"
PICTURES_HINT = "name the report first, then the pictures: --report answers.html PICTURE..."


def check_target(
    path: Path, inputs: Iterable[str], total: int, *, force: bool, hint: str = PICTURES_HINT
) -> None:
    """Check that a report on ``total`` pictures may be written to ``path`` and beside it.

    ``force`` allows overwriting a file that is no report, but never an input or a picture. ``hint`` is the
    next step where one of these would be written over.

    Raises:
        UsageError: the folder is missing; or ``path``, or one of the pages, is an input, a picture, a folder,
            or a file that is no report.
    """
    require_output("--report", path, _LEAST_BYTES)
    existing = [one for one in (path, *page_paths(path, total)) if status_at(one) is not None]
    named = list(inputs) if existing else []
    for found in existing:
        refuse_input("--report", found, named, hint=hint)
        _check_existing(found, force=force, hint=hint)


def _check_existing(path: Path, *, force: bool, hint: str) -> None:
    if media_type_of(read_head("--report", path, _WHAT)) is not None:
        raise UsageError(f"--report {path}: expected nothing there or {_WHAT}, found a picture", hint=hint)
    if not force:
        require_own_or_new("--report", path, MARK.encode(), _WHAT, hint=_FORCE_HINT)


def page_paths(path: Path, total: int) -> list[Path]:
    """Return the paths of a report's numbered pages; none if one page holds all ``total`` pictures."""
    if total <= PICTURES_PER_PAGE:
        return []
    return [numbered(path, number) for number in range(1, -(-total // PICTURES_PER_PAGE) + 1)]


class ReportWriter:
    """A writer that takes results in any order and writes pages in the order of the pictures."""

    def __init__(self, path: Path, total: int, head: Object) -> None:
        """Start a report on ``total`` pictures at ``path``, which ``check_target`` has accepted.

        ``head`` is on every page: an ``enclavectl.diagnosis/1`` object without its results.
        """
        self._path = path
        self._total = total
        self._head = head
        labels = as_object(as_object(head, "model"), "labels")
        self._names = {code: string(labels, code) for code in labels}
        self._overview = Overview(total)
        self._pages = page_paths(path, total)
        self._waiting: dict[int, tuple[str, Object]] = {}
        self._cards: list[str] = []
        self._next = 0
        self._page = 0
        self._failure: EnclavectlError | None = None
        self._staged: dict[Path, Path] = {}
        self._staging = ExitStack()  # removes what has not got its name

    def add(self, index: int, result: Object, picture: Picture | None) -> None:
        """Take the result of the picture at ``index``, counted from 0, as JSON values.

        ``finish`` reports a failure to write: answers must not stop for a report.

        Raises:
            UsageError: ``result`` is not an element of ``results``.
        """
        if self._failure is not None:
            return
        preview = None if picture is None or "error" in result else preview_of(picture)
        card = render_card(result, index + 1, preview, self._names)
        self._waiting[index] = card, result
        while self._next in self._waiting:
            self._take(self._next)
            self._next += 1

    def finish(self, later_evidence: Sequence[Object] = ()) -> Path:
        """Write the remaining pages and the index; return the path of the page to open first.

        Pictures without a result are omitted, and the overview gives their number. ``later_evidence`` is that
        of the enclaves which answered after the first was lost.

        Raises:
            HostError: a page could not be written.
        """
        for index in sorted(self._waiting):  # these wait for pictures that never got a result
            self._take(index)
        if self._page < len(self._pages):
            self._write_page(is_last=True)
        if self._failure is None:
            self._try(self._path, self._index({**self._head, "later_evidence": [*later_evidence]}))
        if self._failure is not None:
            self.discard()
            raise self._failure
        self._name_pages()
        return self._path

    def _name_pages(self) -> None:
        """Give the staged pages their names, the index last.

        No file system gives several names in one step. So the old index goes first, and then the old pages:
        else they would lead to new pages, and new ones to them, if this was stopped half-way. Of a longer
        report before, all pages go.
        """
        for path in self._staged.values():
            require_output("--report", path, 0)
            require_replaceable(path)
        pages = [path for path in self._staged.values() if path != self._path]
        pages += old_pages(self._path, self._page + 1)
        if pages:
            remove_pages([*pages, self._path])
        for staged, path in self._staged.items():
            replace_file(staged, path)
        self.discard()

    def discard(self) -> None:
        """Remove what ``finish`` has not put in its place."""
        self._staging.close()
        self._staged.clear()

    def _take(self, index: int) -> None:
        card, result = self._waiting.pop(index)
        while self._pages and self._page < index // PICTURES_PER_PAGE:
            self._write_page()
        self._overview.add(result, index + 1)
        self._cards.append(card)
        if self._pages and index % PICTURES_PER_PAGE == PICTURES_PER_PAGE - 1:
            self._write_page()

    def _write_page(self, *, is_last: bool = False) -> None:
        first, last = self._range(self._page)
        title = f"Pictures {first} to {last} of {self._total}"
        links = [(OVERVIEW, self._path)]
        if self._page:
            links.append(("Previous page", self._pages[self._page - 1]))
        if last < self._total and not is_last:
            links.append(("Next page", self._pages[self._page + 1]))
        page = render_page(
            self._head,
            title,
            render_heading(self._head, title),
            render_links(links),
            render_cards("".join(self._cards)),
            render_links(links),
        )
        self._try(self._pages[self._page], page)
        self._cards.clear()
        self._page += 1

    def _range(self, page: int) -> tuple[int, int]:
        first = page * PICTURES_PER_PAGE + 1
        return first, min(first + PICTURES_PER_PAGE - 1, self._total)

    def _index(self, head: Object) -> str:
        title = self._overview.title
        pages = [
            ("Pictures {} to {}".format(*self._range(page)), self._pages[page]) for page in range(self._page)
        ]
        return render_page(
            head,
            title,
            render_heading(head, title),
            self._overview.render(self._address),
            render_links(pages) if pages else render_cards("".join(self._cards)),
            render_evidence(head),
        )

    def _address(self, position: int) -> str:
        page = link_to(self._pages[(position - 1) // PICTURES_PER_PAGE]) if self._pages else ""
        return f"{page}#{card_id(position)}"

    def _try(self, path: Path, page: str) -> None:
        if self._failure is None:
            try:
                self._stage(path, page)
            except EnclavectlError as exc:
                self._failure = exc

    def _stage(self, path: Path, page: str) -> None:
        with ExitStack() as stack:
            staged = stack.enter_context(stage_file(path.parent))
            staged.file.write(page.encode())
            staged.sync()
            staged.file.close()  # a report may have more pages than a process may have open files
            self._staged[staged.path] = path
            self._staging.enter_context(stack.pop_all())
