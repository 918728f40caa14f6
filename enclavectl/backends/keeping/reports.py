"""The pipe on which a keeper reports to the command that started it: one JSON object per line."""

from __future__ import annotations

import json
import os
import select
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from enclavectl.backends.keeping.keeper_process import KeeperProcess, start_keeper
from enclavectl.errors import EnclavectlError, HostError, StateError
from enclavectl.json_object import JsonError, JsonObject
from enclavectl.run import MINIMAL_ENVIRONMENT

# A report is one line of a few hundred bytes; longer data is not the keeper's.
_MAX_REPORT = 1024 * 1024
_LAST_LINES = 5  # of the keeper's log in an error: the cause is in the last ones


class Reports:
    """The command's end of the pipe. ``log`` is the keeper's, for an error's last words."""

    def __init__(self, fd: int, log: Path) -> None:
        """Own ``fd``, the read end."""
        self._fd = fd
        self._log = log
        self._buffer = b""

    def wait(self, timeout_s: float) -> list[JsonObject]:
        """Wait at most ``timeout_s`` seconds for reports; return those that have come whole.

        Raises:
            HostError: the keeper ended, or wrote something else.
        """
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        if not poll.poll(timeout_s * 1000):
            return []
        data = os.read(self._fd, 64 * 1024)
        self._buffer += data
        if not data or len(self._buffer) > _MAX_REPORT:
            raise self.failure("failed")
        *lines, self._buffer = self._buffer.split(b"\n")
        try:
            return [JsonObject.parse(line) for line in lines]
        except JsonError as exc:
            raise self.failure(f"said what is no report ({exc})") from exc

    def failure(self, why: str) -> HostError:
        """Make the error for a keeper that did not do its work."""
        return HostError(
            f"the enclave's keeper {why}; its last words: {_last_lines(self._log)}",
            hint="enclavectl list shows whether an enclave runs; report those lines",
            code="keeper-failed",
        )

    def close(self) -> None:
        """Close the pipe. The keeper goes on."""
        os.close(self._fd)


def start_reporting(
    module: str,
    folder: Path,
    lock: int,
    spec: Callable[[int, int], str],
    environment: Mapping[str, str] = MINIMAL_ENVIRONMENT,
) -> tuple[KeeperProcess, Reports]:
    """Start a keeper for the enclave in ``folder``, whose lock it inherits, and return its reports.

    ``spec`` makes its argument from the descriptors of the lifeline and of the pipe for reports.

    Raises:
        HostError: no process can be started, or its log cannot be written.
    """
    log = folder / "keeper.log"
    reports_read, reports_write = os.pipe()
    try:
        process = start_keeper(
            module,
            lambda lifeline: spec(lifeline, reports_write),
            folder=folder,
            log=log,
            pass_fds=(reports_write, lock),
            environment=environment,
        )
    except BaseException:
        os.close(reports_read)
        raise
    finally:
        os.close(reports_write)
    return process, Reports(reports_read, log)


def send_report(fd: int, value: Mapping[str, object]) -> None:
    """Report to the command; if it is gone, nobody is there to read it."""
    with suppress(OSError):
        os.write(fd, (json.dumps(value) + "\n").encode())


def error_to_report(exc: EnclavectlError) -> dict[str, object]:
    """Return the report of a failed launch."""
    return {"failed": {"kind": exc.kind, "message": exc.message, "hint": exc.hint, "code": exc.code}}


def error_from_report(value: JsonObject) -> EnclavectlError:
    """Return the error that ``error_to_report`` reported."""
    kind = StateError if value.string("kind") == StateError.kind else HostError
    return kind(
        value.string("message"), hint=value.optional_string("hint"), code=value.optional_string("code")
    )


def _last_lines(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return "none"
    return " | ".join(lines[-_LAST_LINES:]) or "none"
