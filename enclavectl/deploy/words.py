"""Words of systemd units: their form, quoting, and the restrictions that suit every unit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from enclavectl.errors import UsageError

UNIT_DIR = "/etc/systemd/system"
MARK = "# Written by enclavectl units; written anew by the next one."
# A list of refused calls, not of allowed ones: systemd 219 knows no groups of calls, and would read an
# allow-list of groups as an empty one.
_REFUSED_CALLS = (
    "~@clock @cpu-emulation @debug @module @mount @obsolete @privileged @raw-io @reboot @resources @swap"
)
# Restrictions that suit every unit. https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html
# Omitted on purpose: PrivateNetwork hides the enclaves' sockets from /proc/net/unix, where doctor and plan
# find # running enclaves; ProcSubset hides /proc/meminfo, which run reads; RemoveIPC would affect other
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
