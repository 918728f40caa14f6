"""The image of a fleet's pods, built once by a real engine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.engine import Engine
from tests.image.engine import BASE_IMAGE, docker_environment
from tests.net.certificates import Authority
from tests.nitro.host import fake_host

ROOT = Path(__file__).resolve().parents[2]
NAME = "enclavectl-parent-test:local"
PACKAGES = (
    "pip",
    "typer>=0.28,<0.29",
    "rich",
    "pyyaml",
    "cryptography",
    "cbor2",
    "websockets",
    "prometheus-client",
    "backports.zstd",
)


@pytest.fixture(scope="session")
def engine() -> Engine:
    return Engine(docker_environment())


@pytest.fixture(scope="session")
def image(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image, with the real nitro-cli where there is one."""
    folder = tmp_path_factory.mktemp("parent")
    wheels = folder / "wheels"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    environ = dict(engine.environ)
    subprocess.run(
        [*pip, "download", "--dest", str(wheels), "--only-binary", ":all:", *PACKAGES],
        check=True,
        env=environ,
    )
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--wheel-dir", str(wheels), str(ROOT)], check=True, env=environ
    )
    real = os.environ.get("ENCLAVECTL_TEST_NITRO_CLI")
    shutil.copy(real or shutil.which("true") or "/bin/true", folder / "nitro-cli")
    with fake_host(tmp_path_factory.mktemp("i") / "host") as host:
        shutil.copy(host.eif, folder / "enclave.eif")
        shutil.copy(host.lock, folder / "enclavectl.lock.json")
    shutil.copy(ROOT / "configs" / "collect.py", folder)
    shutil.copy(Authority(folder).file, folder / "ca.pem")
    dockerfile = ROOT / "configs" / "Dockerfile.parent"
    engine.run("build", "--file", dockerfile, "--build-arg", f"BASE={BASE_IMAGE}", "--tag", NAME, folder)
    return NAME
