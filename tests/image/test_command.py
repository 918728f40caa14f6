"""Each way in which a command cannot start, on images made in code; and those in which it can."""

from __future__ import annotations

import struct
import tarfile
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclavectl.eif.format import Arch
from enclavectl.eif.ramdisk.layers import flatten
from enclavectl.image.command import lint_command
from enclavectl.image.findings import LintFinding, Rule
from tests.eif import samples
from tests.image.test_lint import CONFIG

Member = tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]
LOADER = "/lib64/ld-linux-x86-64.so.2"


def elf(*, machine: int = 62, loader: str = "", kind: int = 2, bits: int = 2) -> bytes:
    """A program of one header, which names a loader, or of none."""
    ident = b"\x7fELF" + bytes([bits, 1, 1]) + bytes(9)
    head = struct.pack(
        "<16sHHIQQQIHHHHHH", ident, kind, machine, 1, 0, 64, 0, 0, 64, 56, int(bool(loader)), 0, 0, 0
    )
    name = loader.encode() + b"\0"
    return head + (
        struct.pack("<IIQQQQQQ", 3, 4, 120, 0, 0, len(name), len(name), 1) + name if loader else b""
    )


def program(name: str, data: bytes = elf(), mode: int = 0o755) -> Member:
    return samples.text(name, data, mode=mode)


def found(
    *members: Member, cmd: Sequence[str] = ("/app/run",), env: Sequence[str] = (), workdir: str = ""
) -> list[LintFinding]:
    config = replace(CONFIG, cmd=tuple(cmd), env=tuple(env), raw={"config": {"WorkingDir": workdir}})
    with flatten([samples.layer(*members)]) as image:
        return list(lint_command(image, config, Arch.X86_64))


SHELL = program("bin/sh")


@pytest.mark.parametrize(
    ("members", "cmd", "words"),
    [
        ([program("app/other")], "/app/run", "there is no such file: /app/run"),
        ([program("app/server")], "/app/sever", "the nearest name there is 'server'"),
        ([program("app/run", mode=0o644)], "/app/run", "not executable (mode 0644)"),
        ([samples.directory("app/run")], "/app/run", "it is a folder"),
        ([samples.member("app/run", tarfile.FIFOTYPE)], "/app/run", "it is no regular file"),
        ([samples.symlink("app/run", "/opt/gone")], "/app/run", "there is no such file: /opt"),
        ([samples.symlink("app/run", "run")], "/app/run", "lead in a circle"),
        ([program("app")], "/app/run", "a file stands where a folder should: /app"),
        ([program("app/run", elf(machine=183))], "/app/run", "for aarch64, and the image for x86_64"),
        ([program("app/run", elf(machine=3, bits=1))], "/app/run", "for i386"),
        ([program("app/run", elf(kind=1))], "/app/run", "an object file"),
        ([program("app/run", elf()[:40])], "/app/run", "cut short"),
        (
            [program("app/run", elf(loader=LOADER)), program("lib/ld-musl-x86_64.so.1")],
            "/app/run",
            f"its loader {LOADER}",
        ),
        (
            [program("app/run", elf(loader=LOADER)), program(LOADER[1:], mode=0o644)],
            "/app/run",
            "loader /lib64/ld-linux-x86-64.so.2 is not executable",
        ),
        ([program("app/run", b"#!/bin/sh\r\nexit\r\n"), SHELL], "/app/run", "carriage return"),
        ([program("app/run", b"#!/bin/bash\n"), SHELL], "/app/run", "its interpreter /bin/bash is not there"),
        (
            [program("app/run", b"#!/bin/sh -e\n"), program("bin/sh", mode=0o644)],
            "/app/run",
            "interpreter /bin/sh cannot start: it is not executable",
        ),
        ([program("app/run", b"#! \n"), SHELL], "/app/run", "names no interpreter"),
        ([program("app/run", b"#!/app/run\n")], "/app/run", "scripts without an end"),
        (
            [program("app/run", b"#!/usr/bin/env python3\n"), program("usr/bin/env")],
            "/app/run",
            "interpreter python3 is in no folder of PATH",
        ),
        (
            [
                program("app/run", b"#!/usr/bin/env python3 -u\n"),
                program("usr/bin/env"),
                program("usr/bin/python3"),
            ],
            "/app/run",
            "env looks for a program called 'python3 -u'",
        ),
        (
            [program("app/run", b"#!/usr/bin/env -S python3 -u\n"), program("usr/bin/env")],
            "/app/run",
            "python3 is in no folder",
        ),
        ([program("app/run", b"echo\n")], "/app/run", "no /bin/sh that could try"),
        ([program("app/run", b""), SHELL], "/app/run", "it is empty"),
        ([program("run/app")], "/run/app", "mounts a file system over /run"),
        ([program("tmp/app")], "/tmp/app", "mounts a file system over /tmp"),
        ([program("dev/shm/app")], "/dev/shm/app", "mounts a file system over /dev"),
        (
            [
                samples.symlink("app/run", "../var/run/app"),
                samples.symlink("var/run", "/run"),
                program("run/app"),
            ],
            "/app/run",
            "over /run",
        ),
        ([program("opt/app")], "app", "there is no such file: /sbin"),
    ],
    ids=[
        "absent",
        "typing-error",
        "not-executable",
        "is-a-folder",
        "is-a-fifo",
        "dangling-link",
        "link-circle",
        "parent-is-a-file",
        "wrong-machine",
        "32-bit",
        "object-file",
        "cut-short",
        "loader-absent-musl",
        "loader-not-executable",
        "script-crlf",
        "script-interpreter-absent",
        "script-interpreter-not-executable",
        "script-without-interpreter",
        "script-circle",
        "env-absent",
        "env-not-split",
        "env-split",
        "text-without-shell",
        "empty",
        "on-run",
        "on-tmp",
        "on-dev-shm",
        "link-to-run",
        "not-on-init-path",
    ],
)
def test_a_command_that_cannot_start_is_refused(members: list[Member], cmd: str, words: str) -> None:
    (finding,) = found(*members, cmd=(cmd,))
    assert finding.rule is Rule.COMMAND
    assert words in finding.message


def test_the_shell_form_needs_a_shell() -> None:
    (finding,) = found(program("app/run"), cmd=("/bin/sh", "-c", "/app/run"))
    assert finding.rule is Rule.COMMAND
    assert 'CMD ["/app/run"]' in finding.message


@pytest.mark.parametrize(
    ("members", "cmd"),
    [
        ([program("usr/bin/sh"), samples.symlink("bin", "usr/bin")], ("/bin/sh",)),
        ([program("usr/bin/sh"), samples.symlink("bin", "/usr/bin")], ("sh",)),
        (
            [
                program("app/run", elf(loader=LOADER)),
                program("usr/lib/x.so"),
                samples.symlink("lib64", "usr/lib64"),
                samples.symlink("usr/lib64/ld-linux-x86-64.so.2", "../lib/x.so"),
            ],
            ("/app/run",),
        ),
        ([program("app/run", b"#! /bin/sh\t-e\nexit\n"), SHELL], ("/app/run",)),
        (
            [program("app/run", b"#!/usr/bin/env python3\n"), program("usr/bin/env"), program("opt/python3")],
            ("/app/run",),
        ),
        ([program("app/run", mode=0o711)], ("/app/../app/./run",)),
        ([SHELL, program("app/run")], ("/bin/sh", "-c", "exec /app/run --listen")),
        ([SHELL], ("/bin/sh", "-c", "cd /app && ./run")),
        ([program("running"), program("tmpfile")], ("/running",)),
    ],
    ids=[
        "usr-merge",
        "usr-merge-by-name",
        "loader-behind-links",
        "script",
        "env",
        "dots",
        "shell-form",
        "shell-words",
        "near-a-mount",
    ],
)
def test_a_command_that_starts_is_left_alone(members: list[Member], cmd: Sequence[str]) -> None:
    assert found(*members, cmd=cmd, env=("PATH=/opt:/usr/bin",)) == []


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"\xef\xbb\xbf#!/bin/sh\n", "byte order mark"), (b"exec sleep 9\n", "no first line such as #!/bin/sh")],
    ids=["script-bom", "script-without-shebang"],
)
def test_what_only_a_shell_can_start_is_said(data: bytes, words: str) -> None:
    (finding,) = found(program("app/run", data), SHELL)
    assert finding.rule is Rule.COMMAND_SCRIPT
    assert words in finding.message


def test_a_program_that_a_shell_would_not_find_is_said() -> None:
    (finding,) = found(SHELL, cmd=("/bin/sh", "-c", "exec /myapp --port 1"))
    assert finding.rule is Rule.COMMAND_SCRIPT
    assert "in its shell: /myapp cannot start" in finding.message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("./run --port 5005", "write /app/run"),
        ("exec ./run", "write /app/run"),
        ("python3 main.py", "write /app/main.py"),
        ("python3 -u 'main.py'", "write /app/main.py"),
        ("pythno3 /app/main.py", "pythno3 cannot start: it is in no folder of PATH"),
        ("./gone", "there is no such file: /gone"),
        ("/app/gone | tee /log", "there is no such file: /app/gone"),
    ],
)
def test_a_shell_that_would_not_find_its_program_is_said(text: str, words: str) -> None:
    """``CMD python3 main.py`` below a WORKDIR, as most Dockerfiles have it."""
    members = [SHELL, program("app/run"), program("app/main.py"), program("usr/bin/python3")]
    findings = found(
        *members, cmd=("/bin/sh", "-c", text), env=("PATH=/usr/local/bin:/usr/bin:/bin",), workdir="/app"
    )
    assert {finding.rule for finding in findings} <= {Rule.COMMAND_SCRIPT, Rule.WORKDIR_ARGUMENT}
    assert words in str([str(finding) for finding in findings])


@pytest.mark.parametrize(
    "text",
    [
        "cd /app && ./run",
        "python3 /app/main.py",
        "exec python3 -m app --name 'a b'",
        "exit 3",
        ". /app/run",
        "PORT=1 python3 /app/main.py",
        "while true; do gone; done",
        "$APP main.py",
        "echo 'main.py",
    ],
)
def test_a_shell_that_finds_its_program_or_is_not_understood_is_left_alone(text: str) -> None:
    members = [SHELL, program("app/run"), program("usr/bin/python3")]
    assert found(*members, cmd=("/bin/sh", "-c", text), env=("PATH=/usr/bin",), workdir="/srv") == []


def test_a_word_that_means_a_file_below_workdir_is_said() -> None:
    files = [
        program("usr/bin/python3"),
        program("srv/app/server.py"),
        program("both"),
        program("srv/app/both"),
    ]
    cmd = ("/usr/bin/python3", "-u", "server.py", "both", "absent", ".", "/srv/app/server.py")
    (finding,) = found(*files, cmd=cmd, workdir="/srv/app")
    assert finding.rule is Rule.WORKDIR_ARGUMENT
    assert "write /srv/app/server.py" in finding.message
    assert found(*files, cmd=cmd, workdir="/") == []


@given(st.binary(max_size=300), st.integers(0, 200))
def test_any_content_gets_some_verdict(tail: bytes, cut: int) -> None:
    for data in (b"\x7fELF" + tail, b"#!" + tail, elf(loader=LOADER)[:cut] + tail):
        assert len(found(program("app/run", data))) <= 2
