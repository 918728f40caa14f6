"""The inputs of `doctor` and `setup`: the host, and the configuration's part."""

from __future__ import annotations

from pathlib import Path

from enclavectl.config.load import Config
from enclavectl.host.checks.facts import Facts, HostSettings
from enclavectl.host.host import Host


def facts_of(host: Host, config: Config) -> Facts:
    """Return the facts for the checks and the steps of a setup."""
    return Facts(
        host,
        HostSettings(
            backend=config.backend.value,
            memory_mib=config.enclave.memory_mib,
            cpus=config.enclave.cpus,
            folder=Path.cwd(),
            state_dir=config.state_dir,
            data_dir=config.data_dir,
            qemu_program=config.qemu.program,
        ),
    )
