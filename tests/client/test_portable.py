"""The data owner's half needs no module of processes or users, and none that only an enclave needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Of Unix; a client has no use for them.
ABSENT = ("fcntl", "pwd", "grp", "termios")
# What only an enclave, a report or a build uses: 100 of the 128 MiB of an installation.
UNUSED = ("numpy", "tflite_runtime", "PIL", "isal", "docker", "backports.zstd")


@pytest.mark.parametrize(
    "module",
    [
        "enclavectl.client.session",
        "enclavectl.client.batch",
        "enclavectl.net.websocket",
        "enclavectl.net.tls",
        "enclavectl.net.proxy",
        "enclavectl.targets.remote_check",
        "enclavectl.targets.invitation",
        "enclavectl.cli.commands.diagnose",
        "enclavectl.cli.commands.remote.add",
        "enclavectl.cli.picture_batch",
    ],
)
def test_a_client_imports_without_what_it_has_no_use_for(module: str) -> None:
    blocked = "".join(f"sys.modules[{name!r}] = None\n" for name in (*ABSENT, *UNUSED))
    subprocess.run([sys.executable, "-c", f"import sys\n{blocked}import {module}"], check=True)
