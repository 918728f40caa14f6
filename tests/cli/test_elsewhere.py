"""Which enclave elsewhere a command means, and when its remote is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from enclavectl.cli.elsewhere import find_elsewhere
from enclavectl.cli.invocation import Invocation, screen_for
from enclavectl.cli.network_options import NO_NETWORK
from enclavectl.cli.options import OutputFormat
from enclavectl.config.load import load_config
from enclavectl.targets.remote_store import RemoteStore
from enclavectl.targets.verification import VerificationOptions
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
