"""The installed command, run as a process of its own: what a user gets."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tests.schemas.validation import check_output

COMMAND = Path(sys.executable).with_name("enclavectl")


@dataclass(frozen=True, slots=True)
class Done:
    """What a program left behind when it ended."""

    status: int
    out: str
    err: str

    def json(self) -> Any:
        """The one JSON value on standard output."""
        return json.loads(self.out)

    def error(self) -> dict[str, object]:
        """The error object."""
        return cast("dict[str, object]", self.json()["error"])


def enclavectl(
    *arguments: object, home: Path, environ: Mapping[str, str] | None = None, timeout_s: float = 100
) -> Done:
    """One run with an empty home, and nothing of the caller's environment but what ``environ`` gives."""
    done = subprocess.run(
        [COMMAND, *map(str, arguments)],
        env={"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": str(home), **(environ or {})},
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    check_output(done.stdout)
    return Done(status=done.returncode, out=done.stdout, err=done.stderr)
