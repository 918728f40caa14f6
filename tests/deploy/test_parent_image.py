"""The image of a fleet's pods, built by a real engine and run as a pod runs it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from enclavectl.deploy.kubernetes.seccomp import seccomp_profile
from tests.deploy.engine import Engine

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(600)]


def test_it_is_small_and_has_no_shell(engine: Engine, image: str) -> None:
    size = int(engine.run("image", "inspect", "--format", "{{.Size}}", image).stdout)
    assert size < 160 << 20
    for shell in ("/bin/sh", "/bin/bash", "/usr/bin/dash"):
        assert engine.once("--entrypoint", shell, image, "-c", "true").returncode != 0


# Those of Pod Security baseline and restricted.
@pytest.mark.parametrize("user", ["0", "65532"])
def test_its_commands_run_as_any_user_on_a_root_that_nobody_may_write(
    engine: Engine, image: str, user: str
) -> None:
    for arguments in (("gateway", "--help"), ("fleet", "probe", "--help"), ("plan", "--help")):
        done = engine.once("--user", user, image, *arguments)
        assert done.returncode == 0, done.stderr
    if os.environ.get("ENCLAVECTL_TEST_NITRO_CLI"):
        done = engine.once("--user", user, "--entrypoint", "/usr/bin/nitro-cli", image, "--version")
        assert done.stdout.startswith("Nitro CLI"), done.stderr


def test_it_has_the_cas_of_its_folder_where_calls_of_kms_look(engine: Engine, image: str) -> None:
    code = "import ssl; print([dict(*ca['subject']) for ca in ssl.create_default_context().get_ca_certs()])"
    done = engine.once("--entrypoint", "python3", image, "-c", code)
    assert done.stdout == "[{'commonName': 'test CA'}]\n", done.stderr


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
