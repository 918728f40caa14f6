"""Addresses of enclaves: a Unix socket, a vsock port, or vsock behind a Unix socket.

``enclavectl.net.transport``, which opens sockets, is separate because most commands only show addresses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from enclavectl.errors import UsageError


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A stream socket in the file system."""

    path: Path

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class VsockAddress:
    """An enclave's CID and port; on a parent instance enclaves have CIDs from 4."""

    cid: int
    port: int

    def __str__(self) -> str:
        return f"vsock:{self.cid}:{self.port}"


@dataclass(frozen=True, slots=True)
class HybridVsockAddress:
    """A guest's port behind the Unix socket of its virtual machine monitor.

    https://github.com/firecracker-microvm/firecracker/blob/main/docs/vsock.md: the host writes ``CONNECT
    <port>`` and a line feed, reads ``OK <host port>``, and from there on has the guest's stream.
    """

    path: Path
    port: int

    def __str__(self) -> str:
        return f"hybrid:{self.path}:{self.port}"


Address = UnixAddress | VsockAddress | HybridVsockAddress


def parse_address(text: str) -> Address:
    """Read ``unix:PATH``, ``vsock:CID:PORT`` or ``hybrid:PATH:PORT``.

    Raises:
        UsageError: the text has none of these forms, or a number is out of range.
    """
    if text.startswith("unix:") and len(text) > 5 and "\0" not in text:
        return UnixAddress(Path(text[5:]))
    match = re.fullmatch(r"vsock:([0-9]{1,10}):([0-9]{1,10})", text)
    if match is not None:
        cid, port = int(match[1]), int(match[2])
        if cid < 2**32 and port < 2**32:
            return VsockAddress(cid, port)
    match = re.fullmatch(r"hybrid:([^\0]+):([0-9]{1,10})", text, re.DOTALL)
    if match is not None and int(match[2]) < 2**32:
        return HybridVsockAddress(Path(match[1]), int(match[2]))
    raise UsageError(
        f"address: expected unix:PATH, vsock:CID:PORT or hybrid:PATH:PORT, found {text!r}",
        hint="for example vsock:16:5005",
    )
