"""The data owner's half where there is no Linux: nothing on its way needs a module that only Linux has."""

from __future__ import annotations

import subprocess
import sys

import pytest

ABSENT = ("fcntl", "pwd", "grp", "resource", "termios")


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
def test_a_client_imports_without_what_only_linux_has(module: str) -> None:
    blocked = "".join(f"sys.modules[{name!r}] = None\n" for name in ABSENT)
    subprocess.run([sys.executable, "-c", f"import sys\n{blocked}import {module}"], check=True)
