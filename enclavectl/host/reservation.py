"""``allocator.yaml`` as AWS's allocator reads it, and the resulting reservation.

The allocator (nitro-enclaves-allocator, a Bash script) parses its file line by line with its own parser,
which accepts much less than YAML and silently drops some lines. ``parse_allocator`` refuses everything that
the allocator refuses, drops or misreads. So a file that passes here has the same meaning for the allocator.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from enclavectl.errors import UsageError
from enclavectl.host.cpu_list import format_cpu_list, parse_cpu_list

SERVICE = "nitro-enclaves-allocator.service"
ALLOCATOR_FILE = "/etc/nitro_enclaves/allocator.yaml"
KEYS = ("memory_mib", "cpu_count", "cpu_pool")
# The shell counts bytes in 64 bits.
_MAX_MIB = 1 << 40
_NAME = re.compile(r"[-_a-zA-Z0-9]+", re.ASCII)
_NUMBER = re.compile(r"0|[1-9][0-9]*", re.ASCII)  # a leading zero is octal in the shell
# The digits of _MAX_MIB, the largest value of any key.
_MAX_DIGITS = 13


class AllocatorError(UsageError):
    """A file that AWS's allocator would refuse or misread."""

    kind = "allocator-file"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """The resources reserved for enclaves: memory, and CPUs by number or by name."""

    memory_mib: int
    cpu_count: int | None = None
    cpu_pool: frozenset[int] | None = None

    def __post_init__(self) -> None:
        """Refuse what the allocator would refuse.

        Raises:
            AllocatorError: no memory, not exactly one of the two ways to choose CPUs, or no CPU.
        """
        if not 0 < self.memory_mib <= _MAX_MIB:
            raise AllocatorError(f"memory_mib: expected 1 to {_MAX_MIB}, found {self.memory_mib}")
        if (self.cpu_count is None) is (self.cpu_pool is None):
            raise AllocatorError("expected either cpu_count or cpu_pool, found both or none")
        if self.cpus == 0:
            raise AllocatorError("expected at least one CPU, found none")

    @property
    def cpus(self) -> int:
        """The number of CPUs."""
        return len(self.cpu_pool) if self.cpu_pool is not None else self.cpu_count or 0

    @property
    def lines(self) -> dict[str, str]:
        """The lines of the file for this reservation, by key."""
        lines = {"memory_mib": f"memory_mib: {self.memory_mib}"}
        if self.cpu_pool is not None:
            lines["cpu_pool"] = f"cpu_pool: {format_cpu_list(self.cpu_pool)}"
        else:
            lines["cpu_count"] = f"cpu_count: {self.cpu_count}"
        return lines

    def to_json(self) -> dict[str, object]:
        """Return the reservation as JSON values."""
        pool = None if self.cpu_pool is None else format_cpu_list(self.cpu_pool)
        return {"memory_mib": self.memory_mib, "cpu_count": self.cpu_count, "cpu_pool": pool}


def parse_allocator(data: bytes, name: str = ALLOCATOR_FILE) -> Reservation:
    """Parse these bytes as AWS's allocator does.

    Raises:
        AllocatorError: the allocator would refuse them, drop a line or misread a value; the message begins
            with ``name`` and, if one line is at fault, its number.
    """
    found: dict[str, str] = {}
    started = False
    *lines, rest = data.split(b"\n")
    for number, line in enumerate(lines, 1):
        where = f"{name}:{number}"
        text = _plain(line, where)
        if text.startswith("#"):
            continue
        if text == "---":
            started = True
        elif started:
            key, value = _pair(text, where)
            found[key] = value
        elif text.endswith("\r"):
            raise AllocatorError(
                f"{where}: Windows line ends (CRLF): the allocator does not see the --- and skips everything"
            )
    if not started:
        raise AllocatorError(f"{name}: no line that is exactly ---: the allocator skips what is before it")
    if rest.strip():
        raise AllocatorError(f"{name}: no newline at the end: the allocator loses the last line")
    return _reservation(found, name)


def _plain(line: bytes, where: str) -> str:
    """Decode the line as Bash's ``read`` does, without the blanks around it.

    Backslashes are refused, because ``read`` joins lines at them or drops them.
    """
    try:
        text = line.decode().strip(" \t")
    except UnicodeDecodeError as exc:
        # Bash takes the bytes after an incomplete character, such as the end of the line, for a part of it.
        raise AllocatorError(
            f"{where}: expected UTF-8, or the allocator may join the next line to it"
        ) from exc
    if text.endswith("\\"):
        raise AllocatorError(f"{where}: a backslash at the end: the allocator joins the next line to it")
    if "\0" in text or ("\\" in text and not text.startswith("#")):
        raise AllocatorError(f"{where}: a backslash or NUL, which the allocator drops")
    return text


def _pair(text: str, where: str) -> tuple[str, str]:
    if not text:
        raise AllocatorError(f"{where}: an empty line, on which the allocator ends with an error")
    if text.endswith("\r"):
        raise AllocatorError(f"{where}: Windows line ends (CRLF), which become part of the value")
    key, colon, value = text.partition(":")
    if not _NAME.fullmatch(key) or key not in KEYS:
        raise AllocatorError(f"{where}: expected one of {', '.join(KEYS)}, found {key!r:.60}")
    # The allocator strips double quotes only after a blank; single quotes stay part of the value.
    if re.fullmatch(r'[ \t]+"[^"]+"', value):
        value = value.strip(" \t")[1:-1]
        if value != value.strip(" \t"):
            raise AllocatorError(f"{where}: blanks inside the quotes, which the allocator keeps")
    value = value.strip(" \t")
    if not colon or not value:
        raise AllocatorError(f"{where}: no value for {key}")
    if "#" in value:
        raise AllocatorError(f"{where}: a comment behind the value: the allocator takes it for a part of it")
    try:
        # Even in a line that a later one replaces: the allocator reads it as well, and may fail on it.
        parse_cpu_list(value) if key == "cpu_pool" else _whole(value, key)
    except ValueError as exc:
        raise AllocatorError(f"{where}: {exc}") from exc
    return key, value


def _reservation(found: dict[str, str], name: str) -> Reservation:
    if "memory_mib" not in found:
        raise AllocatorError(f"{name}: no memory_mib")
    if "cpu_count" in found and "cpu_pool" in found:
        raise AllocatorError(f"{name}: cpu_count and cpu_pool are both there; the allocator takes one")
    if "cpu_count" not in found and "cpu_pool" not in found:
        raise AllocatorError(f"{name}: no cpu_count and no cpu_pool")
    try:
        return Reservation(
            memory_mib=_whole(found["memory_mib"], "memory_mib"),
            cpu_count=_whole(found["cpu_count"], "cpu_count") if "cpu_count" in found else None,
            cpu_pool=parse_cpu_list(found["cpu_pool"]) if "cpu_pool" in found else None,
        )
    except AllocatorError as exc:
        raise AllocatorError(f"{name}: {exc.message}") from exc
    except ValueError as exc:
        raise AllocatorError(f"{name}: {exc}") from exc


def _whole(value: str, key: str) -> int:
    if not _NUMBER.fullmatch(value):
        raise ValueError(f"{key}: expected a whole number, found {value!r:.60}")
    if len(value) > _MAX_DIGITS:
        raise ValueError(f"{key}: too large: expected at most {_MAX_MIB}, found {value:.60}")
    return int(value)
