"""Connecting to every kind of address, and listening on those of this host."""

from __future__ import annotations

import os
import re
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from errno import EACCES, ECONNABORTED, ECONNREFUSED, EPERM
from pathlib import Path

from enclavectl.errors import EnclaveLost, HostError, StateError, UsageError
from enclavectl.net.access import NO_ACCESS, Access
from enclavectl.net.address import (
    Address,
    HostAddress,
    HybridVsockAddress,
    NetworkAddress,
    StreamAddress,
    UnixAddress,
    VsockAddress,
    WebSocketAddress,
    is_network,
)
from enclavectl.net.stream import ByteStream


class ConnectionStep(StrEnum):
    """A step on the way to an enclave."""

    CONNECT = "connect"
    TLS = "tls"
    UPGRADE = "upgrade"


# sun_path holds 108 bytes with its NUL, linux/un.h.
_MAX_UNIX_PATH = 107


_SEND_BUFFER_BYTES = 1024 * 1024
# Connections not accepted yet. A client that finds the queue full tries again, and may lose to others each
# time.
_BACKLOG = 512
# A busy listener accepts its next connection within milliseconds.
_FULL_PAUSE_S = 0.02
# "OK " and a port of ten digits, with room.
_MAX_HYBRID_REPLY = 32
# Docker's default profile refuses AF_VSOCK since 20.10.22 (moby issue 44670). Without the kernel module the
# error is EAFNOSUPPORT.
_FORBIDDEN_HINT = (
    "a container's seccomp profile, or SELinux or AppArmor, forbids it: docker run --security-opt "
    "seccomp=PROFILE with a profile that allows socket(AF_VSOCK)"
)


def open_stream(
    address: Address,
    timeout_s: float,
    access: Access = NO_ACCESS,
    passed: Callable[[ConnectionStep, str], None] = lambda _step, _detail: None,
) -> ByteStream:
    """Connect to an address of this host or of a gateway; ``access`` is for gateways.

    ``passed`` is told of each step that has been taken, with a detail for people.

    Raises:
        StateError: nothing listens there, or the host or the route does not exist.
        HostError: this kernel has no such sockets; NetworkError if something else is in the way.
        UsageError: the gateway refuses ``access``, or the address has no use for it.
        EnclaveLost: no connection within ``timeout_s`` seconds.
        EnclaveBusy: the gateway has no room.
    """
    access.require_use(address)
    if isinstance(address, StreamAddress | WebSocketAddress):
        return _open_network(address, time.monotonic() + timeout_s, access, passed)
    sock = connect(address, timeout_s)
    passed(ConnectionStep.CONNECT, f"connected to {address}")
    return sock


def connection_steps(address: Address) -> list[ConnectionStep]:
    """Return the steps that ``open_stream`` takes to an address, in order."""
    steps = [ConnectionStep.CONNECT]
    if is_network(address) and address.is_secure:
        steps.append(ConnectionStep.TLS)
    if isinstance(address, WebSocketAddress):
        steps.append(ConnectionStep.UPGRADE)
    return steps


def _open_network(
    address: NetworkAddress, deadline: float, access: Access, passed: Callable[[ConnectionStep, str], None]
) -> ByteStream:
    # Imported here: most commands never leave this host, and TLS and WebSocket take long to import.
    from enclavectl.net.proxy import connect_through, find_proxy  # noqa: PLC0415 - see above
    from enclavectl.net.tcp import connect_tcp  # noqa: PLC0415 - see above

    proxy = find_proxy(address)
    if proxy is None:
        sock = connect_tcp(address.host, address.port, deadline, what=str(address))
    else:
        sock = connect_through(proxy, address, deadline)
    through = "" if proxy is None else f" through {proxy}"
    passed(ConnectionStep.CONNECT, f"connected to {address.host}, port {address.port}{through}")
    stream: ByteStream = sock
    try:
        if address.is_secure:
            from enclavectl.net.tls import start_tls  # noqa: PLC0415 - see above

            stream = start_tls(sock, address, access, deadline)
            judged = "its key is the pinned one" if access.pin is not None else "its certificate is good"
            passed(ConnectionStep.TLS, f"TLS 1.3; {judged}")
        if isinstance(address, WebSocketAddress):
            from enclavectl.net.websocket import open_websocket  # noqa: PLC0415 - see above

            stream = open_websocket(stream, address, access, deadline)
            token = "" if access.token is None else "; it took the token"
            passed(ConnectionStep.UPGRADE, f"a gateway answers{token}")
    except BaseException:
        stream.close()
        raise
    return stream


def connect(address: HostAddress, timeout_s: float) -> socket.socket:
    """Connect a stream socket of this host.

    Raises:
        StateError: nothing listens there.
        HostError: this kernel has no such sockets.
        EnclaveLost: no connection within ``timeout_s`` seconds, or the kernel's limit if that is shorter.
    """
    deadline = time.monotonic() + timeout_s
    sock = _new_socket(address)
    try:
        sock.settimeout(timeout_s)
        # Room for a picture of common size, so that the sender does not wait for the reader.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        if isinstance(address, VsockAddress):
            sock.connect((address.cid, address.port))
        else:
            _connect_unix(sock, address.path, deadline)
        if isinstance(address, HybridVsockAddress):
            _ask_for_port(sock, address.port, deadline)
    except TimeoutError as exc:
        sock.close()
        # Not "within timeout_s": the kernel's own limit for vsock is 2 s.
        raise EnclaveLost(
            f"{address}: nobody answered the connection in time",
            hint="check the address with nitro-cli describe-enclaves, or enclavectl list for local ones",
        ) from exc
    except OSError as exc:
        sock.close()
        raise StateError(
            f"{address}: no enclave answers there ({exc.strerror or exc})",
            hint="enclavectl list shows the running enclaves",
        ) from exc
    return sock


def listen(address: HostAddress) -> socket.socket:
    """Open a listening stream socket; a Unix socket gets mode 0600.

    Raises:
        StateError: the address is in use or cannot be bound.
        HostError: this kernel has no such sockets.
        UsageError: a hybrid address belongs to a guest; guests connect to Unix sockets of the host.
    """
    sock = bind(address)
    try:
        sock.listen(_BACKLOG)
    except OSError as exc:
        sock.close()
        raise _not_bound(address, exc) from exc
    return sock


def bind(address: HostAddress) -> socket.socket:
    """Open a stream socket that has its address and does not listen yet: who connects is refused.

    Raises:
        StateError, HostError, UsageError: as ``listen``.
    """
    if isinstance(address, HybridVsockAddress):
        raise UsageError(f"{address}: expected an address of this host, found one inside of a guest")
    sock = _new_socket(address)
    try:
        if isinstance(address, UnixAddress):
            with _short_path(address.path) as name:
                _remove_stale(name)
                sock.bind(name)
            address.path.chmod(0o600)
        else:
            sock.bind((address.cid, address.port))
    except OSError as exc:
        sock.close()
        raise _not_bound(address, exc) from exc
    return sock


def _not_bound(address: HostAddress, exc: OSError) -> StateError:
    return StateError(
        f"{address}: cannot listen there ({exc.strerror or exc})",
        hint="another process may be listening already; enclavectl list shows the enclaves",
    )


def _new_socket(address: HostAddress) -> socket.socket:
    family = socket.AF_VSOCK if isinstance(address, VsockAddress) else socket.AF_UNIX
    try:
        return socket.socket(family, socket.SOCK_STREAM)
    except OSError as exc:
        what, hint = (
            "no such socket can be made",
            "sudo modprobe vsock, if this kernel has it; enclavectl doctor",
        )
        if exc.errno in {EPERM, EACCES}:
            what, hint = "vsock is forbidden to this process", _FORBIDDEN_HINT
        raise HostError(f"{address}: {what} ({exc.strerror})", hint=hint) from exc


def _connect_unix(sock: socket.socket, path: Path, deadline: float) -> None:
    """Connect; retry while the listener's queue is full: Linux then returns EAGAIN and does not wait.

    Raises:
        OSError: nobody listens; TimeoutError when there was no room by ``deadline``.
    """
    with _short_path(path) as name:
        while True:
            try:
                return sock.connect(name)
            except BlockingIOError as exc:
                if time.monotonic() + _FULL_PAUSE_S > deadline:
                    raise TimeoutError from exc
                time.sleep(_FULL_PAUSE_S)


def _ask_for_port(sock: socket.socket, port: int, deadline: float) -> None:
    """Read the reply of hybrid vsock, and no byte past its end: what follows is the guest's.

    Raises:
        OSError: the monitor refuses, which it says by closing, or answers with something else; TimeoutError
            when the whole reply is not there by ``deadline``.
    """
    sock.sendall(b"CONNECT %d\n" % port)
    reply = b""
    while not reply.endswith(b"\n") and len(reply) < _MAX_HYBRID_REPLY:
        # A timeout of zero would make the socket non-blocking.
        sock.settimeout(max(deadline - time.monotonic(), 0.001))
        byte = sock.recv(1)
        if not byte:
            raise ConnectionRefusedError(ECONNREFUSED, "nobody listens on that port of the guest")
        reply += byte
    if re.fullmatch(rb"OK [0-9]{1,10}\n", reply) is None:
        raise ConnectionAbortedError(ECONNABORTED, "the socket is not one of hybrid vsock")


@contextmanager
def listening(address: HostAddress) -> Iterator[socket.socket]:
    """Listen for the length of a block; remove a Unix socket from the file system afterwards.

    Raises:
        StateError: as ``listen``.
    """
    with listen(address) as sock:
        try:
            yield sock
        finally:
            if isinstance(address, UnixAddress):
                address.path.unlink(missing_ok=True)


def _remove_stale(name: str) -> None:
    """Remove a socket without a listener, which a killed process left behind."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a socket whose queue is full has a listener
        try:
            probe.connect(name)
        except ConnectionRefusedError:
            if stat.S_ISSOCK(os.lstat(name).st_mode):
                os.unlink(name)  # noqa: PTH108 - /proc/self/fd names are for the system calls as they are
        except OSError:
            return  # nothing is there, or bind() will report what is wrong


@contextmanager
def _short_path(path: Path) -> Iterator[str]:
    """Yield a name for ``path`` that fits into sun_path, however deep its folder is."""
    if len(os.fsencode(path)) <= _MAX_UNIX_PATH:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
