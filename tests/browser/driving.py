"""The page in Chromium, driven by browser/test/drive.ts; what was seen comes back as JSON."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.browser.lane import CHROMIUM, absent, built_tests, node

# The challenge's frame: all that a browser may send before the proof.
CHALLENGE_BYTES = 39
# Where CI keeps what people look at.
ARTIFACTS = os.environ.get("ENCLAVECTL_TEST_ARTIFACTS")


class Browser:
    """One Chromium for many visits: it takes seconds to start on a busy machine."""

    def __init__(self, namespace: str | None) -> None:
        if not CHROMIUM.exists():
            absent(f"{CHROMIUM} is not here")
        inside = [] if namespace is None else ["ip", "netns", "exec", namespace]
        self._process = subprocess.Popen(
            [*inside, node(), str(built_tests() / "drive.mjs"), str(CHROMIUM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def visit(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{json.dumps(order)}\n")
        self._process.stdin.flush()
        seen = json.loads(self._process.stdout.readline())
        assert isinstance(seen, dict)
        assert "error" not in seen, seen["error"]
        return seen

    def close(self) -> None:
        """End it; it ends by itself when there are no more orders."""
        self._process.communicate(timeout=30)


_OPEN: dict[str | None, Browser] = {}


def close_browser(namespace: str | None = None) -> None:
    """End the browser of a network namespace, if there is one."""
    if (found := _OPEN.pop(namespace, None)) is not None:
        found.close()


@dataclass(frozen=True, kw_only=True)
class Visit:
    """One visit of a page. ``namespace`` is the network namespace of the browser, None for this one's."""

    url: str
    folder: Path
    rounds: Sequence[Sequence[Path]] = ()
    width: int = 1200
    dark: bool = False
    phone: bool = False
    locale: str = "en-US"
    ahead_ms: int = 0
    hurry: bool = False
    token: str | None = None
    by: str = "choose"
    unfold: Sequence[str] = ()
    print: bool = False
    save: bool = False
    axe: bool = False
    screenshot: str | None = None
    namespace: str | None = None

    def see(self) -> dict[str, Any]:
        """Make the visit, and return what was seen."""
        order = {
            "url": self.url,
            "width": self.width,
            "dark": self.dark,
            "phone": self.phone,
            "locale": self.locale,
            "aheadMs": self.ahead_ms,
            "hurry": self.hurry,
            "token": self.token,
            "rounds": [[str(path) for path in paths] for paths in self.rounds],
            "by": self.by,
            "unfold": list(self.unfold),
            "print": self.print,
            "save": self.save,
            "axe": self.axe,
            "screenshot": self._screenshot(),
        }
        if self.namespace not in _OPEN:
            _OPEN[self.namespace] = Browser(self.namespace)
        return _OPEN[self.namespace].visit(order)

    def _screenshot(self) -> str | None:
        if self.screenshot is None:
            return None
        folder = Path(ARTIFACTS) if ARTIFACTS is not None else self.folder
        folder.mkdir(parents=True, exist_ok=True)
        return str(folder / f"{self.screenshot}.png")
