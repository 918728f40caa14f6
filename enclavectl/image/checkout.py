"""The git commit that a build's inputs come from, as git itself tells it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from enclavectl.artifacts.provenance import Checkout
from enclavectl.errors import HostError
from enclavectl.run import MINIMAL_ENVIRONMENT, Command, Output, capture

# A large repository on a slow disk: git compares every file's time and size.
_TIMEOUT_S = 120.0
# SHA-1, or SHA-256 of repositories in that format.
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
# A repository's own configuration can name a program that `status` starts.
_OPTIONS = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")


def find_checkout(folder: Path, environ: Mapping[str, str]) -> Checkout | None:
    """Ask git for the commit of ``folder``; None without git, or where there is no repository or no commit.

    Raises:
        HostError: git knows the repository and cannot say what differs from its commit.
    """
    program = shutil.which("git", path=environ.get("PATH"))
    if program is None:
        return None

    def git(*words: str) -> Output:
        # HOME: whose repositories may be read (safe.directory) stands in the user's own configuration.
        environment = {**MINIMAL_ENVIRONMENT, "HOME": environ.get("HOME", "/"), "GIT_OPTIONAL_LOCKS": "0"}
        command = Command([program, *_OPTIONS, *words], cwd=folder, environment=environment)
        return capture(command, timeout_s=_TIMEOUT_S)

    head = git("rev-parse", "--verify", "HEAD")
    commit = head.out.decode(errors="replace").strip()
    if head.status != 0 or _COMMIT.fullmatch(commit) is None:
        return None
    status = git("status", "--porcelain", "--untracked-files=normal")
    if status.status != 0:
        why = status.err.decode(errors="replace").strip()[:200]
        raise HostError(f"git status: {why}", hint="--provenance names the checkout, which git cannot read")
    return Checkout(commit=commit, is_dirty=bool(status.out.strip()))
