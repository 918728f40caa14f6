"""The command line's side of the sockets: src/enclave_proc_comm.rs."""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.nitro.fake.failure import Failure, os_error
from tests.nitro.fake.place import Place
from tests.nitro.fake.talk import Connection

# ENCLAVE_PROC_WAIT_TIMEOUT_MSEC: a process that does not confirm within this is given up.
_CONFIRM_S = 3.0


def connect_to_all(place: Place) -> list[Connection]:
    """A connection to every enclave process; sockets that nobody listens on are deleted.

    Raises:
        Failure: E07, the folder of the sockets is not there.
    """
    try:
        paths = sorted(path for path in place.sockets.iterdir() if path.name.endswith(".sock"))
    except OSError as exc:
        reason = f"Failed to access sockets directory: {os_error(exc)}"
        raise Failure("E07", reason, "src/enclave_proc_comm.rs:79").sub(
            "Failed to send command to all enclave processes"
        ) from exc
    return [connection for path in paths if (connection := _connect_or_delete(path)) is not None]


def _connect_or_delete(path: Path) -> Connection | None:
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.connect(str(path))
    except PermissionError:
        sock.close()
        return None
    except OSError:
        sock.close()
        path.unlink(missing_ok=True)
        return None
    return Connection(sock)


def connect_to_one(place: Place, enclave_id: str) -> Connection:
    """A connection to the process of that enclave; only what follows the last ``-enc`` counts.

    Raises:
        Failure: E11, there is none.
    """
    path = place.sockets / f"{enclave_id.rsplit('-enc', 1)[-1]}.sock"
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.connect(str(path))
    except OSError as exc:
        sock.close()
        reason = f"Failed to connect to specific enclave process: {os_error(exc)}"
        raise Failure("E11", reason, "src/enclave_proc_comm.rs:134") from exc
    return Connection(sock)


def send_to_all(place: Place, command: str, arguments: object = None) -> tuple[list[Connection], int]:
    """Those that confirmed the command, and how many did not within 3 s, whom it hangs up on.

    Raises:
        Failure: E07.
    """
    connections = connect_to_all(place)
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            connection.send_command(command, place.settings.user, arguments)
            selector.register(connection.socket, selectors.EVENT_READ, connection)
        confirmed = []
        for _ in connections:
            for key, _ in selector.select(_CONFIRM_S)[:1]:
                selector.unregister(key.fileobj)
                if key.data.receive() == {"confirm": None}:
                    confirmed.append(key.data)
    return confirmed, len(connections) - len(confirmed)


def replies_of(connections: Sequence[Connection]) -> list[tuple[Any, int]]:
    """The object and the status of each process that gave both; what it has for people is on stderr."""
    found = []
    for connection in connections:
        text, status = "", None
        while (message := connection.receive()) is not None:
            text += message.get("out", "")
            status = message.get("status", status)
            if "err" in message:
                sys.stderr.write(message["err"])
                sys.stderr.flush()
        connection.close()
        if text and status is not None:
            found.append((json.loads(text), status))
    return found


def print_replies(
    connections: Sequence[Connection], failed_before: int, *, as_array: bool, allowed: Sequence[int] = (0,)
) -> list[Any]:
    """All objects, printed.

    Raises:
        Failure: E38 for a bad status, E39 for a process that gave no object.
    """
    replies = replies_of(connections)
    failed = failed_before + len(connections) - len(replies)
    if failed:
        print(f"Failed connections: {failed}", file=sys.stderr)
    objects = [value for value, _ in replies]
    for shown in [objects] if as_array else objects:
        print(json.dumps(shown, indent=2, ensure_ascii=False))
    sys.stdout.flush()
    bad = sum(status not in allowed for _, status in replies)
    if bad:
        reason = f"Failed to execute {bad} enclave process commands"
        raise Failure("E38", reason, "src/enclave_proc_comm.rs:347")
    if failed:
        reason = f"Failed to connect to {failed} enclave processes"
        raise Failure("E39", reason, "src/enclave_proc_comm.rs:358")
    return objects


def names(place: Place) -> list[str]:
    """The names of all enclaves.

    Raises:
        Failure: E07.
    """
    try:
        connections, _ = send_to_all(place, "name")
    except Failure as failure:
        raise failure.sub("Failed to send GetEnclaveName command to all enclave processes") from None
    return [name for name, _ in replies_of(connections)]


def id_by_name(place: Place, name: str) -> str:
    """The ID of the enclave of that name.

    Raises:
        Failure: E58, there is none, or more than one; E07.
    """
    try:
        connections, _ = send_to_all(place, "id-by-name", name)
    except Failure as failure:
        raise failure.sub("Failed to send GetIDbyName command to all enclave processes") from None
    found = [enclave_id for enclave_id, _ in replies_of(connections)]
    if len(found) != 1:
        reason = (
            "Conflicting enclave names have been found." if found else "No enclave matched the given name."
        )
        raise Failure("E58", reason, "src/lib.rs:547")
    return str(found[0])


def ask(place: Place, enclave_id: str, what: str, doing: str) -> int:
    """The CID or the flags of an enclave; it waits as long as it takes.

    Raises:
        Failure: E11.
    """
    try:
        connection = connect_to_one(place, enclave_id)
    except Failure as failure:
        raise failure.sub("Failed to connect to enclave process", doing) from None
    with connection:
        connection.send_command(what, place.settings.user)
        message = connection.receive()
    if message is None:
        reason = 'Failed to read 8 bytes from the given socket: Error { kind: UnexpectedEof, message: "failed'
        raise Failure("E11", f'{reason} to fill whole buffer" }}', "src/common/mod.rs:427").sub(doing)
    return int(message["value"])


def read_console(place: Place, cid: int, timeout_s: float | None) -> None:
    """Print what the console has, until its end or for ``timeout_s`` seconds.

    Raises:
        Failure: E44, no console there; E45, it broke off.
    """
    print(f"Connecting to the console for enclave {cid}...", flush=True)
    sock = socket.socket(socket.AF_UNIX)
    doing = "Connect to enclave console"
    try:
        sock.connect(str(_console_of(place, cid)))
        sock.sendall(b"?")
    except (OSError, LookupError) as exc:
        error = os_error(exc) if isinstance(exc, OSError) else "ENODEV"
        reason = f"Failed to connect to the console: {error}"
        raise Failure("E44", reason, "src/utils.rs:83").sub(doing) from exc
    print("Successfully connected to the console.", flush=True)
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    with sock:
        while True:
            left_s = None if deadline is None else deadline - time.monotonic()
            if left_s is not None and left_s <= 0:
                return
            sock.settimeout(left_s)
            try:
                data = sock.recv(8192)
            except TimeoutError:
                return
            except OSError as exc:
                reason = f"Failed to read data from the console: {'ECONNRESET' if exc.errno == 104 else exc}"
                raise Failure("E45", reason, "src/utils.rs:229").sub(doing) from exc
            if not data:
                return
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()


def _console_of(place: Place, cid: int) -> Path:
    for path in place.held.glob("*.json"):
        value = json.loads(path.read_text() or '{"cid": 0}')
        socket_path = path.with_suffix(".guest") / "console.sock"
        if value["cid"] == cid and socket_path.exists():
            return socket_path
    raise LookupError(cid)
