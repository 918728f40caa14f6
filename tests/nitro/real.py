"""The nitro-cli that a test runs: the fake, or a real one where it is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.command import Done

VARIABLE = "ENCLAVECTL_TEST_NITRO_CLI"
REQUIRED = "ENCLAVECTL_TEST_REQUIRE_NITRO_CLI"


@dataclass(frozen=True, slots=True)
class NitroCli:
    """A nitro-cli with folders of its own on a machine without the device."""

    program: Path
    home: Path

    @property
    def logs(self) -> Path:
        return self.home / "log"

    @property
    def sockets(self) -> Path:
        return self.home / "run"

    def run(self, *arguments: str | Path, env: Mapping[str, str] | None = None) -> Done:
        done = subprocess.run(
            [str(self.program), *map(str, arguments)],
            env={
                "PATH": "/usr/bin:/bin",
                "HOME": str(self.home),
                "NITRO_CLI_LOGS_PATH": str(self.logs),
                "NITRO_CLI_SOCKETS_PATH": str(self.sockets),
                "NITRO_CLI_BLOBS": str(self.home / "blobs"),
                **(env or {}),
            },
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


def real_nitro_cli() -> Path:
    """The path of a real nitro-cli; the test is skipped where there is none, or fails where it must be."""
    found = os.environ.get(VARIABLE) or shutil.which("nitro-cli")
    if found is None:
        reason = f"no nitro-cli: .ci/nitro-lane builds one, or set {VARIABLE}"
        if os.environ.get(REQUIRED):
            pytest.fail(reason)
        pytest.skip(reason)
    return Path(found)
