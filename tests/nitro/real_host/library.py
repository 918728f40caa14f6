"""The preload library, compiled once for each text of its sources."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from tests.nitro.real import REQUIRED

_FLAGS = ("-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-maybe-uninitialized")


@cache
def preload_library(name: str = "shim") -> Path:
    """The library made of the C sources in ``name``; the test is skipped where there is no C compiler."""
    folder = Path(__file__).with_name(name)
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        reason = "no C compiler for the preload library: .ci/nitro-lane installs gcc"
        if os.environ.get(REQUIRED):
            pytest.fail(reason)
        pytest.skip(reason)
    sources = sorted(folder.glob("*.c"))
    text = b"".join(path.read_bytes() for path in sorted(folder.iterdir())) + " ".join(_FLAGS).encode()
    cache_folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "enclavectl-ci"
    made = cache_folder / f"{folder.name}-{hashlib.sha256(text).hexdigest()[:16]}.so"
    if not made.exists():
        cache_folder.mkdir(parents=True, exist_ok=True)
        scratch = made.with_suffix(f".{os.getpid()}")
        argv = [compiler, *_FLAGS, "-o", str(scratch), *map(str, sources), "-ldl"]
        ran = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        scratch.replace(made)  # of two that compile at once, each finds a whole library
    return made
