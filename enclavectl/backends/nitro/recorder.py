"""The recorder of a debug-mode enclave's console from its first byte; nitro-cli keeps none of it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from enclavectl.backends.console_log import ConsoleLog
from enclavectl.backends.keeping.identity import ProcessIdentity
from enclavectl.backends.keeping.timestamps import TimestampedLines
from enclavectl.errors import EnclavectlError, HostError
from enclavectl.files import read_bounded, write_atomic
from enclavectl.json_object import JsonError, JsonObject
from enclavectl.run import Command, start

_CONNECTED = b"Successfully connected to the console."
_CHUNK = 64 * 1024
# A process's identity has about 120 bytes.
_MAX_IDENTITY = 4096
# Seconds. A console ends by itself after its enclave; if it does not, another process holds its pipe.
_LAST_WORDS_S = 3.0
# Seconds. nitro-cli console first sends two queries to the enclave's daemon, and gives up after 3 s.
_ASKING_S = 4.0


class Recorder:
    """One ``nitro-cli console`` and the log that it fills."""

    def __init__(self, path: Path, *, goes_on: bool = False) -> None:
        """Create the log, or with ``goes_on`` continue it. Recording starts with ``connect``."""
        last = _modified(path) if goes_on else None
        self._log = ConsoleLog(path, goes_on=goes_on)
        self._console = path.with_name("console.json")
        self._lines = TimestampedLines(lambda: datetime.now(UTC))
        self._process: subprocess.Popen[bytes] | None = None
        self.fd: int | None = None
        if goes_on:
            since = "" if last is None else f" after {last:%Y-%m-%dT%H:%M:%SZ}"
            self._note(
                f"the recording broke off{since}, because the enclave's keeper was killed, and goes on here; "
                "what was printed between may be missing"
            )

    def end_old_reader(self) -> None:
        """End the ``nitro-cli console`` of a killed keeper: only one process can read a console."""
        try:
            value = JsonObject.parse(read_bounded(self._console, _MAX_IDENTITY, what="process"))
            age_s = time.time() - self._console.stat().st_mtime
            handle = ProcessIdentity.from_json(value).open()
        except (EnclavectlError, JsonError, OSError):
            return
        if handle is None:
            return  # it has ended
        try:
            # Ending it during its queries could end the enclave.
            time.sleep(min(max(_ASKING_S - age_s, 0), _ASKING_S))
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        except OSError:
            return  # it has ended meanwhile
        finally:
            os.close(handle)

    def connect(self, command: Command) -> None:
        """Connect the console; note a failure in the log.

        There is no timeout here: nitro-cli has one of 20 s, and must not be ended while it queries the
        daemon.
        """
        read, write = os.pipe()
        try:
            self._process = start(command, output=write)
            with suppress(HostError):  # a full disk: then a later recorder cannot end this process
                identity = ProcessIdentity.of(self._process.pid)
                write_atomic(self._console, json.dumps(identity.to_json()).encode())
        except HostError as exc:
            os.close(read)
            self._note(f"the console cannot be read: {exc.message}")
            return
        finally:
            os.close(write)
        self.fd = read
        seen = b""
        while _CONNECTED not in seen:
            data = os.read(read, _CHUNK)
            seen += data
            if not data or len(seen) > _CHUNK:
                self._log.write(self._lines.feed(seen))
                if not data:
                    self._lost()
                return
        # Its first two lines are nitro-cli's own messages.
        self._log.write(self._lines.feed(seen.partition(_CONNECTED)[2].lstrip(b"\r\n")))

    def keep(self) -> bool:
        """Copy more of the console into the log; return False once the console has ended."""
        if self.fd is None:
            return False
        data = os.read(self.fd, _CHUNK)
        self._log.write(self._lines.feed(data))
        if not data:
            self._lost()
        return bool(data)

    def finish(self) -> None:
        """Copy the last output of an ended enclave into the log."""
        while self.fd is not None:
            poll = select.poll()
            poll.register(self.fd, select.POLLIN)
            if not poll.poll(_LAST_WORDS_S * 1000):
                break
            self.keep()
        if self._process is not None and self._process.poll() is None:
            self._process.kill()  # its console is gone, and it does not query the daemon any more
            self._process.wait()
        self._log.write(self._lines.flush())
        self._log.close()

    def _lost(self) -> None:
        """Note the console's end, which an enclave's end causes, sometimes as E45 (nitro-cli issue 405)."""
        self._log.write(self._lines.flush())
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None
        if self._process is not None:
            self._process.wait()

    def _note(self, text: str) -> None:
        self._log.write(self._lines.feed(f"enclavectl: {text}\n".encode()))


def _modified(path: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError:
        return None
