"""Facts about a host that no file has: from read-only programs, sockets, and the Docker engine."""

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

# For local programs that print facts, which takes well under a second; a longer run is a hang.
_TIMEOUT_S = 5.0
# An engine answers GET /version from memory; one that takes longer would delay builds as well.
_ENGINE_TIMEOUT_S = 2.0
# An engine's version has about 2 KiB; this bounds the cost of another server at that socket.
_MAX_ANSWER = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A program's exit status, and both of its streams as one text."""

    status: int
    text: str


class HostProbe(Protocol):
    """The interface to a host's facts that are in no file: programs, sockets, the engine."""

    def find(self, program: str) -> str | None:
        """Return the absolute path of a program on the PATH, or None."""

    def run(self, *argv: str) -> Answer | None:
        """Run a read-only program and return its answer, or None if there is no such program.

        Raises:
            HostError: it did not end in time, or the recording does not have it.
        """

    def vsock_error(self) -> int | None:
        """Create a vsock socket and return the error number, or None on success.

        Raises:
            HostError: the recording does not have the result.
        """

    def engine(self, socket_path: str) -> Mapping[str, object] | None:
        """Ask the engine at a Unix socket for ``GET /version``; None if a recording has no engine.

        Raises:
            HostError: it does not answer; the message has the reason.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveProbe:
    """The probe of this machine."""

    environ: Mapping[str, str]
    timeout_s: float = _TIMEOUT_S

    def find(self, program: str) -> str | None:
        """Return the path of a program on the PATH or in the system's own folders, or None."""
        # Not shutil.which: its imports take longer than most checks.
        for folder in f"{self.environ.get('PATH', '')}:{MINIMAL_ENVIRONMENT['PATH']}".split(":"):
            path = Path(folder) / program
            if folder.startswith("/") and path.is_file() and os.access(path, os.X_OK):
                return str(path)
        return None

    def run(self, *argv: str) -> Answer | None:
        """Run the program and return its answer, or None if there is no such program."""
        program = self.find(argv[0])
        if program is None:
            return None
        command = Command(argv=[program, *argv[1:]], cwd=Path("/"))
        done = capture(command, timeout_s=self.timeout_s)
        return Answer(status=done.status, text=(done.out + done.err).decode("utf-8", errors="replace"))

    def vsock_error(self) -> int | None:
        """Create a vsock socket; the kernel may load its module for that, as for any program."""
        try:
            socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close()
        except OSError as exc:
            return exc.errno
        return None

    def engine(self, socket_path: str) -> Mapping[str, object] | None:
        """Ask the server at this Unix socket for its version."""
        return _engine_version(socket_path)


def _engine_version(path: str) -> Mapping[str, object]:
    # Not the Docker SDK: importing it takes longer than all checks may.
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
