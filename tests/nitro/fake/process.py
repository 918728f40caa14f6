"""The enclave process: the daemon of one enclave, which lives and dies with it.

Its traps are the real one's (src/enclave_proc/mod.rs): it serves one command at a time, any error while it
serves one ends it and the enclave with it, and a describe waits for the hash that began at the launch.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from enclavectl.eif.examine import Examination
from tests.nitro.fake.failure import Failure, render
from tests.nitro.fake.launch import Enclave, launch
from tests.nitro.fake.measure import measurements_of, metadata_of, read_eif
from tests.nitro.fake.place import Place
from tests.nitro.fake.sysfs import show
from tests.nitro.fake.talk import Connection

_POLL_S = 0.02
# What the real one logs of a command.
_LOGGED = {
    "run": "Run",
    "terminate": "Terminate",
    "describe": "Describe",
    "cid": "GetEnclaveCID",
    "flags": "GetEnclaveFlags",
    "name": "GetEnclaveName",
    "id-by-name": "GetIDbyName",
}
_READ_ONLY = {"describe", "cid", "flags", "name", "id-by-name"}
_RUN = ("Failed to trigger enclave run", "Failed to execute command `Run`")


def become_daemon(place: Place, environ: Mapping[str, str]) -> Connection:
    """Fork; in the child never return. The connection to the new enclave process, for the parent.

    As in the real one, the child keeps its copy of the parent's end, and never learns that it has gone.
    """
    ours, theirs = socket.socketpair()
    if os.fork() != 0:
        theirs.close()
        return Connection(ours)
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        if os.fork() == 0:
            EnclaveProcess(place, environ).run(Connection(theirs))
    except BaseException as exc:
        place.log("enc-xxxxxxx", "ERROR", f"fake: {exc!r}")
        raise
    finally:
        os._exit(0)


class EnclaveProcess:
    """The event loop. Leaving ``run`` ends the process, and everything that is the enclave's with it."""

    def __init__(self, place: Place, environ: Mapping[str, str]) -> None:
        self._place = place
        self._environ = environ
        self._name = "enc-xxxxxxx"
        self._enclave: Enclave | None = None
        self._measuring: threading.Thread | None = None
        self._measured: Examination | Failure | None = None
        self._listener: socket.socket | None = None
        self._wake, self._wake_write = os.pipe()

    def run(self, first: Connection) -> None:
        """Serve until the enclave is over."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, lambda *_: os.write(self._wake_write, b"x"))
        self._end_with_owner()
        try:
            if self._serve(first):
                self._loop()
        finally:
            self._end()

    def _loop(self) -> None:
        enclave, listener = self._enclave, self._listener
        assert enclave is not None
        assert listener is not None
        poll = select.poll()
        for descriptor in (listener.fileno(), enclave.guest.end, self._wake):
            poll.register(descriptor, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == enclave.guest.end:
                    text = "Received hang-up event from the enclave. Enclave process will shut down."
                    self._place.log(self._name, "WARN", text)
                    return
                if descriptor == self._wake:
                    self._place.log(
                        self._name, "WARN", "Received signal. The enclave process will now close."
                    )
                    return
                if not self._serve(Connection(listener.accept()[0])):
                    return

    def _serve(self, connection: Connection) -> bool:
        """Serve one command. Whether to go on: an error, or a reader that has gone, is the end."""
        with connection:
            try:
                command = connection.receive()
                if command is None:
                    return self._enclave is not None
                self._place.log(self._name, "INFO", f"Received command: {_LOGGED[command['command']]}")
                return self._handle(connection, command)
            except Failure as failure:
                failure.during("Run Enclave")
                text = render(failure, self._place, self._environ)
                self._place.log(self._name, "ERROR", text)
                connection.send("err", text + "\n")
                self._close_socket()
                connection.send("status", 22)
                return False
            except OSError as exc:  # EPIPE: whoever asked has gone
                self._place.log(self._name, "ERROR", f"Failed to forward error message to connection: {exc}")
                return False

    def _handle(self, connection: Connection, command: dict[str, Any]) -> bool:
        name = command["command"]
        if name == "run":
            self._run(connection, command["arguments"])
            return True
        enclave = self._enclave
        assert enclave is not None
        if name not in _READ_ONLY and command["user"] not in {"root", enclave.owner}:
            self._place.log(self._name, "WARN", f"The requester is not allowed to perform '{name}'.")
            return True
        match name:
            case "terminate":
                self._terminate(connection)
                return False
            case "cid":
                connection.send("value", enclave.cid)
            case "flags":
                connection.send("value", int(enclave.debug))
            case "name":
                connection.send("confirm", None)
                connection.send("out", json.dumps(enclave.name))
                connection.send("status", 0)
            case "id-by-name":
                connection.send("confirm", None)
                if command["arguments"] == enclave.name:
                    connection.send("out", json.dumps(enclave.enclave_id))
                connection.send("status", 0)
            case "describe":
                self._describe(connection, with_metadata=command["arguments"])
        return True

    def _run(self, connection: Connection, arguments: dict[str, Any]) -> None:
        try:
            self._enclave = launch(self._place, arguments, connection)
        except Failure as failure:
            raise failure.sub(*_RUN) from failure.__cause__
        enclave = self._enclave
        self._measuring = threading.Thread(target=self._measure, args=(enclave,), daemon=True)
        self._measuring.start()
        self._name = f"enc-{enclave.slot.slot_hex}"
        connection.send("out", json.dumps(enclave.run_info()))
        self._listener = socket.socket(socket.AF_UNIX)
        os.chdir(self._place.home)
        self._listener.bind(os.path.relpath(self._socket()))
        self._socket().chmod(0o766)
        self._listener.listen(64)
        connection.send("status", 0)
        if (after_s := self._place.settings.dies_after_s) is not None:
            threading.Timer(after_s, enclave.guest.kill).start()

    def _measure(self, enclave: Enclave) -> None:
        """From the launch on. An image that is replaced later changes nothing."""
        while enclave.hashed_at > time.monotonic() or self._place.held_up("hash").exists():
            time.sleep(_POLL_S)
        try:
            at = "src/enclave_proc/commands.rs:108"
            self._measured = read_eif(enclave.eif_path, "Failed initialize EIF reader", at)
        except Failure as failure:
            self._measured = failure

    def _describe(self, connection: Connection, *, with_metadata: bool) -> None:
        enclave = self._enclave
        assert enclave is not None
        connection.send("confirm", None)
        # The thread that measures is waited for, and nobody else is served meanwhile.
        assert self._measuring is not None
        self._measuring.join()
        found = self._measured
        if isinstance(found, Failure):
            raise found.sub("Failed to save PCR values", "Failed to execute command `Describe`")
        assert found is not None
        value = {**enclave.run_info(), "State": "RUNNING", "Flags": "DEBUG_MODE" if enclave.debug else "NONE"}
        value["Measurements"] = measurements_of(found, self._place.settings.release)
        if with_metadata and found.metadata is not None:
            try:
                value |= metadata_of(found.metadata)
            except Failure as failure:
                doing = ("Failed to describe enclave", "Failed to execute command `Describe`")
                raise failure.sub(*doing) from None
        connection.send("out", json.dumps(value))
        connection.send("status", 0)

    def _terminate(self, connection: Connection) -> None:
        enclave = self._enclave
        assert enclave is not None
        enclave.guest.kill()
        enclave.slot.free()
        show(self._place)
        self._close_socket()
        connection.send("err", f"Successfully terminated enclave {enclave.enclave_id}.\n")
        value = {"EnclaveName": enclave.name, "EnclaveID": enclave.enclave_id, "Terminated": True}
        connection.send("out", json.dumps(value))
        connection.send("status", 0)

    def _socket(self) -> Path:
        assert self._enclave is not None
        return self._place.sockets / f"{self._enclave.slot.slot_hex}.sock"

    def _close_socket(self) -> None:
        if self._listener is not None:
            self._socket().unlink(missing_ok=True)

    def _end(self) -> None:
        self._close_socket()
        if self._enclave is not None:
            self._enclave.guest.kill()
            self._enclave.slot.free()
        sys.stdout.flush()
        os._exit(0)

    def _end_with_owner(self) -> None:
        """No daemon outlives the test that it is for."""
        if (owner := self._place.settings.owner_pid) == 0:
            return
        try:
            handle = os.pidfd_open(owner)
        except ProcessLookupError:
            os._exit(0)

        def wait() -> None:
            select.select([handle], [], [])
            os._exit(0)  # its payload goes with it: PR_SET_PDEATHSIG

        threading.Thread(target=wait, daemon=True).start()
