"""The console of a debug-mode enclave, kept from its first byte: nitro-cli keeps none of it."""

from __future__ import annotations

import os
import select
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from enclavectl.backends.console_log import ConsoleLog
from enclavectl.backends.nitro.stamps import Stamper
from enclavectl.errors import HostError
from enclavectl.run import Command, start

_CONNECTED = b"Successfully connected to the console."
_CHUNK = 64 * 1024
# After the enclave has ended, its console ends by itself; if it does not, somebody else holds its pipe.
_LAST_WORDS_S = 3.0


class Recorder:
    """One ``nitro-cli console`` and the log that it fills."""

    def __init__(self, path: Path) -> None:
        """The log is made; nothing is recorded before ``connect``."""
        self._log = ConsoleLog(path)
        self._stamper = Stamper(lambda: datetime.now(UTC))
        self._process: subprocess.Popen[bytes] | None = None
        self.fd: int | None = None

    def connect(self, command: Command) -> None:
        """The console is connected, or it failed, which the log then says.

        No time limit of ours: nitro-cli has one of 20 s, and must not be ended while it asks the daemon.
        """
        read, write = os.pipe()
        try:
            self._process = start(command, output=write)
        except HostError as exc:
            os.close(read)
            self._say(f"the console cannot be read: {exc.message}")
            return
        finally:
            os.close(write)
        self.fd = read
        seen = b""
        while _CONNECTED not in seen:
            data = os.read(read, _CHUNK)
            if not data:
                self._log.write(self._stamper.feed(seen))
                self._lost()
                return
            seen += data
        # Its first two lines are nitro-cli's own words.
        self._log.write(self._stamper.feed(seen.partition(_CONNECTED)[2].lstrip(b"\r\n")))

    def keep(self) -> bool:
        """More of the console is in the log; False once it has ended."""
        if self.fd is None:
            return False
        data = os.read(self.fd, _CHUNK)
        self._log.write(self._stamper.feed(data))
        if not data:
            self._lost()
        return bool(data)

    def finish(self) -> None:
        """The enclave has ended: its last words are in the log."""
        while self.fd is not None:
            poll = select.poll()
            poll.register(self.fd, select.POLLIN)
            if not poll.poll(_LAST_WORDS_S * 1000):
                break
            self.keep()
        if self._process is not None and self._process.poll() is None:
            self._process.kill()  # it reads a console that is gone; it talks to no daemon any more
            self._process.wait()
        self._log.write(self._stamper.flush())
        self._log.close()

    def _lost(self) -> None:
        """The console's end: normal when the enclave ends, also with E45 (nitro-cli issue 405)."""
        self._log.write(self._stamper.flush())
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None
        if self._process is not None:
            self._process.wait()

    def _say(self, text: str) -> None:
        self._log.write(self._stamper.feed(f"enclavectl: {text}\n".encode()))
