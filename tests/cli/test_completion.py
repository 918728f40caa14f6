"""What shells complete, by the protocol that the scripts of --show-completion speak, and in real shells."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import pytest

from enclavectl.attestation.policy_file import render_policy
from enclavectl.image.findings import BLOCKING
from tests.cli.command import COMMAND, enclavectl
from tests.cli.tree import NAMES
from tests.e2e.cli import Cli
from tests.in_process import expect, new_root

# What a shell may take to start and to ask enclavectl once, on a busy machine.
_SHELL_S = 30.0


def completions(words: Sequence[str], *, home: Path, environ: Mapping[str, str] | None = None) -> list[str]:
    """Return what bash would offer for the last word."""
    asked = {
        "_ENCLAVECTL_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(["enclavectl", *words]),
        "COMP_CWORD": str(len(words)),
    }
    done = enclavectl(home=home, environ={**(environ or {}), **asked})
    assert (done.status, done.err) == (0, "")
    return done.out.split()


def test_commands_and_options_are_completed(tmp_path: Path) -> None:
    assert completions(["pl"], home=tmp_path) == ["plan"]
    assert completions([""], home=tmp_path) == NAMES
    assert completions(["plan", "--mem"], home=tmp_path) == ["--memory"]
    assert completions(["eif", "s"], home=tmp_path) == ["show", "sign"]
    assert completions(["eif", "sign", "--k"], home=tmp_path) == ["--key"]
    assert completions(["run", "--backend", ""], home=tmp_path) == ["auto", "nitro", "qemu", "local"]


def test_models_rules_and_schemas_are_completed(tmp_path: Path) -> None:
    assert completions(["diagnose", "--model", "de"], home=tmp_path) == ["demo-lesion"]
    assert completions(["model", "show", ""], home=tmp_path) == ["demo-lesion"]
    assert completions(["model", "fetch", ""], home=tmp_path) == ["skin-lesion"]
    assert completions(["build", "--allow", ""], home=tmp_path) == sorted(f"{rule}=" for rule in BLOCKING)
    assert completions(["schema", "config"], home=tmp_path) == ["config", "config-file", "config-path"]


def test_enclaves_that_run_and_that_have_ended_are_completed(tmp_path: Path) -> None:
    cli = Cli(tmp_path / "base")
    cli.base.mkdir()
    environ = cli.environment()
    cli.ok("run", "--name", "first", "--backend", "local")
    try:
        for words in (["describe", "fi"], ["terminate", "fi"], ["diagnose", "-e", ""], ["console", ""]):
            assert completions(words, home=tmp_path, environ=environ) == ["first"]
        assert completions(["logs", ""], home=tmp_path, environ=environ) == []
    finally:
        cli.ok("terminate", "--all")
    assert completions(["logs", ""], home=tmp_path, environ=environ) == ["first"]
    assert completions(["describe", ""], home=tmp_path, environ=environ) == []


def test_remotes_are_completed(tmp_path: Path) -> None:
    cli = Cli(tmp_path / "base")
    cli.base.mkdir()
    policy = cli.base / "policy.yaml"
    policy.write_text(render_policy(expect(new_root()).policy).replace("[simulated]", "[nitro]"))
    for name in ("hospital", "clinic"):
        cli.ok("remote", "add", name, "wss://gateway.test", "--policy", policy)
    for words in (["remote", "show", ""], ["diagnose", "--remote", ""], ["send", "--remote", ""]):
        assert completions(words, home=tmp_path, environ=cli.environment()) == ["clinic", "hospital"]
    assert completions(["remote", "check", "h"], home=tmp_path, environ=cli.environment()) == ["hospital"]


def test_a_broken_configuration_completes_nothing_and_says_nothing(tmp_path: Path) -> None:
    broken = {"ENCLAVECTL_BACKEND": "nonsense"}
    assert completions(["describe", ""], home=tmp_path, environ=broken) == []


# Ways to start each shell with nothing of the user's, and the setup that its script needs.
_SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "source {script}"),
    "zsh": (["zsh", "-f", "-i"], "autoload -U compinit; compinit -u -D; source {script}"),
    "fish": (["fish", "--no-config", "-i"], "source {script}"),
}


@pytest.mark.parametrize("shell", _SHELLS)
def test_a_real_shell_completes_a_command_and_an_option(tmp_path: Path, shell: str) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"there is no {shell} here")
    script = tmp_path / f"completion.{shell}"
    shown = enclavectl(home=tmp_path, environ={"_ENCLAVECTL_COMPLETE": f"source_{shell}"})
    assert shown.status == 0, shown.err
    script.write_text(shown.out)
    argv, setup = _SHELLS[shell]
    with Typist([program, *argv[1:]], tmp_path) as typist:
        typist.type(setup.format(script=script) + "\n")
        typist.type("echo re''ady\n")
        typist.expect("ready")
        typist.type("enclavectl pla\t")
        typist.expect("enclavectl plan ")
        typist.type("--mem\t")
        typist.expect("--memory ")


class Typist:
    """A shell on a terminal, what is typed into it, and what has appeared on its screen."""

    def __init__(self, argv: Sequence[str], home: Path) -> None:
        controller, terminal = pty.openpty()
        termios.tcsetwinsize(terminal, (40, 100))
        self._controller = controller
        self._seen = ""
        environ = {
            "HOME": str(home),
            "PATH": f"{COMMAND.parent}:{os.environ['PATH']}",
            "TERM": "xterm",
            "LANG": "C.UTF-8",
        }
        self._process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *argv],  # shells want a controlling terminal
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            cwd=home,
            env=environ,
        )
        os.close(terminal)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._controller)  # hangs up: the shell ends
        self._process.wait(_SHELL_S)

    def type(self, text: str) -> None:
        """Type ``text``; what was on the screen before counts no longer."""
        self._read(0.3)
        self._seen = ""
        os.write(self._controller, text.encode())

    def expect(self, text: str) -> None:
        """Wait until ``text`` appears, in whatever pieces and colors."""
        deadline = time.monotonic() + _SHELL_S
        wanted = text.replace(" ", "")
        while wanted not in re.sub(r"\x1b[^a-zA-Z]*[a-zA-Z]|[\s\x07\x08]", "", self._seen):
            assert time.monotonic() < deadline, self._seen
            self._read(0.1)

    def _read(self, timeout_s: float) -> None:
        while select.select([self._controller], [], [], timeout_s)[0]:
            try:
                data = os.read(self._controller, 4096)
            except OSError:
                return  # the shell ended
            if not data:
                return
            self._seen += data.decode(errors="replace")
