"""The cause of a failed nitro-cli command, read from its exit status, standard error and backtrace.

``run-enclave`` reports two errors: it relays the daemon's error first and then adds its own E39, whose number
becomes the exit status. So the first code counts, and the status does not.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from enclavectl.errors import EnclavectlError, HostError, StateError, UsageError
from enclavectl.files import open_regular
from enclavectl.nitro_cli.codes import MEANINGS, Meaning, documentation
from enclavectl.nitro_cli.reasons import find_reason
from enclavectl.run import Output

# Bytes. A failure's backtrace has a few KiB; docker and linuxkit write more before the code of a failed
# build.
MAX_STDERR = 1024 * 1024
MAX_LOG = 64 * 1024
_CODE = re.compile(r"\[ (E[0-9]{2}) \] ?([^\n]*)")
_FILE = re.compile(r"File: '(.*)', failing operation: '(.*)'\.")
_LOG = re.compile(r'error log found at "(.*)"')
_SUBACTIONS = re.compile(r"Subactions:((?:\n {4}\S[^\n]*)+)")
_FAILED = re.compile(r"Failed connections: ([0-9]{1,6})")
# These codes only say that another process failed, so they count last.
_ECHOES = ("E38", "E39")
# The texts of these codes contain the values found; other texts are constant and say less than our own.
_TELLING = ("E01", "E02", "E03", "E20", "E21", "E22", "E26", "E27")
# The messages of Docker and linuxkit precede the code of a failed build.
_BUILD_WORDS = re.compile(r"^(?:Docker|Output|Stream|Ramfs|Linuxkit)\b[^\n]*\berror[^\n]*$", re.MULTILINE)
# The codes for an enclave that does not exist.
_NOT_FOUND = ("E11", "E58")

_PAGE = "see the page of this code"

ReadLog = Callable[[Path], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A failure of nitro-cli. ``code`` is None if nitro-cli printed none: usage, panic, signal."""

    status: int
    code: str | None
    said: str
    file: str | None = None
    operation: str | None = None
    reason: str | None = None
    meaning: Meaning
    log: str | None = None

    def to_error(self, command: str) -> EnclavectlError:
        """Make the error for the user: the command, the cause, and the fix."""
        where = f" ({self.operation} of {self.file})" if self.file else ""
        driver = f"; it said: {self.reason}" if self.reason else ""
        label = self.code or f"status {self.status}"
        message = f"nitro-cli {command}: {label}: {self.meaning.cause}{where}{driver}"
        if not self.reason and not self.file and self.said:
            message += f"; it said: {self.said[:300]}"
        more = [self.meaning.fix]
        if self.code:
            more.append(documentation(self.code))
        if self.log:
            more.append(f"log: {self.log}")
        kind = StateError if self.code in _NOT_FOUND else HostError
        return kind(message, hint="; ".join(more), code=f"nitro-cli-{self.code or _word(self.status)}")


def read_failure(output: Output, read_log: ReadLog) -> Failure:
    """Find the cause in a failed command's output; ``read_log`` reads the backtrace that it names."""
    text = output.err[:MAX_STDERR].decode("utf-8", errors="replace")
    codes = [(match[1], match[2].strip(), match.start()) for match in _CODE.finditer(text)]
    first = next((one for one in codes if one[0] not in _ECHOES), codes[0] if codes else None)
    if first is None:
        return _without_code(output.status, text)
    code, said, start = first
    following = [position for _, _, position in codes if position > start]
    block = text[start : following[0]] if following else text[start:]
    log = _LOG.search(block)
    trace = _trace(block) or (_trace(read_log(Path(log[1]))) if log else "")
    reason = find_reason(trace or block)
    file = _FILE.search(block)
    meaning = MEANINGS.get(code, Meaning(said or "nitro-cli failed with a code that we do not know", _PAGE))
    if reason is not None:
        # The reason is more exact than a code that covers twenty causes.
        meaning = reason[1]
    innermost = trace.strip().splitlines()[-1].strip() if trace.strip() else None
    return Failure(
        status=output.status,
        code=code,
        said=_said(code, said, text[:start]),
        file=file[1] if file else None,
        operation=file[2] if file else None,
        reason=reason[0] if reason else innermost,
        meaning=_for_file(meaning, file[1]) if file and reason is None else meaning,
        log=log[1] if log else None,
    )


def failed_connections(err: bytes) -> int:
    """Return the number of enclaves whose daemons did not answer a command to all of them."""
    counts = _FAILED.findall(err[:MAX_STDERR].decode("utf-8", errors="replace"))
    return sum(map(int, counts))


def read_error_log(path: Path) -> str:
    """Read the beginning of a backtrace's file; return nothing if it is another user's, or gone."""
    try:
        # The group ne may write to its folder: a FIFO in place of the file must not block us.
        with open_regular(path) as file:
            return file.read(MAX_LOG).decode("utf-8", errors="replace")
    except (UsageError, OSError):
        return ""


def _said(code: str, said: str, before: str) -> str:
    """Return nitro-cli's text beyond the code; linuxkit's part of it has escaped line ends."""
    if (words := _BUILD_WORDS.findall(before)) and code in ("E48", "E49", "E50"):
        lines = [line.strip() for line in words[-1].replace("\\n", "\n").splitlines() if line.strip(' "')]
        return " | ".join(lines[:1] + lines[1:][-2:])
    return said.replace("MISSING_INFO", "?") if code in _TELLING else ""


def _trace(text: str) -> str:
    match = _SUBACTIONS.search(text)
    return match[1] if match else ""


def _for_file(meaning: Meaning, file: str) -> Meaning:
    fixes = {
        "/dev/nitro_enclaves": (
            "the driver's device cannot be opened",
            "enclavectl doctor says whether enclaves are off for this instance or the user not in group ne",
        ),
        "ne_cpus": ("the driver is not loaded", "sudo modprobe nitro_enclaves, then enclavectl doctor"),
        "/blobs/cmdline": (
            "there are no boot files for the build",
            "enclavectl setup installs them (-devel); enclavectl build --builder native needs none",
        ),
        "nitro_enclaves.log": (
            "nitro-cli's own log cannot be written",
            "join the group ne (enclavectl setup) and log in anew; is the folder there?",
        ),
    }
    for ending, (cause, fix) in fixes.items():
        if file.endswith(ending):
            return Meaning(cause, fix)
    return meaning


def _without_code(status: int, text: str) -> Failure:
    said = next((line.strip() for line in text.splitlines() if line.strip()), "")
    if status < 0:
        name = _signal_name(-status)
        meaning = Meaning(f"it was ended by {name}", "is the machine out of memory? dmesg | tail")
    elif status == 101:
        meaning = Meaning(
            "it panicked, which is a bug of nitro-cli or a damaged file", "report its words upstream"
        )
    elif status == 126:
        meaning = Meaning("it may not be executed", 'ls -l "$(command -v nitro-cli)"')
    elif status == 127:
        meaning = Meaning("it, or a library that it needs, is missing", "enclavectl setup")
    elif status == 2:
        meaning = Meaning(
            "it does not know these options",
            "nitro-cli --version: enclavectl needs 1.1.0 or newer; enclavectl setup updates it",
        )
    else:
        meaning = Meaning("it failed without a code", "enclavectl doctor")
    return Failure(status=status, code=None, said=said, meaning=meaning)


def _word(status: int) -> str:
    if status < 0:
        return _signal_name(-status)
    return {2: "usage", 101: "panic", 126: "not-executable", 127: "not-found"}.get(status, f"status-{status}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
