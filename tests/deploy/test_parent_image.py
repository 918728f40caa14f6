"""The image of a fleet's pods, built by a real engine and run as a pod runs it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from enclavectl.deploy.kubernetes.seccomp import seccomp_profile
from tests.image.engine import BASE_IMAGE, docker_environment
from tests.nitro.host import fake_host

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(600)]
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


@dataclass(frozen=True, slots=True)
class Engine:
    """The engine's command line."""

    environ: Mapping[str, str]

    def run(self, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["docker", *map(str, arguments)],
            env=dict(self.environ),
            capture_output=True,
            text=True,
            check=False,
            timeout=500,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def once(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """A container that ends by itself, as restricted as a pod's."""
        return self.run("run", "--rm", *RESTRICTIONS, *arguments, check=False)


RESTRICTIONS = (
    *("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--network", "none"),
    *("--env", "ENCLAVECTL_STATE_DIR=/dev/shm/enclavectl", "--env", "HOME=/tmp", "--tmpfs", "/tmp"),
)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(docker_environment())


@pytest.fixture(scope="module")
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
        lock = json.loads(host.lock.read_text())
        lock["eif"]["file"] = "enclave.eif"
        (folder / "enclavectl.lock.json").write_text(json.dumps(lock))
    shutil.copy(ROOT / "configs" / "collect.py", folder)
    dockerfile = ROOT / "configs" / "Dockerfile.parent"
    engine.run("build", "--file", dockerfile, "--build-arg", f"BASE={BASE_IMAGE}", "--tag", NAME, folder)
    return NAME


def test_it_is_small_and_has_no_shell(engine: Engine, image: str) -> None:
    size = int(engine.run("image", "inspect", "--format", "{{.Size}}", image).stdout)
    assert size < 160 << 20
    for shell in ("/bin/sh", "/bin/bash", "/usr/bin/dash"):
        assert engine.once("--entrypoint", shell, image, "-c", "true").returncode != 0


@pytest.mark.parametrize("user", ["0", "65532", "12345"])
def test_its_commands_run_as_any_user_on_a_root_that_nobody_may_write(
    engine: Engine, image: str, user: str
) -> None:
    for arguments in (
        ("--version",),
        ("gateway", "--help"),
        ("fleet", "probe", "--help"),
        ("plan", "--help"),
    ):
        done = engine.once("--user", user, image, *arguments)
        assert done.returncode == 0, done.stderr
    if os.environ.get("ENCLAVECTL_TEST_NITRO_CLI"):
        done = engine.once("--user", user, "--entrypoint", "/usr/bin/nitro-cli", image, "--version")
        assert done.stdout.startswith("Nitro CLI"), done.stderr


def checks(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, str]]:
    found: list[dict[str, str]] = json.loads(done.stdout)["checks"]
    return {one["id"]: one for one in found}


def test_the_default_seccomp_profile_is_told_and_ours_lets_vsock_through(
    engine: Engine, image: str, tmp_path: Path
) -> None:
    pod = ("--env", "KUBERNETES_SERVICE_HOST=10.0.0.1", "--env", "ENCLAVECTL_BACKEND=nitro")
    arguments = (image, "doctor", "--output", "json")
    default = checks(engine.once(*pod, *arguments))["vsock.socket"]
    assert default["state"] == "fail"
    assert "seccomp" in default["fix"]
    profile = tmp_path / "profile.json"
    profile.write_bytes(seccomp_profile())
    ours = engine.once("--security-opt", f"seccomp={profile}", *pod, *arguments)
    found = checks(ours)["vsock.socket"]
    assert "Operation not permitted" not in found["found"]
    has_vsock = Path("/sys/module/vsock").exists()
    assert found["state"] == ("ok" if has_vsock else found["state"])
