"""Changes of a host: programs run as its user or as root, and files replaced atomically.

setup and ``doctor --fix`` change a host only through this module; tests pass another changer.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from enclavectl.errors import HostError
from enclavectl.files import stage_file, write_atomic
from enclavectl.host.probe import LiveProbe
from enclavectl.run import MINIMAL_ENVIRONMENT, Command, capture

# Installing packages first downloads them, over a connection that may be slow.
_TIMEOUT_S = 1800
# Package managers reach their mirrors through these; they get no other variable of the user's.
_KEPT = re.compile(r"(https?|ftp|all|no)_proxy", re.IGNORECASE)
# Lines of a failed program in the message: package managers print the cause last.
_LAST_LINES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """A program with its arguments; ``as_root`` if only root may do it."""

    argv: Sequence[str]
    as_root: bool = True

    def line(self, *, is_root: bool) -> str:
        """Return the command line that a person would type."""
        return ("sudo " if self.as_root and not is_root else "") + shlex.join(self.argv)


class HostChanger(Protocol):
    """The only interface through which a host is changed."""

    @property
    def is_root(self) -> bool:
        """True if actions for root need no sudo."""

    def run(self, action: Action) -> None:
        """Run the program to its end.

        Raises:
            HostError: the program is missing or failed; the message has its last lines.
        """

    def replace(self, name: str, data: bytes, *, mode: int) -> None:
        """Replace root's file at this absolute path atomically with these bytes.

        Raises:
            HostError: it failed, and the file is unchanged.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveChanger:
    """The changer of this machine. ``may_ask``: sudo may ask for a password, because there is a terminal."""

    uid: int
    environ: Mapping[str, str]
    may_ask: bool

    @property
    def is_root(self) -> bool:
        """True if this process runs as root."""
        return self.uid == 0

    def run(self, action: Action) -> None:
        """Run the program, with sudo if only root may."""
        probe = LiveProbe(environ=self.environ)
        program = probe.find(action.argv[0])
        if program is None:
            raise HostError(f"{action.argv[0]}: not installed", code="tool-missing")
        argv = [program, *action.argv[1:]]
        if action.as_root and not self.is_root:
            sudo = probe.find("sudo")
            if sudo is None:
                raise HostError(
                    f"{shlex.join(action.argv)}: only root may, and there is no sudo",
                    hint="run enclavectl as root",
                    code="no-sudo",
                )
            # -n: fail rather than wait for a password that nobody types
            argv = [sudo, *([] if self.may_ask else ["-n"]), "--", *argv]
        kept = {name: value for name, value in self.environ.items() if _KEPT.fullmatch(name)}
        command = Command(argv=argv, cwd=Path("/"), environment={**MINIMAL_ENVIRONMENT, **kept})
        done = capture(command, timeout_s=_TIMEOUT_S)
        if done.status != 0:
            lines = (done.out + done.err).decode("utf-8", errors="replace").strip().splitlines()
            raise HostError(
                f"{shlex.join(action.argv)}: failed with status {done.status}: "
                f"{' | '.join(lines[-_LAST_LINES:]) or 'it said nothing'}",
                code="step-failed",
            )

    def replace(self, name: str, data: bytes, *, mode: int) -> None:
        """Write the bytes beside the file and rename them over it, as root."""
        path = Path(name)
        if self.is_root:
            write_atomic(path, data, mode=mode)
            return
        with stage_file(Path(self.environ.get("TMPDIR") or "/tmp"), mode=0o600) as staged:  # noqa: S108 - random name, O_EXCL
            staged.file.write(data)
            staged.file.flush()
            beside = f"{path.parent}/.enclavectl-{path.name}.tmp"
            self.run(
                Action(
                    argv=[
                        "install",
                        "-m",
                        f"{mode:04o}",
                        "-o",
                        "root",
                        "-g",
                        "root",
                        str(staged.path),
                        beside,
                    ]
                )
            )
            try:
                self.run(Action(argv=["mv", "-f", "-T", beside, name]))
            except HostError:
                self.run(Action(argv=["rm", "-f", beside]))
                raise
