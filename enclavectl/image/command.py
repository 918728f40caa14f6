"""Defects of an image's command: an enclave whose command cannot start ends at once, without a message."""

from __future__ import annotations

import re
from collections.abc import Iterator

from enclavectl.eif.format import Arch
from enclavectl.eif.ramdisk.cpio import show
from enclavectl.eif.ramdisk.manifest import ImageConfig
from enclavectl.image.findings import LintFinding, Rule
from enclavectl.image.image_files import ImageTree, locate
from enclavectl.image.program import ProgramCheck

_WHERE = "image: CMD"
_SHELLS = frozenset({"sh", "bash", "dash", "ash"})
_PLAIN_COMMAND = re.compile(r"\s*(?:exec\s+)?(/[\w./+-]+)(?:\s|$)")


def lint_command(tree: ImageTree, config: ImageConfig, arch: Arch) -> Iterator[LintFinding]:
    """Find what keeps the command from starting, and arguments that name files that it will not find."""
    words = config.cmd if config.cmd is not None else config.entrypoint
    if not words:
        return  # another rule reports a missing command
    paths = [value.removeprefix("PATH=") for value in config.env if value.startswith("PATH=")]
    program = ProgramCheck(tree, tuple(_bytes(paths[-1]).split(b":")) if paths else None, arch)
    for verdict in program.judge_command(words[0], is_shell_form=tuple(words[:2]) == ("/bin/sh", "-c")):
        rule = Rule.COMMAND_SCRIPT if verdict.is_mild else Rule.COMMAND
        yield LintFinding(rule=rule, where=_WHERE, message=verdict.message)
    name = words[0].rpartition("/")[2]
    if name in _SHELLS and len(words) > 2 and words[1] == "-c" and (first := _PLAIN_COMMAND.match(words[2])):
        for verdict in program.judge_command(first[1], is_shell_form=False):
            yield LintFinding(
                rule=Rule.COMMAND_SCRIPT, where=_WHERE, message=f"in its shell: {verdict.message}"
            )
    yield from _lint_arguments(tree, config, words[1:])


def _lint_arguments(
    tree: ImageTree, config: ImageConfig, arguments: tuple[str, ...]
) -> Iterator[LintFinding]:
    """Find arguments that name files below WORKDIR: an enclave ignores WORKDIR and starts commands in /."""
    inner = config.raw.get("config")
    folder = inner.get("WorkingDir") if isinstance(inner, dict) else None
    if not isinstance(folder, str) or not folder.strip("/"):
        return
    for word in arguments:
        if word.startswith(("-", "/")) or not word or word in (".", ".."):
            continue
        meant = locate(tree, _bytes(f"{folder}/{word}"))
        if meant.entry is not None and locate(tree, _bytes(word)).entry is None:
            yield LintFinding(
                rule=Rule.WORKDIR_ARGUMENT,
                where=_WHERE,
                message=f"{word[:80]!r} is a file below WORKDIR {folder[:80]}, but the command starts in /; "
                f"write /{show(meant.path)}",
            )


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
