"""The Docker lane: .ci/docker-lane provides the engine and the base image; conftest.py the fixtures."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.command import Done, enclavectl

BASE_IMAGE = os.environ.get("ENCLAVECTL_TEST_BASE_IMAGE", "")
MACHINE = {"x86_64": 62, "aarch64": 183}[os.uname().machine]  # ELF's e_machine
IS_REQUIRED = os.environ.get("ENCLAVECTL_TEST_REQUIRE_DOCKER") == "1"


def docker_environment() -> Mapping[str, str]:
    """What a child needs to reach the engine; skips the test, or fails it in CI, where there is none."""
    reason = None
    if not BASE_IMAGE:
        reason = "no base image: ENCLAVECTL_TEST_BASE_IMAGE is not set; .ci/docker-lane sets it"
    elif not os.environ.get("DOCKER_HOST"):
        reason = "no Docker engine: DOCKER_HOST is not set; .ci/docker-lane starts one"
    if reason is not None and IS_REQUIRED:
        pytest.fail(reason)
    if reason is not None:
        pytest.skip(reason)
    passed = (
        "PATH",
        "DOCKER_HOST",
        "DOCKER_CONFIG",
        "PIP_INDEX_URL",
        "PIP_CONFIG_FILE",
        "PIP_CERT",
        "SSL_CERT_FILE",
    )
    network = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
    return {key: os.environ[key] for key in (*passed, *network) if key in os.environ}


@dataclass(frozen=True, slots=True)
class Lane:
    """A home with the wheels that were downloaded once, and a set of boot files."""

    home: Path
    environ: dict[str, str]

    def run(self, *arguments: object) -> Done:
        return enclavectl(*arguments, "--output", "json", home=self.home, environ=self.environ, timeout_s=500)

    def build(self, folder: Path, *arguments: object) -> Done:
        """A build into a folder of its own."""
        folder.mkdir(exist_ok=True)
        outputs = ["--to", folder / "enclave.eif", "--lock", folder / "enclavectl.lock.json"]
        return self.run("build", "--blobs", self.home / "blobs", *outputs, *arguments)


# The smallest that an enclave could start: the header of a static program.
APP = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, MACHINE, 1, 0, 64, 0, 0, 64, 56, 0, 0, 0, 0)


def own_image(folder: Path, dockerfile: str, **files: bytes) -> Path:
    """A context of one's own."""
    context = folder / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(dockerfile)
    for name, data in files.items():
        (context / name).write_bytes(data)
        (context / name).chmod(0o755)
    return context
