"""Reads the Markdown pages as a reviewer would: long sentences, long lines, dead links, absent files.

`python -m tools.docs_check` prints what it finds; tests/test_docs.py runs the same.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")))
# GOV.UK's guide asks for 25 words; a sentence with names of options needs some more.
MAX_WORDS = 35
MAX_COLUMNS = 100  # two pages side by side on a laptop's screen

_FENCE = re.compile(r" *(`{3,})")
_CODE = re.compile(r"(`+)(.+?)\1", re.DOTALL)
_LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")
_ITEM = re.compile(r" *(?:[-*]|\d+\.) +")
_SENTENCE_END = re.compile(r"""(?<=[.!?])["')*]*\s+""")
_ROOTED = re.compile(
    r"(?:enclavectl|enclave_payload|docs|configs|tests|tools|samples|fuzz|benchmarks|\.ci)/[\w./-]*"
)


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Prose of one paragraph, list item or heading, joined to one line."""

    line: int
    text: str
    is_heading: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """One Markdown page, taken apart."""

    prose: tuple[Paragraph, ...]
    code: tuple[tuple[int, str], ...]  # lines of code blocks, with their line numbers
    wide: tuple[int, ...]  # lines of prose over MAX_COLUMNS


def parse_page(text: str) -> Page:
    """Divide a page into prose and code. Table rows count as headings, which no limit measures."""
    prose: list[Paragraph] = []
    code: list[tuple[int, str]] = []
    wide: list[int] = []
    fence = ""
    is_continued = False  # the last paragraph goes on
    for number, line in enumerate(text.splitlines(), start=1):
        found = _FENCE.match(line)
        if fence:
            if found and line.strip() == fence:
                fence = ""
            else:
                code.append((number, line))
            continue
        if found:
            fence, is_continued = found[1], False
        elif line.startswith("    ") and not is_continued:
            code.append((number, line.strip()))
        elif not line.strip() or line.startswith(("|", "#")):
            is_continued = False
            if line.strip():
                prose.append(Paragraph(number, line, is_heading=True))
        else:
            if len(line) > MAX_COLUMNS and " " in line.strip():
                wide.append(number)
            if is_continued and not _ITEM.match(line):
                prose[-1] = Paragraph(prose[-1].line, f"{prose[-1].text} {line.strip()}")
            else:
                prose.append(Paragraph(number, line.strip()))
            is_continued = True
    return Page(tuple(prose), tuple(code), tuple(wide))


def sentences(text: str) -> list[str]:
    """Split a paragraph into sentences; code and the addresses of links count as one word each."""
    plain = _LINK.sub(r"\1", _CODE.sub("code", _ITEM.sub("", text, count=1)))
    return [sentence for sentence in _SENTENCE_END.split(plain) if sentence.strip()]


def anchors(page: Page) -> set[str]:
    """Return the anchors that GitHub and the site give the headings of a page."""
    found = set()
    for paragraph in page.prose:
        if paragraph.text.startswith("#"):
            title = _LINK.sub(r"\1", paragraph.text.lstrip("#").strip()).lower()
            found.add(re.sub(r"[^\w\- ]", "", title).replace(" ", "-"))
    return found


def code_texts(page: Page) -> Iterator[tuple[int, str]]:
    """Each line of a code block and each code span, with its line number."""
    yield from page.code
    for paragraph in page.prose:
        for found in _CODE.finditer(paragraph.text):
            yield paragraph.line, found[2]


def findings(path: Path, root: Path = ROOT) -> Iterator[str]:
    """Yield each defect of one page, with file and line."""
    page = parse_page(path.read_text(encoding="utf-8"))
    found = [(line, f"expected at most {MAX_COLUMNS} columns; wrap the line") for line in page.wide]
    for paragraph in page.prose:
        problems = _row_problems(paragraph.text) if paragraph.is_heading else _length_problems(paragraph.text)
        found += [(paragraph.line, problem) for problem in [*problems, *_link_problems(path, paragraph.text)]]
    for line, text in code_texts(page):
        if _ROOTED.fullmatch(text) and not (root / text).exists():
            found.append((line, f"{text}: the repository has no such file"))
    for line, problem in sorted(found):
        yield f"{path.relative_to(root)}:{line}: {problem}"


def _length_problems(text: str) -> Iterator[str]:
    for sentence in sentences(text):
        if (count := len(sentence.split())) > MAX_WORDS:
            yield f"expected at most {MAX_WORDS} words, found a sentence of {count}: {sentence[:60]}..."


def _row_problems(text: str) -> Iterator[str]:
    if text.startswith("|") and any("|" in found[2] for found in _CODE.finditer(text)):
        yield "a pipe in code ends the cell on GitHub; say it without"


def _link_problems(page: Path, text: str) -> Iterator[str]:
    for _, target in _LINK.findall(_CODE.sub("code", text)):
        if problem := _link_problem(page, target):
            yield f"{target}: {problem}"


def _link_problem(page: Path, target: str) -> str | None:
    """Why a relative link leads nowhere, or None."""
    if re.match(r"[a-z]+:", target):
        return None
    file, _, anchor = target.partition("#")
    destination = page.parent / file if file else page
    if not destination.exists():
        return "no such file"
    if anchor and anchor not in anchors(parse_page(destination.read_text(encoding="utf-8"))):
        return "no such heading"
    return None


if __name__ == "__main__":
    problems = [problem for page in PAGES for problem in findings(page)]
    for line in problems:
        print(line)
    sys.exit(bool(problems))
