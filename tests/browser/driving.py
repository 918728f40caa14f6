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


@dataclass(frozen=True, kw_only=True)
class Visit:
    """One visit of a page. ``namespace`` is the network namespace of the browser, None for this one's."""

    url: str
    folder: Path
    rounds: Sequence[Sequence[Path]] = ()
    width: int = 1200
    dark: bool = False
    locale: str = "en-US"
    ahead_ms: int = 0
    token: str | None = None
    save: bool = False
    axe: bool = False
    screenshot: str | None = None
    namespace: str | None = None

    def see(self) -> dict[str, Any]:
        """Make the visit, and return what was seen."""
        if not CHROMIUM.exists():
            absent(f"{CHROMIUM} is not here")
        profile = self.folder / f"profile-{len(list(self.folder.glob('profile-*')))}"
        order = {
            "url": self.url,
            "chromium": str(CHROMIUM),
            "profile": str(profile),
            "width": self.width,
            "dark": self.dark,
            "locale": self.locale,
            "aheadMs": self.ahead_ms,
            "token": self.token,
            "rounds": [[str(path) for path in paths] for paths in self.rounds],
            "save": self.save,
            "axe": self.axe,
            "screenshot": self._screenshot(),
        }
        inside = [] if self.namespace is None else ["ip", "netns", "exec", self.namespace]
        done = subprocess.run(
            [*inside, node(), str(built_tests() / "drive.mjs")],
            input=json.dumps(order),
            capture_output=True,
            text=True,
            check=False,
            timeout=110,
        )
        assert done.returncode == 0, done.stderr
        seen = json.loads(done.stdout)
        assert isinstance(seen, dict)
        return seen

    def _screenshot(self) -> str | None:
        if self.screenshot is None:
            return None
        folder = Path(ARTIFACTS) if ARTIFACTS is not None else self.folder
        folder.mkdir(parents=True, exist_ok=True)
        return str(folder / f"{self.screenshot}.png")
