"""Which enclave elsewhere a command means, and when its remote is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from enclavectl.cli.elsewhere import find_elsewhere
from enclavectl.cli.invocation import Invocation, screen_for
from enclavectl.cli.network_options import NO_NETWORK
from enclavectl.cli.options import OutputFormat
from enclavectl.config.load import load_config
from enclavectl.targets.remote_store import RemoteStore
from enclavectl.targets.verification import VerificationOptions
from tests.cli.command import enclavectl
from tests.e2e.cli import sample
from tests.targets.test_remotes import CONTENT, POLICY


def test_a_remote_is_read_when_it_is_needed_also_after_an_update(tmp_path: Path) -> None:
    """A batch connects again hours later, and the copies of its beginning may be gone."""
    environ = {"ENCLAVECTL_STATE_DIR": str(tmp_path / "state"), "HOME": str(tmp_path)}
    config = load_config(path=None, environ=environ, flags={}, flag_names={})
    store = RemoteStore(config.state_dir)
    store.add("hospital", CONTENT)
    store.set_default("hospital")
    found = find_elsewhere(
        Invocation(screen=screen_for(OutputFormat.TEXT), config=config),
        VerificationOptions(policy=None, allow_debug=False),
        remote=None,
        network=NO_NETWORK,
        is_here=False,
    )
    assert found is not None
    store.update("hospital", replace(CONTENT, policy=POLICY + b"# new\n", token=b"OTHER"))
    assert found.find().access.token == "OTHER"


@pytest.mark.parametrize("command", ["diagnose", "send"])
def test_a_policy_beside_a_remote_is_refused_not_forgotten(tmp_path: Path, command: str) -> None:
    """A remote has a policy of its own, and whoever names a stricter one must not get that."""
    store = RemoteStore(tmp_path / ".local/state/enclavectl")
    store.add("hospital", CONTENT)
    done = enclavectl(command, "--remote", "hospital", "--policy", "p.yaml", sample("nv"), home=tmp_path)
    assert done.status == 2
    assert "--policy: expected none beside --remote, which has its own" in done.err


@pytest.mark.parametrize("command", ["diagnose", "send"])
def test_a_policy_means_an_enclave_here_and_not_the_default_remote(tmp_path: Path, command: str) -> None:
    store = RemoteStore(tmp_path / ".local/state/enclavectl")
    store.add("hospital", CONTENT)
    store.set_default("hospital")
    done = enclavectl(command, "--policy", "absent.yaml", sample("nv"), home=tmp_path)
    assert done.status in {2, 6}  # there is no such policy, and nothing runs here
    assert "hospital" not in done.err
