"""Words of systemd units: their form, quoting, and the restrictions that suit every unit."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from enclavectl.errors import UsageError

UNIT_DIR = "/etc/systemd/system"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", re.ASCII)
MARK = "# Written by enclavectl units; written anew by the next one."
# A list of refused calls, not of allowed ones: systemd 219 knows no groups of calls, and would read an
# allow-list of groups as an empty one.
_REFUSED_CALLS = (
    "~@clock @cpu-emulation @debug @module @mount @obsolete @privileged @raw-io @reboot @resources @swap"
)
# Restrictions that suit every unit. https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html
# Omitted on purpose: PrivateNetwork hides the enclaves' sockets from /proc/net/unix, where doctor and plan
# find running enclaves; ProcSubset hides /proc/meminfo, which run reads; RemoveIPC would affect other
# programs.
HARDENING = (
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "AmbientCapabilities=",
    "LockPersonality=yes",
    "MemoryDenyWriteExecute=yes",
    "PrivateTmp=yes",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHome=read-only",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectProc=invisible",
    "ProtectSystem=strict",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "SystemCallArchitectures=native",
    "SystemCallErrorNumber=EPERM",
    f"SystemCallFilter={_REFUSED_CALLS}",
    "UMask=0077",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitFile:
    """A file and its path on the host."""

    name: str
    folder: str
    text: str


def unit_file(name: str, sections: dict[str, list[str]]) -> UnitFile:
    """Make a unit of these sections."""
    blocks = [f"[{section}]\n" + "\n".join(lines) for section, lines in sections.items()]
    return UnitFile(name=name, folder=UNIT_DIR, text=f"{MARK}\n" + "\n\n".join(blocks) + "\n")


def service_sandbox(home: Path, families: str) -> Iterator[str]:
    """Yield the restrictions of a network service that writes into ``home`` alone and uses no device."""
    # The last of a setting counts, so these narrow what every unit has.
    yield from (line for line in HARDENING if not line.startswith("ProtectHome="))
    yield "ProtectHome=yes"
    yield "PrivateDevices=yes"
    yield "PrivateUsers=yes"
    yield "ProcSubset=pid"
    yield "RemoveIPC=yes"
    yield "DevicePolicy=closed"
    yield f"RestrictAddressFamilies=AF_UNIX {families}"
    yield f"ReadWriteDirectories={quoted(f'-{home}')}"
    yield "LimitCORE=0"


def system_user(user: str, home: Path | str) -> str:
    """Return the command that makes a service's user."""
    return f"sudo useradd --system --home-dir {home} --shell /usr/sbin/nologin {user}"


def enable_commands(files: Sequence[UnitFile], folder: str) -> list[str]:
    """Return the commands that install these files of ``folder`` and start the units among them, in order."""
    lines = [
        f"sudo install -m 0644 {shlex.quote(f'{folder}/{file.name}')} {file.folder}/{file.name}"
        for file in files
    ]
    units = [file.name for file in files if file.folder == UNIT_DIR]
    # The proxies first: an enclave may call as soon as it runs.
    ordered = sorted(units, key=lambda name: "vsock-proxy" not in name)
    return [*lines, "sudo systemctl daemon-reload", f"sudo systemctl enable --now {' '.join(ordered)}"]


def check_name(what: str, name: str) -> None:
    """Check a word that becomes part of a unit's name, or a user.

    Raises:
        UsageError: systemd would misread it.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"{what}: expected letters, digits, and _ . - behind the first, found {name!r}")


def exec_line(argv: Sequence[str]) -> str:
    """Quote a command line so that systemd splits it into exactly these words and expands nothing.

    https://www.freedesktop.org/software/systemd/man/latest/systemd.service.html#Command%20lines
    """
    return " ".join(quoted(word).replace("$", "$$") for word in argv)


def quoted(word: str) -> str:
    """Quote one word; see ``exec_line``.

    Raises:
        UsageError: it has a control character.
    """
    if any(ord(character) < 32 or ord(character) == 127 for character in word):
        raise UsageError(f"{word!r}: expected no control characters: a unit has one line for it")
    word = word.replace("%", "%%")
    if re.fullmatch(r"[A-Za-z0-9_@%+=:,./-]+", word, re.ASCII):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
