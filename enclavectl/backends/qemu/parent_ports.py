"""The parent's ports, as its guest sees them: the heartbeat's, and those on which somebody listens."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable
from pathlib import Path

from enclavectl.backends.qemu.vsock import Reactor

# An init connects there, sends this byte, and waits for the same byte:
# https://github.com/aws/aws-nitro-enclaves-sdk-bootstrap/blob/main/init/init.c
HEARTBEAT_PORT = 9000
HEARTBEAT = b"\xb7"
# The path in sun_path is short however deep the state folder is: the socket is named from its own folder.
_NAME = "out-{}.sock"


class ParentPorts:
    """What a guest can reach on this host: nothing but the sockets that `listen` binds in one folder."""

    def __init__(self, reactor: Reactor, folder: Path, on_heartbeat: Callable[[], None]) -> None:
        self._reactor = reactor
        self._folder = folder
        self._on_heartbeat = on_heartbeat

    def dial(self, port: int) -> socket.socket:
        """Return a connected socket, which does not block, for a port.

        Raises:
            OSError: nobody listens there, or its queue is full.
        """
        if port == HEARTBEAT_PORT:
            return self._answer_heartbeat()
        folder = os.open(self._folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            sock.connect(f"/proc/self/fd/{folder}/{_NAME.format(port)}")
        except BaseException:
            sock.close()
            raise
        finally:
            os.close(folder)
        return sock

    def _answer_heartbeat(self) -> socket.socket:
        guest, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)

        def answer(_events: int) -> None:
            self._reactor.forget(ours.fileno())
            try:
                said = ours.recv(1)
                if said == HEARTBEAT:
                    ours.send(said)
                    self._on_heartbeat()
            except OSError:
                return  # the guest has gone
            finally:
                ours.close()

        self._reactor.watch(ours.fileno(), select.EPOLLIN, answer)
        return guest
