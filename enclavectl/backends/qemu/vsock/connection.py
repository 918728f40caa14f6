"""One connection between a port of the guest and a socket of the host, with its credit in both directions."""

from __future__ import annotations

import socket
from enum import Enum, auto

from enclavectl.backends.qemu.vsock.packet import PARENT_CID, STREAM, Header, Op, Shut

# What we keep for a host that does not read: four of the largest packets, so one is always on its way.
BUFFER_BYTES = 256 * 1024
_COUNTER = 0xFFFFFFFF


class State(Enum):
    """Where a connection is in its life."""

    REQUESTED = auto()
    """We have asked the guest, which has not answered."""
    OPEN = auto()
    CLOSING = auto()
    """The host's socket is closed; the guest has to say so too."""


class Connection:
    """The counters and the state; ``connections.py`` moves the bytes.

    ``counted`` is what the guest sent and the host has taken; ``sent`` is what we sent to the guest. Both
    wrap at 2**32, as the header's fields do.
    """

    def __init__(
        self, sock: socket.socket, *, cid: int, guest_port: int, host_port: int, state: State
    ) -> None:
        self.sock = sock
        self.state = state
        self.guest_port = guest_port
        self.host_port = host_port
        self.pending = bytearray()
        self.wants_input = False
        self.is_at_end = False
        self.is_stalled = False
        self.guest_done = Shut(0)
        self.host_done = Shut(0)
        self._cid = cid
        self._counted = 0
        self._told = 0
        self._sent = 0
        self._peer_buffer = 0
        self._peer_counted = 0

    @property
    def key(self) -> tuple[int, int]:
        """The ports: the guest's, then the host's."""
        return (self.guest_port, self.host_port)

    @property
    def credit(self) -> int:
        """The bytes that the guest has room for. A guest that lies about it hurts its own connection."""
        return max(0, self._peer_buffer - ((self._sent - self._peer_counted) & _COUNTER))

    def learn(self, header: Header) -> None:
        """Take the guest's credit from any of its packets."""
        self._peer_buffer = header.buf_alloc
        self._peer_counted = header.fwd_cnt

    def has_room(self, count: int) -> bool:
        """Return whether the guest kept to the credit that it has."""
        return len(self.pending) + count <= BUFFER_BYTES

    def count_taken(self, count: int) -> None:
        """Note that the host took bytes of the guest's."""
        self._counted = (self._counted + count) & _COUNTER

    def must_tell(self) -> bool:
        """Return whether the guest must be told of its credit, before it believes to have half of it left."""
        return (self._counted - self._told) & _COUNTER >= BUFFER_BYTES // 2

    def header(self, op: Op, *, length: int = 0, flags: int = 0) -> Header:
        """Make a header to the guest; every one tells it its credit."""
        self._told = self._counted
        self._sent = (self._sent + length) & _COUNTER
        return Header(
            source_cid=PARENT_CID,
            target_cid=self._cid,
            source_port=self.host_port,
            target_port=self.guest_port,
            length=length,
            kind=STREAM,
            op=op,
            flags=flags,
            buf_alloc=BUFFER_BYTES,
            fwd_cnt=self._counted,
        )
