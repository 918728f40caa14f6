"""A command in a terminal of its own: what it has written so far, and Ctrl-C."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO

from tests.cli.command import Done
from tests.e2e.cli import PATIENCE_S, wait_until
from tests.schemas.validation import check_output


@dataclass(slots=True)
class Terminal:
    """A running command whose outputs are read all the time, as a terminal does."""

    process: subprocess.Popen[str]
    # How long news of it may take; an emulated machine thinks for longer.
    patience_s: float = PATIENCE_S
    _text: dict[str, str] = field(default_factory=lambda: {"out": "", "err": ""})
    _readers: list[threading.Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name, stream in (("out", self.process.stdout), ("err", self.process.stderr)):
            assert stream is not None
            reader = threading.Thread(target=self._read, args=(name, stream), daemon=True)
            reader.start()
            self._readers.append(reader)

    @property
    def out(self) -> str:
        """Standard output so far."""
        return self._text["out"]

    @property
    def err(self) -> str:
        """Standard error so far."""
        return self._text["err"]

    def await_out(self, text: str, times: int = 1) -> None:
        """Return once standard output has ``text`` so many times."""
        self._wait(lambda: self.out.count(text) >= times or self._has_ended(), f"{text!r} on stdout")
        assert self.out.count(text) >= times, (self.out, self.err)

    def await_err(self, text: str, times: int = 1) -> None:
        """Return once standard error has ``text`` so many times."""
        self._wait(lambda: self.err.count(text) >= times or self._has_ended(), f"{text!r} on stderr")
        assert self.err.count(text) >= times, (self.out, self.err)

    def press_ctrl_c(self) -> None:
        """What a terminal does at Ctrl-C, to the command that was started."""
        self.process.send_signal(signal.SIGINT)

    def end(self) -> Done:
        """The command's end, which comes by itself."""
        self._wait(lambda: self.process.poll() is not None, "the command ends")
        for reader in self._readers:
            reader.join()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        assert "Traceback" not in self.err, self.err
        check_output(self.out)
        return Done(self.process.returncode, self.out, self.err)

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        wait_until(condition, what, self.patience_s)

    def _has_ended(self) -> bool:
        return self.process.poll() is not None and not any(one.is_alive() for one in self._readers)

    def _read(self, name: str, stream: IO[str]) -> None:
        for line in stream:
            self._text[name] += line
