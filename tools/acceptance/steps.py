"""The walk-through of docs/walkthrough.md, without its first page, as commands whose ends are looked at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
SAMPLES = PROJECT / "samples"
# More than a boot may take: nitro-cli's own bound is 180 s for images below 6 GiB.
_COMMAND_S = 600.0
# A listener, and the console's last lines, come within seconds.
_LINE_S = 60.0


class StepFailed(Exception):
    """A step did not end as it must. The text has what was said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is run: an image with its lock beside it, and the size and address of its enclave."""

    image: Path
    memory_mib: int
    cpus: int
    cid: int

    @property
    def run_arguments(self) -> list[str]:
        """The words after ``enclavectl run``."""
        size = ["--memory", str(self.memory_mib), "--cpus", str(self.cpus), "--cid", str(self.cid)]
        return [str(self.image), *size, "--name", "acceptance"]


@dataclass(slots=True)
class Steps:
    """Runs commands of enclavectl with a home of their own, and keeps what each took."""

    home: Path
    environ: Mapping[str, str]
    taken: list[dict[str, object]] = field(default_factory=list)

    def run(self, *words: str, must: int = 0) -> dict[str, Any]:
        """Run a command and return its JSON object; it has to end with the status ``must``.

        Raises:
            StepFailed: it ended otherwise.
        """
        started = time.monotonic()
        ran = subprocess.run(
            self._argv(*words, "--output", "json"),
            env=self.environment(),
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_COMMAND_S,
            check=False,
        )
        self._keep(words, ran.returncode, time.monotonic() - started)
        if ran.returncode != must:
            raise StepFailed(
                f"enclavectl {' '.join(words)}: expected the exit code {must}, found {ran.returncode}\n"
                f"{ran.stderr[-2000:]}"
            )
        value = json.loads(ran.stdout)
        assert isinstance(value, dict)
        return value

    def follow(self, stack: ExitStack, *words: str) -> subprocess.Popen[str]:
        """Start a command that goes on; it is ended with the stack."""
        process = subprocess.Popen(
            self._argv(*words),
            env=self.environment(),
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        stack.callback(process.wait, 30)
        stack.callback(process.terminate)
        return process

    def check(self, what: str, holds: bool) -> None:
        """Keep whether something holds that has to.

        Raises:
            StepFailed: it does not.
        """
        self.taken.append({"check": what, "holds": holds})
        if not holds:
            raise StepFailed(f"{what}: it does not hold")

    def _keep(self, words: tuple[str, ...], status: int, seconds: float) -> None:
        shown = ["enclavectl", *(Path(word).name if os.sep in word else word for word in words)]
        self.taken.append({"command": " ".join(shown), "exit_code": status, "seconds": round(seconds, 3)})

    def _argv(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "enclavectl", *words]

    def environment(self) -> dict[str, str]:
        """Return what the commands run with: folders of their own."""
        return {
            **self.environ,
            "ENCLAVECTL_BACKEND": "nitro",
            "ENCLAVECTL_STATE_DIR": str(self.home / "state"),
            "ENCLAVECTL_DATA_DIR": str(self.home / "data"),
            "PYTHONPATH": str(PROJECT),
        }


def wait_for_line(process: subprocess.Popen[str], text: str) -> None:
    """Read a command's output until a line has the text.

    Raises:
        StepFailed: the output ends, or takes too long.
    """
    assert process.stdout is not None
    watchdog = threading.Timer(_LINE_S, process.kill)
    watchdog.start()
    try:
        for line in process.stdout:
            if text in line:
                return
    finally:
        watchdog.cancel()
    raise StepFailed(f"expected a line with {text!r}")


def walk(steps: Steps, plan: Plan, measure: Callable[[Steps, str], None]) -> None:
    """Debug mode with console, listener and sender; then without; then another release's policy.

    ``measure`` is called with the address of the enclave that runs without debug mode.

    Raises:
        StepFailed: a step did not end as it must.
    """
    lock = plan.image.with_name("enclavectl.lock.json")
    steps.run("lock", "check", str(plan.image), "--lock", str(lock))
    _walk_in_debug_mode(steps, plan)
    value = steps.run("run", *plan.run_arguments)
    steps.check("without --debug the trust is not debug", value["trust"] != "debug")
    steps.check("the attested registers are the lock's", value["attested"]["model_pinned"] is True)
    diagnosed = steps.run("diagnose", str(SAMPLES / "mel.png"))
    steps.check("the answer is right", diagnosed["results"][0]["label"]["code"] == "mel")
    steps.check("a signed receipt came with it", diagnosed["results"][0]["receipted"] is True)
    policy = steps.home / "other.yaml"
    pinned = ("--pcr", f"4={'ab' * 48}", "--accept", value["trust"])
    steps.run("policy", "new", "--from-lock", str(lock), *pinned, "--to", str(policy))
    accepted = steps.run("diagnose", str(SAMPLES / "mel.png"), "--policy", str(policy), must=4)
    steps.check("another instance's policy refuses it", accepted["error"]["code"] == "pcr-mismatch")
    measure(steps, str(steps.run("describe", "acceptance")["enclave"]["address"]))
    steps.run("terminate", "acceptance")
    steps.check("nothing is left", steps.run("list")["enclaves"] == [])


def _walk_in_debug_mode(steps: Steps, plan: Plan) -> None:
    value = steps.run("run", *plan.run_arguments, "--debug")
    steps.check("in debug mode the trust is debug", value["trust"] == "debug")
    with ExitStack() as stack:
        console = steps.follow(stack, "console", "acceptance", "--follow")
        wait_for_line(console, "serving model")
        listener = steps.follow(stack, "listen", "--unsafe-allow-debug", "--top", "1")
        wait_for_line(listener, "trust debug")
        steps.run("send", "--unsafe-allow-debug", str(SAMPLES / "bcc.png"))
        wait_for_line(listener, "bcc ")
    refused = steps.run("diagnose", str(SAMPLES / "nv.png"), must=4)
    steps.check("a debug enclave is refused", refused["error"]["code"] == "debug-mode")
    steps.run("terminate", "acceptance")
