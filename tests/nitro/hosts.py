"""The hosts for tests of the backend nitro: the fake, and a host in software for the real nitro-cli."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.nitro.host import FakeHost, fake_host

HOSTS = ["fake", pytest.param("real", marks=pytest.mark.nitro_cli)]


def make_host(kind: str, home: Path, **settings: object) -> AbstractContextManager[FakeHost]:
    """A host of that kind."""
    if kind == "fake":
        return fake_host(home, **settings)
    from tests.nitro.real_host.host import real_host

    return real_host(home, boot=None, **settings)


def qemu_host(home: Path) -> AbstractContextManager[FakeHost]:
    """A host of the real nitro-cli whose enclaves are machines of QEMU, which the lane has."""
    from tests.image.guest import qemu_parts
    from tests.nitro.real_host.host import real_host
    from tests.nitro.real_host.qemu import qemu_boot

    return real_host(home, boot=qemu_boot(qemu_parts().qemu))
