"""The lane of the browser's code: where its parts are, or why its tests skip.

`.ci/browser-lane` installs the packages that browser/package-lock.json names and sets
ENCLAVECTL_TEST_REQUIRE_BROWSER=1, which turns every skip into a failure.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).parents[2]
BROWSER = ROOT / "browser"
CHROMIUM = Path(os.environ.get("ENCLAVECTL_TEST_CHROMIUM", "/usr/bin/chromium"))


def absent(reason: str) -> NoReturn:
    """Skip, or fail where the lane is required."""
    if os.environ.get("ENCLAVECTL_TEST_REQUIRE_BROWSER") == "1":
        pytest.fail(f"the browser lane is required: {reason}")
    pytest.skip(reason)


def node() -> str:
    """The Node that is here, with the packages of browser/."""
    found = shutil.which("node")
    if found is None:
        absent("no Node is here")
    if not (BROWSER / "node_modules").is_dir():
        absent("browser/node_modules is not here; .ci/browser-lane or npm ci in browser/ installs it")
    return found


@cache
def built_tests() -> Path:
    """The folder of the scripts that the tests run in Node, built from what is here now."""
    name = f"test-{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}"
    subprocess.run([node(), "build.mjs", "tests", name], cwd=BROWSER, check=True, timeout=60)
    return BROWSER / "dist" / name


@cache
def built_page() -> None:
    """Build the script that `enclavectl page` embeds."""
    subprocess.run([node(), "build.mjs"], cwd=BROWSER, check=True, timeout=60)
