"""The installed ``enclavectl`` as a user runs it, with folders of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cli.command import COMMAND, Done
from tests.schemas.validation import check_output

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
CODES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
# More than the 16 s that ending a stubborn enclave may take.
PATIENCE_S = 60.0
_KEEPERS = (b"backends.local.supervisor", b"backends.nitro.keeper")


@dataclass(frozen=True, slots=True)
class Cli:
    """Commands that share one home, state and data folder under ``base``."""

    base: Path
    program: Sequence[str] = (str(COMMAND),)
    options: Mapping[str, Any] = field(default_factory=dict)
    # Beyond the folders: what a fake Nitro host needs.
    variables: Mapping[str, str] = field(default_factory=dict)
    # A bound for what hangs; an emulated machine boots for longer.
    timeout_s: float = 90

    @property
    def state(self) -> Path:
        return self.base / "state"

    @property
    def root(self) -> Path:
        """The development root's certificate."""
        return self.state / "local" / "root" / "certificate.pem"

    def environment(self, env: Mapping[str, str] | None = None) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(self.base / "home"),
            "ENCLAVECTL_STATE_DIR": str(self.state),
            "ENCLAVECTL_DATA_DIR": str(self.base / "data"),
            **self.variables,
            **(env or {}),
        }

    def start(self, *arguments: str | Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """The command, running, with pipes."""
        return subprocess.Popen(
            [*self.program, *map(str, arguments)],
            env=self.environment(env),
            cwd=self.base,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **self.options,
        )

    def run(self, *arguments: str | Path, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Done:
        """The command's end. Nothing that a user may do is allowed to be a bug or to draw a traceback."""
        ran = subprocess.run(
            [*self.program, *map(str, arguments)],
            env=self.environment(env),
            cwd=self.base,
            input=stdin,
            capture_output=True,
            timeout=self.timeout_s,
            check=False,
            **self.options,
        )
        found = Done(ran.returncode, ran.stdout.decode(), ran.stderr.decode())
        assert found.status != 1, found.err
        assert "Traceback" not in found.err, found.err
        check_output(found.out)
        return found

    def ok(self, *arguments: str | Path, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Done:
        ran = self.run(*arguments, stdin=stdin, env=env)
        assert ran.status == 0, ran.err
        return ran

    def refused(self, code: int, *arguments: str | Path, stdin: bytes = b"") -> dict[str, Any]:
        """The error of a command that must fail with ``code``, told alike for people and in JSON."""
        ran = self.run(*arguments, "--output", "json", stdin=stdin)
        assert ran.status == code, (ran.status, ran.err)
        value = ran.json()
        assert value["schema"] == "enclavectl.error/1"
        error = value["error"]
        assert set(error) == {"kind", "code", "message", "hint", "exit_code"}
        assert error["exit_code"] == code
        assert error["message"].splitlines()[0][:60] in ran.err
        assert isinstance(error, dict)
        return error

    def processes(self) -> list[int]:
        """Every process of an enclave of this state folder: supervisors and keepers, and their children."""
        supervisors, parents = [], {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                command = (entry / "cmdline").read_bytes()
                status = (entry / "status").read_text()
            except OSError:
                continue  # it ended
            pid = int(entry.name)
            is_keeper = any(kind in command for kind in _KEEPERS)
            if is_keeper and os.fsencode(self.state) in command:
                supervisors.append(pid)
            parents[pid] = int(
                next(line for line in status.splitlines() if line.startswith("PPid:")).split()[1]
            )
        children = [pid for pid, parent in parents.items() if parent in supervisors]
        return [*supervisors, *children]

    def enclave_folders(self) -> list[Path]:
        return sorted(self.state.glob("*/enclaves/*"))

    def sockets(self) -> list[Path]:
        return [path for path in self.state.rglob("*") if path.is_socket()]

    def end_all(self) -> None:
        """End every enclave of this state folder; where there is none, that costs no command."""
        if self.enclave_folders() or self.processes():
            self.run("terminate", "--all")

    def assert_nothing_left(self, processes: Sequence[int] = ()) -> None:
        """No process (these neither), no enclave's folder and no socket, within the time to end things."""
        wait_until(lambda: not self.processes() and not any(map(is_alive, processes)), "processes end")
        wait_until(lambda: not self.enclave_folders() and not self.sockets(), "folders and sockets go")


def wait_until(condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + patience_s
    while True:
        before = time.monotonic()
        if condition():
            return
        now = time.monotonic()
        assert now < deadline, f"waited {patience_s:g} s in vain: {what}"
        # Half of the time is free: a look that takes long (a whole command) slows down what is awaited.
        time.sleep(min(max(now - before, 0.02), 0.5))


def is_alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    return "State:\tZ" not in status


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def sample(code: str) -> Path:
    return SAMPLES / f"{code}.png"
