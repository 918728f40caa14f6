r"""One pattern of a ``.dockerignore``, read as Docker reads it.

Docker (moby/patternmatcher 0.6.0) first checks a pattern with the rules of Go's ``filepath.Match`` and then
turns it into one of Go's regular expressions, by simple substitution: ``*`` becomes ``[^/]*``, ``**`` becomes
``(.*/)?`` or ``.*``, ``?`` becomes ``[^/]``. What stands in brackets or behind a backslash goes into the
expression as it is written, so that ``[!a]`` has a ``!`` and an ``a``, and ``\d`` is any digit. We do the
same in the same two steps and translate Go's expression into Python's. tests/vectors/dockerignore has
Docker's verdicts, which the tests compare with ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from enclavectl.errors import UsageError

# Special in a regular expression but not in a pattern. Docker intends {, | and } here as well, but its table
# is too short for them (escapeBytes in patternmatcher.go).
_SPECIAL = frozenset(".+()$")
_REPETITION = re.compile(r"\{[0-9]+(?:,[0-9]*)?\}")
# The syntax of Go's filepath.Match: brackets hold members or ranges of them, and no bare ] or -.
_MEMBER = r"(?:\\.|[^\\\]\-\udc80-\udcff])"
_SYNTAX = re.compile(rf"(?:\\.|\[\^?(?:{_MEMBER}(?:-{_MEMBER})?)+\]|[^\\\[])*", re.DOTALL)
_ESCAPES = {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
# Go's classes are ASCII, and \s has no vertical tab.
_PERL_CLASSES = {"d": "0-9", "s": r"\t\n\f\r ", "w": "0-9A-Za-z_"}
_POSIX_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "ascii": r"\x00-\x7f",
    "blank": r"\t ",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\t\n\v\f\r ",
    "upper": "A-Z",
    "word": "0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
}
_BOM = "\ufeff"
_UNREADABLE = str.maketrans(dict.fromkeys(range(56448, 56576), "�"))


def compile_pattern(pattern: str) -> Callable[[str], bool]:
    r"""Compile a pattern to a function that returns whether it matches a path relative to the context.

    In the pattern and in the path, bytes that are not UTF-8 are decoded with ``surrogateescape``.

    Raises:
        UsageError: Docker refuses the pattern. Or the pattern has, beside a wildcard, an operator of Go's
            that Docker would obey and no author intends: ``|``, ``{2}``, ``\b``, ``\D``, ``[:^alpha:]`` and
            the like.
    """
    if not _SYNTAX.fullmatch(pattern):
        raise _bad(
            pattern, "expected brackets that end, with characters or ranges in them, and no backslash last"
        )
    kind, expression = _to_go(pattern)
    if kind == "exact":
        return lambda path: path == pattern
    if kind == "prefix":
        return lambda path: path.startswith(pattern[:-2])
    if kind == "suffix":
        suffix = pattern[2:]
        return lambda path: path.endswith(suffix) or (suffix.startswith("/") and path == suffix[1:])
    matches = _to_python(expression, pattern).fullmatch
    return lambda path: matches(path.translate(_UNREADABLE)) is not None


def _bad(pattern: str, why: str) -> UsageError:
    shown = pattern[:80].encode("utf-8", "backslashreplace").decode()
    return UsageError(
        f"the ignore pattern {shown!r}: {why}",
        hint="https://docs.docker.com/build/concepts/context/#syntax has the rules",
        code="dockerignore",
    )


def _to_go(pattern: str) -> tuple[str, str]:
    """Return Docker's comparison (``exact``, ``prefix``, ``suffix``, ``expression``) and Go's regex."""
    kind, expression = "exact", []
    text = pattern.removeprefix(_BOM).translate(_UNREADABLE)  # Go's scanner drops a leading byte order mark
    at = steps = 0
    while at < len(text):
        character = text[at]
        at += 1
        if text.startswith("**", at - 1):
            at += 1
            at += text.startswith("/", at)
            if at < len(text):
                expression.append("(.*/)?")
                kind = "expression"
            elif kind == "exact":
                kind = "prefix"
            else:
                expression.append(".*")
                kind = "expression"
            if not steps:
                kind = "suffix"
        elif character in "*?":
            expression.append("[^/]*" if character == "*" else "[^/]")
            kind = "expression"
        elif character in _SPECIAL:
            expression.append("\\" + character)
        elif character == "\\":
            expression.append("\\" + text[at])
            at += 1
            kind = "expression"
        else:
            expression.append(character)
            if character in "[]":
                kind = "expression"
        steps += 1
    return kind, "".join(expression)


def _to_python(expression: str, pattern: str) -> re.Pattern[str]:
    """Translate Go's expression to Python's. It contains only what ``_to_go`` writes."""
    parts, at = [], 0
    while at < len(expression):
        if expression.startswith("(.*/)?", at):
            parts.append("(?:[^\\n]*/)?")
            at += 6
        elif expression.startswith(".*", at):
            parts.append("[^\\n]*")
            at += 2
        elif expression[at] == "[":
            text, at = _class(expression, at + 1, pattern)
            parts.append(text)
            if expression.startswith("*", at):
                parts.append("*")
                at += 1
        elif expression[at] == "\\":
            text, at = _escape(expression, at, pattern)
            parts.append(f"[{text}]")
        elif expression[at] == "|" or _REPETITION.match(expression, at):
            raise _bad(
                pattern, f"Docker does not take {expression[at]!r} for itself here; write [{expression[at]}]"
            )
        elif expression[at] == "^":
            parts.append(r"\A")  # in Go as well, this is the beginning of the text and not a character
            at += 1
        else:
            parts.append(re.escape(expression[at]))
            at += 1
    return re.compile("".join(parts))


def _class(expression: str, at: int, pattern: str) -> tuple[str, int]:
    """Translate the class whose ``[`` stands before ``at``; return it and the offset of its end."""
    negation = "^" if expression.startswith("^", at) else ""
    at += len(negation)
    members, is_first = [], True
    while is_first or not expression.startswith("]", at):
        is_first = False
        if at >= len(expression):
            raise _bad(pattern, "expected a closing bracket")
        end = expression.find(":]", at + 2) if expression.startswith("[:", at) else -1
        if end >= 0:
            name = expression[at + 2 : end]
            if name not in _POSIX_CLASSES:
                raise _bad(pattern, f"no class of characters is called {name!r}")
            members.append(_POSIX_CLASSES[name])
            at = end + 2
            continue
        low, at = _member(expression, at, pattern)
        if len(low) == 1 and expression.startswith("-", at) and expression[at + 1 : at + 2] not in ("", "]"):
            high, at = _member(expression, at + 1, pattern)
            if len(high) != 1 or high < low:
                raise _bad(pattern, "expected a range from a lower to a higher character")
            members.append(f"{re.escape(low)}-{re.escape(high)}")
        else:
            members.append(re.escape(low) if len(low) == 1 else low)
    return f"[{negation}{''.join(members)}]", at + 1


def _member(expression: str, at: int, pattern: str) -> tuple[str, int]:
    r"""Translate one character of a class, or a class such as ``\d`` in it; return it and its end."""
    if expression[at] != "\\":
        return expression[at], at + 1
    text, end = _escape(expression, at, pattern)
    return (text.removeprefix("\\") if len(text) == 2 else text), end


def _escape(expression: str, at: int, pattern: str) -> tuple[str, int]:
    """Translate a backslash and the character after it for the inside of a Python class."""
    name = expression[at + 1]
    if name.isascii() and not name.isalnum():
        return re.escape(name) if name != "^" else r"\^", at + 2
    if name in _ESCAPES:
        return re.escape(_ESCAPES[name]), at + 2
    if name in _PERL_CLASSES:
        return _PERL_CLASSES[name], at + 2
    raise _bad(pattern, f"a backslash before {name!r} is not supported; folders are parted by slashes")
