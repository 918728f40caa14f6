"""A check that the enclave's init can start a program of an image, by the rules of execvpe and the kernel.

A program is an executable file: an ELF program for this machine whose loader exists, or a script whose
interpreter is a program (fs/binfmt_elf.c, fs/binfmt_script.c). execvpe hands a file of neither kind to
/bin/sh.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from enclavectl.eif.format import Arch
from enclavectl.eif.ramdisk.cpio import show
from enclavectl.eif.ramdisk.entries import Entry, Kind
from enclavectl.eif.ramdisk.layers import FlattenedImage
from enclavectl.image.image_files import PathTarget, locate
from enclavectl.suggest import nearest

# init looks for a command without a slash here: init has no PATH, so execvpe's default applies.
_INIT_PATH = (b"sbin", b"usr/sbin", b"bin", b"usr/bin")
_ENV_PATH = (b"bin", b"usr/bin")  # execvp's default if PATH is unset
# GNU coreutils 8.30 and FreeBSD: the option after which env splits a script's one argument into words.
_SPLITS = re.compile(rb"-[iv]*S\s*|--split-string[=\s]\s*")
_MAX_INTERPRETERS = 5  # the kernel fails after the fifth script in a chain
_SCRIPT_HEAD = 256  # BINPRM_BUF_SIZE: the kernel reads no more of a script's first line
_MACHINES = {Arch.X86_64: 62, Arch.ARM64: 183}  # ELF's e_machine
_MACHINE_NAMES = {3: "i386", 40: "ARM", 62: "x86_64", 183: "aarch64", 243: "RISC-V"}
_ELF64 = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_PT_INTERP = 3
_MAX_HEADERS = 256  # linkers write about ten
_MAX_LOADER = 4096  # PATH_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Why a program cannot start; if ``is_mild``, it starts but probably does not work as intended."""

    message: str
    is_mild: bool = False


@dataclass(frozen=True, slots=True)
class ProgramCheck:
    """The check of one image's programs; ``search_path`` has the folders of its PATH, if it has one."""

    tree: FlattenedImage
    search_path: tuple[bytes, ...] | None
    arch: Arch

    def judge_command(self, word: str, *, is_shell_form: bool) -> Iterator[Verdict]:
        """Judge the first word of the command, which init executes."""
        path = word.encode("utf-8", "surrogateescape")
        places = [path] if b"/" in path else [folder + b"/" + path for folder in _INIT_PATH]
        located = [locate(self.tree, place) for place in places]
        found = next((one for one in located if one.entry is not None), located[0])
        if found.entry is None and is_shell_form:
            yield Verdict(
                message="CMD is in the shell form, and the image has no /bin/sh; write it as a list, "
                'such as CMD ["/app/run"]'
            )
            return
        yield from self._judge(found, word, depth=0)

    def _judge(self, found: PathTarget, word: str, *, depth: int) -> Iterator[Verdict]:
        shown = word[:120]
        if found.entry is None:
            yield _cannot(shown, self._absent(found))
            return
        entry = found.entry
        if entry.kind is not Kind.FILE or entry.data is None:
            what = "a folder" if entry.kind is Kind.DIRECTORY else "no regular file"
            yield _cannot(shown, f"it is {what}")
            return
        if not entry.perm & 0o111:
            yield _cannot(shown, f"it is not executable (mode {entry.perm:04o}); RUN chmod +x")
            return
        head = entry.data.head(_SCRIPT_HEAD)
        if head.startswith(b"\x7fELF"):
            yield from self._judge_elf(entry, shown)
        elif head.startswith(b"#!"):
            yield from self._judge_script(head, shown, depth)
        else:
            yield from self._judge_other(head, shown)

    def _absent(self, found: PathTarget) -> str:
        """Describe a missing program, with the name that the author may have intended."""
        problem = f"{found.problem}: /{show(found.path)}"
        folder, _, base = found.path.rpartition(b"/")
        near = nearest(show(base), map(show, self.tree.siblings(folder)))
        if found.problem == "there is no such file" and near is not None:
            problem += f"; the nearest name there is {near!r}"
        return problem

    def _judge_elf(self, entry: Entry, shown: str) -> Iterator[Verdict]:
        head = _part(entry, 0, _ELF64.size)
        if len(head) < _ELF64.size:
            yield _cannot(shown, "the program is cut short")
            return
        ident, kind, machine, _, _, at, _, _, _, size, count, *_ = _ELF64.unpack(head)
        wanted = _MACHINES[self.arch]
        if ident[4] != 2 or ident[5] != 1 or machine != wanted:
            found = _MACHINE_NAMES.get(machine, f"machine {machine}")
            yield _cannot(
                shown,
                f"it is a program for {found}, and the image for {_MACHINE_NAMES[wanted]}; build it for that",
            )
            return
        if kind not in (2, 3):  # ET_EXEC, ET_DYN
            yield _cannot(shown, "it is no program (an object file, or a core dump)")
            return
        for number in range(min(count, _MAX_HEADERS) if size == _PROGRAM_HEADER.size else 0):
            header = _part(entry, at + number * size, size)
            if len(header) < size:
                yield _cannot(shown, "the program is cut short")
                return
            kind, _, offset, _, _, length, _, _ = _PROGRAM_HEADER.unpack(header)
            if kind == _PT_INTERP:
                name = _part(entry, offset, min(length, _MAX_LOADER)).rstrip(b"\0")
                yield from self._judge_loader(name, shown)

    def _judge_loader(self, name: bytes, shown: str) -> Iterator[Verdict]:
        found = locate(self.tree, name)
        if found.entry is None or found.entry.kind is not Kind.FILE:
            yield _cannot(
                shown,
                f"its loader {show(name)[:120]} is not in the image (is it for "
                "another C library, as glibc's in an image with musl?); build it in this image, or link it "
                "statically",
            )
        elif not found.entry.perm & 0o111:
            yield _cannot(shown, f"its loader {show(name)[:120]} is not executable")

    def _judge_script(self, head: bytes, shown: str, depth: int) -> Iterator[Verdict]:
        line = head[2:].partition(b"\n")[0]
        if line.endswith(b"\r"):
            yield _cannot(
                shown,
                f"its first line ends in a carriage return (Windows line ends), "
                f"so the kernel looks for {show(line.strip())!r}; save it with line feeds only "
                "(sed -i 's/\\r$//')",
            )
            return
        name, argument, *_ = [*line.strip(b" \t").replace(b"\t", b" ").split(b" ", 1), b"", b""]
        if not name:
            yield _cannot(shown, "its first line names no interpreter")
            return
        if depth + 1 >= _MAX_INTERPRETERS:
            yield _cannot(shown, "its interpreters are scripts without an end")
            return
        found = locate(self.tree, name)
        if found.entry is None:
            yield _cannot(shown, f"its interpreter {show(name)[:120]} is not there ({self._absent(found)})")
            return
        yield from self._judge(found, f"{shown}'s interpreter {show(name)}", depth=depth + 1)
        if name.rpartition(b"/")[2] == b"env":
            yield from self._judge_env(argument, shown, depth)

    def _judge_env(self, argument: bytes, shown: str, depth: int) -> Iterator[Verdict]:
        """Judge the program that env starts (``#!/usr/bin/env python3``): env searches the image's PATH."""
        splits = _SPLITS.match(argument)
        # The kernel hands all that follows over as one word.
        words = argument[splits.end() :].split() if splits else [argument.rstrip(b" \t")]
        wanted = next((word for word in words if b"=" not in word and not word.startswith(b"-")), b"")
        if not wanted or b"/" in wanted:
            return
        if b" " in wanted:
            yield _cannot(
                shown, f"env looks for a program called {show(wanted)[:80]!r}; write #!/usr/bin/env -S ..."
            )
            return
        found = self.find(wanted)
        if found is None:
            yield _cannot(shown, f"its interpreter {show(wanted)[:80]} is in no folder of PATH")
        else:
            yield from self._judge(found, f"{shown}'s interpreter {show(wanted)}", depth=depth + 1)

    def find(self, name: bytes) -> PathTarget | None:
        """Find a program in the folders of the image's PATH, as env and shells do."""
        folders = _ENV_PATH if self.search_path is None else self.search_path
        places = (locate(self.tree, folder + b"/" + name) for folder in folders)
        return next((place for place in places if place.entry is not None), None)

    def _judge_other(self, head: bytes, shown: str) -> Iterator[Verdict]:
        if not head:
            yield _cannot(shown, "it is empty")
            return
        if locate(self.tree, b"bin/sh").entry is None:
            yield _cannot(
                shown,
                "it is no ELF program, has no first line such as #!/bin/sh, "
                "and there is no /bin/sh that could try",
            )
            return
        why = "has no first line such as #!/bin/sh"
        if head.startswith(b"\xef\xbb\xbf"):
            why = "begins with a byte order mark, so that its first line does not count"
        yield Verdict(message=f"{shown} {why}; /bin/sh will run it", is_mild=True)


def _cannot(shown: str, why: str) -> Verdict:
    return Verdict(message=f"{shown} cannot start: {why}")


def _part(entry: Entry, offset: int, size: int) -> bytes:
    """Read at most ``size`` bytes of a file's content from ``offset`` on."""
    part, at = b"", 0
    for chunk in entry.data.chunks() if entry.data is not None else ():
        part += chunk[max(0, offset - at) :][: size - len(part)]
        at += len(chunk)
        if len(part) >= size:
            break
    return part
