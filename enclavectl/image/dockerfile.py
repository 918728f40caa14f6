"""What a Dockerfile says of itself that it will do wrong, for whoever only plans a build.

A build looks at the layers themselves and knows better; this reads the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from enclavectl.files import read_bounded
from enclavectl.image.findings import LintFinding, Rule
from enclavectl.image.secrets import secret_arguments

_MAX_DOCKERFILE = 1 << 20
_SHOWN = 80
# Within one command of a shell: up to the next one.
_KEY_MAKERS = re.compile(
    r"\b(?:ssh-keygen\b(?![^&|;]{0,400}\s-[elyFRHB]\b)|openssl\s+(?:genrsa|genpkey|gendsa|"
    r"(?:ecparam|dsaparam)\b[^&|;]{0,400}\s-genkey|req\b[^&|;]{0,400}\s-newkey)|keytool\b[^&|;]{0,400}\s-genkey(?:pair)?|"
    r"gpg2?\b[^&|;]{0,400}--(?:full-)?gen(?:erate)?-key|wg\s+genkey|age-keygen)\b[^&|;]{0,400}"
)
_STEP = re.compile(r"(RUN|ENV|ARG)\s+(.*)", re.IGNORECASE | re.DOTALL)


def lint_dockerfile(path: Path) -> Iterator[LintFinding]:
    """Steps that make a private key, or that have a secret in their words.

    Raises:
        UsageError: the file cannot be read.
    """
    text = read_bounded(path, _MAX_DOCKERFILE, what="Dockerfile").decode(errors="replace")
    for number, step in _steps(text):
        match = _STEP.fullmatch(step)
        if match is None:
            continue
        where = f"context: Dockerfile, line {number}"
        if match[1].upper() == "RUN" and (maker := _KEY_MAKERS.search(match[2])):
            shown = " ".join(maker[0].split())[:_SHOWN]
            message = f"makes a private key, which stays in this step's layer: {shown}"
            yield LintFinding(rule=Rule.PRIVATE_KEY, where=where, message=message)
        for name in secret_arguments(match[2]):
            message = f"a value for {name[:_SHOWN]}, which stays in the image; remove it"
            yield LintFinding(rule=Rule.CREDENTIAL, where=where, message=message)


def _steps(text: str) -> Iterator[tuple[int, str]]:
    """Each instruction with the number of its first line; lines that end in a backslash go on."""
    first, parts = 0, list[str]()
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("#"):
            continue
        first = first if parts else number
        parts.append(line.rstrip().removesuffix("\\"))
        if not line.rstrip().endswith("\\"):
            yield first, " ".join(parts).strip()
            parts = []
    if parts:
        yield first, " ".join(parts).strip()
