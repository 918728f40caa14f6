"""The installed ``enclavectl`` on a fake Nitro host."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from tests.e2e.cli import Cli
from tests.nitro.host import FakeHost


@dataclass(frozen=True, slots=True)
class NitroCli(Cli):
    """``Cli`` whose commands run on the backend nitro of ``host``."""

    host: FakeHost | None = None

    @property
    def fake(self) -> FakeHost:
        assert self.host is not None
        return self.host

    def environment(self, env: Mapping[str, str] | None = None) -> dict[str, str]:
        more = {**self.fake.environment, "ENCLAVECTL_BACKEND": "nitro", **MACHINE, **(env or {})}
        return {**super(NitroCli, self).environment(), **more}

    def keepers(self) -> list[int]:
        """The processes that keep this user's enclaves."""
        return [
            pid for pid, line in command_lines() if b"backends.nitro.keeper" in line and self.is_ours(line)
        ]

    def listed(self) -> dict[str, str]:
        """The state of each enclave that ``list`` shows, by name."""
        return {one["name"]: one["state"] for one in self.ok("list", "-o", "json").json()["enclaves"]}

    def is_ours(self, line: bytes) -> bool:
        return str(self.state).encode() in line

    def records(self) -> list[str]:
        folder = self.state / "nitro" / "enclaves"
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []

    def images(self) -> list[str]:
        folder = self.state / "nitro" / "images"
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


# A line of a recorded console.
STAMPED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z .*")
MACHINE = {"ENCLAVECTL_ENCLAVE_MEMORY_MIB": "1024", "ENCLAVECTL_ENCLAVE_CPUS": "2"}


def command_lines() -> list[tuple[int, bytes]]:
    """Every process and its command line."""
    from pathlib import Path

    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found.append((int(entry.name), (entry / "cmdline").read_bytes()))
            except OSError:
                continue
    return found
