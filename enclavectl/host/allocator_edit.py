"""An editor of allocator.yaml that keeps the comments of the person who wrote it.

Whatever the file holds, the result passes ``parse_allocator``, means exactly the reservation, and still has
every comment. Lines that AWS's allocator cannot read become comments. A second edit changes nothing.
"""

from __future__ import annotations

import re

from enclavectl.host.reservation import AllocatorError, Reservation, parse_allocator

_SETTING = re.compile(r"""[ \t]*(["']?)(memory_mib|cpu_count|cpu_pool)\1[ \t]*:(.*)""")
_LIST_ITEM = re.compile(r"""[ \t]*-[ \t]+["']?(?:memory_mib|cpu_count|cpu_pool)["']?[ \t]*:""")
_MARK = "---"


def edit_allocator(data: bytes, wanted: Reservation, name: str) -> bytes:
    """Put the wanted reservation into the file; return the same bytes if it is already there.

    Raises:
        AllocatorError: the file is a list of several reservations, a form of newer allocators, which a single
            reservation must not replace.
    """
    if _already(data, wanted, name):
        return data
    lines = _lines(data)
    for number, line in enumerate(lines, 1):
        if _LIST_ITEM.match(line):
            raise AllocatorError(
                f"{name}:{number}: expected one reservation, found a list of several",
                hint="edit it by hand: replacing it would take resources from other enclaves",
            )
    edited = ("\n".join(_edited(lines, wanted)) + "\n").encode()
    if parse_allocator(edited, name) != wanted:
        raise AssertionError(f"{name}: our own edit reads back as something else")
    return edited


def _already(data: bytes, wanted: Reservation, name: str) -> bool:
    try:
        return parse_allocator(data, name) == wanted
    except AllocatorError:
        return False  # the edit repairs it


def _lines(data: bytes) -> list[str]:
    lines = re.split(rb"\r\n|\n|\r", data.removeprefix(b"\xef\xbb\xbf").replace(b"\0", b""))
    return [_text(line) for line in (lines[:-1] if not lines[-1] else lines)]


def _text(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        # The most likely encoding of a person's editor after UTF-8, and it decodes any byte.
        return line.decode("latin-1")


def _edited(lines: list[str], wanted: Reservation) -> list[str]:
    left = dict(wanted.lines)
    out: list[str] = []
    for line in lines:
        text = line.strip(" \t")
        if text == _MARK:
            continue
        match = _SETTING.fullmatch(line)
        if match is not None:
            comment = _inline_comment(match[3])
            if comment:
                out.append(_comment(comment))
            if match[2] in left:
                out.append(left.pop(match[2]))
        elif text.startswith("#"):
            out.append(_comment(line.rstrip(" \t")))
        else:
            out.append(_comment(f"# {text}") if text else "#")
    out += left.values()
    # Insert at the mark if only comments precede it, so that a header stays at the top.
    before = next((i for i, line in enumerate(lines) if line.strip(" \t") == _MARK), 0)
    head = lines[:before]
    at = before if all(not line.strip(" \t") or line.lstrip(" \t").startswith("#") for line in head) else 0
    return [*out[:at], _MARK, *out[at:]]


def _inline_comment(value: str) -> str:
    """Return the comment ``# ...`` after a value, or nothing; a # inside quotes is part of the value."""
    quote = ""
    for index, character in enumerate(value):
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'" and not value[:index].strip(" \t"):
            quote = character
        elif character == "#" and (index == 0 or value[index - 1] in " \t"):
            return value[index:].rstrip(" \t")
    return ""


def _comment(line: str) -> str:
    # The allocator joins a line that ends in a backslash with the next one, even if it is a comment.
    return f"{line} ." if line.endswith("\\") else line
