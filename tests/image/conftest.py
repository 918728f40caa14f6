"""What the Docker lane's tests share: a home with boot files, and the payload's image, built once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.eif import samples
from tests.image.engine import BASE_IMAGE, Lane, docker_environment


@pytest.fixture(scope="session")
def lane(tmp_path_factory: pytest.TempPathFactory) -> Lane:
    environ = dict(docker_environment())
    home = tmp_path_factory.mktemp("home")
    blobs = home / "blobs"
    blobs.mkdir()
    (blobs / "bzImage").write_bytes(samples.bzimage(1 << 16))
    (blobs / "init").write_bytes(b"init")
    (blobs / "nsm.ko").write_bytes(b"nsm")
    return Lane(home, environ)


@pytest.fixture(scope="session")
def payload(lane: Lane, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the payload's enclave image and its lock."""
    folder = tmp_path_factory.mktemp("payload")
    done = lane.build(folder, "--base-image", BASE_IMAGE)
    assert done.status == 0, done.err
    return folder
