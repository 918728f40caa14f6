"""A host on which the real nitro-cli launches: a ``FakeHost`` whose program, driver and vsock are others."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.nitro.fake.sysfs import show
from tests.nitro.host import FakeHost, lay_out
from tests.nitro.real import real_nitro_cli
from tests.nitro.real_host.library import preload_library
from tests.nitro.real_host.server import Boot, Host

_USERS = {"root": 0, "ec2-user": 1000, "alice": 1001, "bob": 1002}
_TAG = "sys/devices/virtual/dmi/id/board_asset_tag"
# -a keeps this program's name in the process's command line.
_PROGRAM = """#!/bin/bash
export LD_PRELOAD={library} NE_SHIM_HOST={name} NE_SHIM_DIR={home} NE_SHIM_ARGV={home}/argv.log
read -r NE_SHIM_UID <{home}/uid
export NE_SHIM_UID
exec -a "$0" {real} "$@"
"""


@dataclass(frozen=True, slots=True)
class RealHost(FakeHost):
    """``real_host`` makes one."""

    name: str = ""
    library: Path = Path()
    server: Host | None = field(default=None, compare=False)

    @property
    def environment(self) -> dict[str, str]:
        """Without a folder for vsock: enclavectl opens sockets of AF_VSOCK, which the library serves."""
        found = {**super(RealHost, self).environment}
        del found["ENCLAVECTL_NITRO_VSOCK_DIR"]
        return {
            **found,
            "LD_PRELOAD": str(self.library),
            "NE_SHIM_HOST": self.name,
            "NE_SHIM_DIR": str(self.home),
        }

    @property
    def sent_bytes(self) -> int:
        """How much the parent has sent to its enclaves."""
        assert self.server is not None
        return self.server.sent_bytes

    @property
    def is_real(self) -> bool:
        return True

    def set(self, **settings: object) -> None:
        """Change the host: what is not named is as in ``Settings``."""
        super(RealHost, self).set(**settings)
        place = self.place
        (self.home / "uid").write_text(f"{_USERS[place.settings.user]}\n")
        tag = place.tree / _TAG
        tag.parent.mkdir(parents=True, exist_ok=True)
        tag.write_text(place.settings.instance + "\n")
        show(place)


@contextmanager
def real_host(home: Path, *, boot: Boot | None = None, **settings: object) -> Iterator[RealHost]:
    """A host in the folder ``home``; at the end nothing of it runs."""
    real, library = real_nitro_cli(), preload_library()
    host = RealHost(home, name=secrets.token_hex(6), library=library)
    lay_out(host, **settings)
    host.program.write_text(_PROGRAM.format(library=library, name=host.name, home=home, real=real))
    host.program.chmod(0o755)
    server = Host(host.name, lambda: host.place, boot)
    try:
        yield replace(host, server=server)
    finally:
        host.end()
        server.close()
