"""Defects that a Dockerfile's text shows, for ``build --dry-run``.

A real build checks the layers, which is more exact; this module reads only the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from enclavectl.image.dockerfile import Dockerfile, Instruction
from enclavectl.image.findings import LintFinding, Rule
from enclavectl.image.image_files import MOUNTED
from enclavectl.image.lint import lint_words
from enclavectl.image.secrets import secret_arguments

_SHOWN = 80  # characters of a command or name in a message: one line of a terminal
# A program that makes private keys, with its arguments up to the end of the shell command.
_KEY_MAKERS = re.compile(
    r"\b(?:ssh-keygen\b(?![^&|;]{0,400}\s-[elyFRHB]\b)|openssl\s+(?:genrsa|genpkey|gendsa|"
    r"(?:ecparam|dsaparam)\b[^&|;]{0,400}\s-genkey|req\b[^&|;]{0,400}\s-newkey)|keytool\b[^&|;]{0,400}\s-genkey(?:pair)?|"
    r"gpg2?\b[^&|;]{0,400}--(?:full-)?gen(?:erate)?-key|wg\s+genkey|age-keygen)\b[^&|;]{0,400}"
)


def lint_dockerfile(dockerfile: Dockerfile) -> Iterator[LintFinding]:
    """Find steps that make a private key or contain a secret, and a command that cannot start."""
    for step in dockerfile.instructions:
        if step.name not in ("RUN", "ENV", "ARG"):
            continue
        where = f"context: Dockerfile, line {step.line}"
        text = " ".join((step.text, *step.heredocs))
        if step.name == "RUN" and (maker := _KEY_MAKERS.search(text)):
            shown = " ".join(maker[0].split())[:_SHOWN]
            message = f"makes a private key, which stays in this step's layer: {shown}"
            yield LintFinding(rule=Rule.PRIVATE_KEY, where=where, message=message)
        for name in secret_arguments(text):
            message = f"a value for {name[:_SHOWN]}, which stays in the image; remove it"
            yield LintFinding(rule=Rule.CREDENTIAL, where=where, message=message)
    yield from _lint_command(dockerfile)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Command:
    """CMD and ENTRYPOINT of a stage as far as its Dockerfile sets them, and the line that set one last."""

    cmd: Sequence[str] | None = None
    entrypoint: Sequence[str] | None = None
    line: int = 0


def _lint_command(dockerfile: Dockerfile) -> Iterator[LintFinding]:
    """Check the last stage's command; what its base image adds is unknown here."""
    stages: dict[str, _Command] = {}
    command, name = _Command(), ""
    for step in dockerfile.instructions:
        if step.is_deferred:
            continue
        if step.name == "FROM":
            base, *alias = step.words() or [""]
            command = stages.get(base.lower(), _Command())
            name = alias[1].lower() if len(alias) == 2 else ""
        elif step.name == "CMD":
            command = replace(command, cmd=_words(step), line=step.line)
        elif step.name == "ENTRYPOINT":
            command = _Command(entrypoint=_words(step), line=step.line)
        if name:
            stages[name] = command
    where = f"context: Dockerfile, line {command.line}"
    yield from lint_words(command.cmd, command.entrypoint, where)
    words = command.cmd or command.entrypoint or [""]
    top = words[0].strip("/").partition("/")[0].encode(errors="surrogateescape")
    if words[0].startswith("/") and top in MOUNTED:
        message = (
            f"{words[0][:_SHOWN]} cannot start: the enclave's init mounts a file system over /{top.decode()}"
        )
        yield LintFinding(rule=Rule.COMMAND, where=where, message=message)


def _words(step: Instruction) -> Sequence[str]:
    """Return the argv of a command: its JSON list, or the shell and the text."""
    words = step.argv()
    return ["/bin/sh", "-c", step.text] if words is None else words
