"""The example of docs/remote.md, run as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from enclavectl.attestation.policy_file import render_policy
from tests.in_process import gray, start_in_process
from tests.net.peers import start_websocket_relay

PAGE = Path(__file__).resolve().parents[2] / "docs" / "remote.md"


def test_the_example_of_the_page_runs(tmp_path: Path) -> None:
    [example] = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)
    (tmp_path / "token").write_text("t")
    with start_in_process(tmp_path) as enclave, start_websocket_relay(enclave.address) as peer:
        policy = tmp_path / "policy.yaml"
        policy.write_text(render_policy(enclave.expectation.policy))
        replies = list(
            names["diagnose"](
                f"ws://localhost:{peer.port}",
                policy,
                tmp_path / "token",
                [gray(0), gray(255)],
                root=enclave.expectation.root,
            )
        )
    assert [reply.error for reply in replies] == [None, None]
    assert peer.seen == ["/v1 Bearer t"]
