"""The real command ``enclavectl gateway`` in a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMMAND = Path(sys.executable).with_name("enclavectl")
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class GatewayProcess:
    """A gateway that listens on ``port``, with its log and its notes so far."""

    process: subprocess.Popen[bytes]
    folder: Path
    port: int

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    @property
    def notes(self) -> str:
        return (self.folder / "notes").read_text()

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.splitlines()]

    def wait_for_records(self, count: int) -> list[dict[str, Any]]:
        wait_until(lambda: len(self.log.splitlines()) >= count, f"{count} sessions are in the log")
        return self.records

    def memory_kib(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+)", status)[0])

    def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)


def free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def wait_until(condition: Any, what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE_S:g} s in vain: {what}"
        time.sleep(0.02)


def environment(folder: Path, settings: Mapping[str, object]) -> dict[str, str]:
    variables = {f"ENCLAVECTL_GATEWAY_{name.upper()}": str(value) for name, value in settings.items()}
    return {
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "HOME": str(folder),
        "ENCLAVECTL_STATE_DIR": str(folder / "state"),
        **variables,
    }


def run_command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command that ends by itself."""
    return subprocess.run(
        [str(COMMAND), *arguments],
        env=environment(folder, {}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextmanager
def gateway(
    folder: Path, to: Sequence[str], *arguments: str, is_traced: int = 0, **settings: int
) -> Iterator[GatewayProcess]:
    """Start a gateway to these ``RELEASE@ADDRESS``; ``settings`` are of the section gateway.

    With ``is_traced`` its notes also have a line for each module that it loads.
    """
    trace = {"PYTHONPROFILEIMPORTTIME": "1"} if is_traced else {}
    settings = {"drain_accept_s": 0, "linger_s": 1, **settings}
    folder.mkdir(exist_ok=True, mode=0o700)
    destinations = [word for one in to for word in ("--to", one)]
    with (folder / "log").open("wb") as log, (folder / "notes").open("wb") as notes:
        process = subprocess.Popen(
            [str(COMMAND), "gateway", "--listen", "127.0.0.1:0", *destinations, *arguments],
            env={**environment(folder, settings), **trace},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=notes,
        )
    try:
        wait_until(
            lambda: b"listening on" in (folder / "notes").read_bytes() or process.poll() is not None,
            "the gateway listens",
        )
        found = re.findall(r"port (\d+);", (folder / "notes").read_text())
        assert found, (folder / "notes").read_text()
        yield GatewayProcess(process, folder, int(found[0]))
        assert "unexpected" not in (folder / "notes").read_text()
        assert "Traceback" not in (folder / "notes").read_text()
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
