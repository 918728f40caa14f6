"""Defects of an image's command: an enclave whose command cannot start ends at once, without a message."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from enclavectl.eif.format import Arch
from enclavectl.eif.ramdisk.cpio import show
from enclavectl.eif.ramdisk.layers import FlattenedImage
from enclavectl.eif.ramdisk.manifest import ImageConfig
from enclavectl.image.findings import LintFinding, Rule
from enclavectl.image.image_files import locate
from enclavectl.image.program import ProgramCheck

_WHERE = "image: CMD"
_SHELLS = frozenset({"sh", "bash", "dash", "ash"})
# With one of these, only a shell knows what the words of a command are.
_SYNTAX = frozenset(";&|<>()$`\\\n*?[]{}~#!")
_NAME = re.compile(r"[A-Za-z0-9_.+-]+")
# What POSIX and dash have in the shell itself, beside what begins with a character of _SYNTAX.
_BUILTINS = frozenset({
    ".", ":", "alias", "bg", "break", "case", "cd", "chdir", "command", "continue", "do", "done", "echo",
    "elif", "else", "esac", "eval", "exec", "exit", "export", "false", "fc", "fg", "fi", "for", "function",
    "getopts", "hash", "if", "jobs", "kill", "let", "local", "printf", "pwd", "read", "readonly", "return",
    "set", "shift", "source", "test", "then", "time", "times", "trap", "true", "type", "ulimit", "umask",
    "unalias", "unset", "until", "wait", "while",
})  # fmt: skip
_PLAIN_COMMAND = re.compile(r"\s*(?:exec\s+)?(/[\w./+-]+)(?:\s|$)")


def lint_command(tree: FlattenedImage, config: ImageConfig, arch: Arch) -> Iterator[LintFinding]:
    """Find what keeps the command from starting, and arguments that name files that it will not find."""
    words = config.cmd if config.cmd is not None else config.entrypoint
    if not words:
        return  # another rule reports a missing command
    paths = [value.removeprefix("PATH=") for value in config.env if value.startswith("PATH=")]
    program = ProgramCheck(tree, tuple(_bytes(paths[-1]).split(b":")) if paths else None, arch)
    for verdict in program.judge_command(words[0], is_shell_form=tuple(words[:2]) == ("/bin/sh", "-c")):
        rule = Rule.COMMAND_SCRIPT if verdict.is_mild else Rule.COMMAND
        yield LintFinding(rule=rule, where=_WHERE, message=verdict.message)
    inner = _shell_words(words)
    if inner:
        for message in _shell_problems(program, inner[0]):
            yield LintFinding(rule=Rule.COMMAND_SCRIPT, where=_WHERE, message=f"in its shell: {message}")
    yield from _lint_arguments(tree, config, inner or words[1:])


def _shell_words(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return the words of the first command that a shell gets; none if it needs a shell to tell them."""
    if words[0].rpartition("/")[2] not in _SHELLS or len(words) < 3 or words[1] != "-c":
        return ()
    text = words[2]
    if _SYNTAX.intersection(text):
        first = _PLAIN_COMMAND.match(text)  # what stands first runs first, and in the folder of the start
        return (first[1],) if first else ()
    try:
        inner = shlex.split(text)
    except ValueError:  # a quote that does not end
        return ()
    return tuple(inner[1:] if inner[:1] == ["exec"] else inner)


def _shell_problems(program: ProgramCheck, word: str) -> Iterator[str]:
    """Yield why the shell cannot start a program."""
    if "/" in word:
        yield from (verdict.message for verdict in program.judge_command(word, is_shell_form=False))
    elif _NAME.fullmatch(word) and word not in _BUILTINS and program.find(_bytes(word)) is None:
        yield f"{word[:80]} cannot start: it is in no folder of PATH"


def _lint_arguments(
    tree: FlattenedImage, config: ImageConfig, arguments: tuple[str, ...]
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
