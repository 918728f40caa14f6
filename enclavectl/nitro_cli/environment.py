"""The path of nitro-cli, and the environment of nitro-cli and its daemons.

A daemon keeps the environment of the command that launched it as long as the enclave lives. So only variables
that nitro-cli reads are passed on (nitro-cli 1.5.0: common/mod.rs, utils.rs, docker.rs).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from enclavectl.errors import HostError

_PASSED_ON = (
    "HOME",
    "PATH",
    "RUST_LOG",
    "NITRO_CLI_BLOBS",
    "NITRO_CLI_ARTIFACTS",
    "NITRO_CLI_LOGS_PATH",
    "NITRO_CLI_SOCKETS_PATH",
)
_FOR_BUILDS = ("DOCKER_HOST", "TMPDIR")
# Credentials, and the proxies on the way to KMS.
_KMS = re.compile(r"(AWS_.*|(https?|no)_proxy)", re.IGNORECASE)
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def find_nitro_cli(environ: Mapping[str, str]) -> str:
    """Return the absolute path of nitro-cli.

    Raises:
        HostError: it is not installed.
    """
    found = shutil.which("nitro-cli", path=environ.get("PATH", _PATH))
    if found is None:
        raise HostError(
            "nitro-cli is not on the PATH",
            hint="enclavectl setup installs it; images can be built without it (build --builder native), "
            "and --backend local needs none",
            code="nitro-cli-missing",
        )
    return str(Path(found).absolute())


def nitro_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return nitro-cli's environment: no secrets, but BACKTRACE, which shows the driver's reason."""
    kept = {key: environ[key] for key in _PASSED_ON if environ.get(key)}
    return {"PATH": _PATH, "LANG": "C.UTF-8", **kept, "BACKTRACE": "1"}


def build_environment(environ: Mapping[str, str], *, uses_kms: bool) -> dict[str, str]:
    """Return the environment for builds and signing, which use Docker, and KMS if the key is there."""
    kept = {key: environ[key] for key in _FOR_BUILDS if environ.get(key)}
    kms = {key: value for key, value in environ.items() if uses_kms and _KMS.fullmatch(key)}
    return {**nitro_environment(environ), **kept, **kms}


def sockets_dir(environ: Mapping[str, str]) -> Path:
    """Return the folder of the daemons' sockets, one for each enclave that has booted."""
    return Path(environ.get("NITRO_CLI_SOCKETS_PATH") or "/run/nitro_enclaves")


def logs_dir(environ: Mapping[str, str]) -> Path:
    """Return the folder of nitro-cli's log and the backtraces of its errors."""
    return Path(environ.get("NITRO_CLI_LOGS_PATH") or "/var/log/nitro_enclaves")
