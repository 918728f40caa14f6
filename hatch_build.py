"""The wheel's build: the patient's page is made of TypeScript, so its script is built where Node is."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PageHook(BuildHookInterface):
    """Builds enclavectl/page/built if it is not there; without Node the wheel lacks it, as `page` says."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build, unless the install is editable: there `make page` does."""
        root = Path(self.root)
        built = root / "enclavectl" / "page" / "built"
        npm = shutil.which("npm")
        if version == "editable" or self.target_name != "wheel":
            return
        if not (built / "page.js").exists() and npm is not None and (root / "browser").is_dir():
            self._build(npm, root / "browser")
        build_data["artifacts"].append("/enclavectl/page/built/*")

    def _build(self, npm: str, folder: Path) -> None:
        """Install what the lock names, and build; without a registry the wheel lacks the page."""
        for words in (["ci", "--ignore-scripts", "--no-audit", "--no-fund"], ["run", "build"]):
            try:
                subprocess.run([npm, *words], cwd=folder, check=True, timeout=300)
            except (OSError, subprocess.SubprocessError) as exc:
                self.app.display_warning(f"the patient's page was not built: {exc}")
                return
