"""What files do not tell: programs that only look, and the Docker engine's answer to GET /version."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from enclavectl.errors import HostError
from enclavectl.json_object import JsonError, JsonObject
from enclavectl.run import MINIMAL_ENVIRONMENT, Command, capture

# Local programs that print what they know; longer than this is a hang.
_TIMEOUT_S = 5.0
_ENGINE_TIMEOUT_S = 2.0
_MAX_ANSWER = 256 * 1024
DOCKER_SOCKET = "/var/run/docker.sock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a program that looked said: its exit status, and both of its streams as one text."""

    status: int
    text: str


class Asks(Protocol):
    """Whoever can be asked about a host."""

    def find(self, program: str) -> str | None:
        """The absolute path of a program on the PATH, or None."""

    def run(self, *argv: str) -> Answer | None:
        """What a program that changes nothing said, or None where there is no such program.

        Raises:
            HostError: it did not end in time; or a recording does not have it.
        """

    def engine(self) -> Mapping[str, object] | None:
        """The engine's answer to ``GET /version``, or None where no engine is expected.

        Raises:
            HostError: it does not answer; the message has the reason.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveAsks:
    """This machine."""

    environ: Mapping[str, str]

    def find(self, program: str) -> str | None:
        """The absolute path of a program on the PATH or in the folders of the system's own, or None."""
        # Not shutil.which: its imports take longer than most checks.
        for folder in f"{self.environ.get('PATH', '')}:{MINIMAL_ENVIRONMENT['PATH']}".split(":"):
            path = Path(folder) / program
            if folder.startswith("/") and path.is_file() and os.access(path, os.X_OK):
                return str(path)
        return None

    def run(self, *argv: str) -> Answer | None:
        """What the program said, or None where there is none."""
        program = self.find(argv[0])
        if program is None:
            return None
        command = Command(argv=[program, *argv[1:]], cwd=Path("/"))
        done = capture(command, timeout_s=_TIMEOUT_S)
        return Answer(status=done.status, text=(done.out + done.err).decode("utf-8", errors="replace"))

    def engine(self) -> Mapping[str, object] | None:
        """What answers at DOCKER_HOST or the usual socket; None where DOCKER_HOST is no Unix socket."""
        where = self.environ.get("DOCKER_HOST") or f"unix://{DOCKER_SOCKET}"
        if not where.startswith("unix://"):
            return None
        return _engine_version(where.removeprefix("unix://"))


def _engine_version(path: str) -> Mapping[str, object]:
    # Not the Docker SDK: importing it takes longer than a whole doctor may.
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.settimeout(_ENGINE_TIMEOUT_S)
            link.connect(path)
            link.sendall(b"GET /version HTTP/1.0\r\nHost: docker\r\n\r\n")
            data = b""
            while len(data) < _MAX_ANSWER and (chunk := link.recv(65536)):
                data += chunk
    except OSError as exc:
        raise HostError(f"{path}: {exc.strerror or exc}", code="docker-silent") from exc
    head, _, body = data.partition(b"\r\n\r\n")
    try:
        value = JsonObject.parse(body, limit=_MAX_ANSWER)
    except JsonError:
        value = None
    if b" 200 " not in head.split(b"\r\n")[0] + b" " or value is None:
        raise HostError(f"{path}: expected a Docker engine, found {head[:60]!r}", code="docker-silent")
    return value.members
