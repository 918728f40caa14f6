from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.control_plane_process import Api, control_plane

PROGRAMS = os.environ.get("ENCLAVECTL_TEST_CLUSTER")
REQUIRED = os.environ.get("ENCLAVECTL_TEST_REQUIRE_CLUSTER")


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A control plane that all tests of a session share; each has a namespace and nodes of its own."""
    if PROGRAMS is None:
        assert not REQUIRED, "ENCLAVECTL_TEST_REQUIRE_CLUSTER is set, and no control plane is here"
        pytest.skip("no control plane here; .ci/cluster-lane builds one")
    with control_plane(Path(PROGRAMS), tmp_path_factory.mktemp("cluster") / "plane") as found:
        yield found
