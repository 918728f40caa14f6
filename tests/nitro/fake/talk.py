"""Between nitro-cli and an enclave process: JSON lines in place of the real one's CBOR."""

from __future__ import annotations

import json
import socket
from typing import Any, Self


class Connection:
    """One command and its replies. Sending to somebody who has gone raises ``BrokenPipeError``."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._file = sock.makefile("r", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """The other side sees the end."""
        self._file.close()
        self.socket.close()

    def send(self, kind: str, value: object) -> None:
        """One message."""
        self.socket.sendall(json.dumps({kind: value}).encode() + b"\n")

    def send_command(self, command: str, user: str, arguments: object = None) -> None:
        """What the CLI asks for."""
        value = {"command": command, "user": user, "arguments": arguments}
        self.socket.sendall(json.dumps(value).encode() + b"\n")

    def receive(self) -> dict[str, Any] | None:
        """The next message; None at the end."""
        try:
            line = self._file.readline()
        except ConnectionError:
            return None
        value: dict[str, Any] | None = json.loads(line) if line.endswith("\n") else None
        return value
