"""The examples of docs/library.md, run as they stand there."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

import enclavectl.attestation
import enclavectl.client
import enclavectl.evidence
from enclavectl.attestation.policy_file import render_policy
from tests.evidence.sessions import POLICY, session_evidence
from tests.forge import NONCE, EnclaveForge, accepting
from tests.in_process import gray_png, start_in_process
from tests.net.peers import start_websocket_relay

PAGE = Path(__file__).resolve().parents[1] / "docs" / "library.md"
EXAMPLES = {
    found[1]: found[2]
    for found in re.finditer(r"## enclavectl\.(\w+)\n.*?```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
}
SERVER = re.findall(r"## A server of your own\n.*?```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[0]
PUBLIC = {
    "attestation": enclavectl.attestation,
    "evidence": enclavectl.evidence,
    "client": enclavectl.client,
}


def example(name: str, function: str) -> Callable[..., Any]:
    scope: dict[str, Any] = {}
    exec(compile(EXAMPLES[name], f"{PAGE.name}:{name}", "exec"), scope)
    found = scope[function]
    assert callable(found)
    return found  # type: ignore[no-any-return]  # of code that the page holds


def test_each_package_has_an_example_of_its_own_size() -> None:
    assert EXAMPLES.keys() == PUBLIC.keys()
    for name, text in EXAMPLES.items():
        code = [line for line in text.splitlines() if line.strip()]
        body = [line for line in code if line.startswith(" ")]
        assert len(body) <= 15, f"{name}: {len(body)} lines"


@pytest.mark.parametrize("name", PUBLIC)
def test_an_example_imports_only_what_its_packages_export(name: str) -> None:
    for package, names in re.findall(r"^from enclavectl\.(\w+) import (.*)$", EXAMPLES[name], re.MULTILINE):
        if package in PUBLIC:
            assert set(names.split(", ")) <= set(PUBLIC[package].__all__)


def test_attestation(tmp_path: Path) -> None:
    """AWS's root refuses the forge's document by name; there is no way to have AWS sign for a test."""
    judge = example("attestation", "judge")
    policy = tmp_path / "policy.yaml"
    policy.write_text(render_policy(POLICY).replace("[simulated]", "[nitro]"))
    told = judge(EnclaveForge().genuine(), NONCE, sha256(b"key").digest(), policy)
    assert told.startswith("refused (chain-root): ")


def test_evidence(tmp_path: Path) -> None:
    judge = example("evidence", "judge_kept")
    forge = EnclaveForge()
    file = tmp_path / "evidence.json"
    file.write_bytes(session_evidence(forge).to_bytes())
    checks = judge(file, POLICY, forge.root)
    assert checks[:3] == ["file: True", "signer: True", "envelope: True"]
    assert "freshness: None" in checks
    refused = judge(file, accepting(unsafe_allow_debug=True), forge.root)
    assert "release: False" in refused


def test_client(tmp_path: Path) -> None:
    diagnose = example("client", "diagnose")
    picture = tmp_path / "light.png"
    picture.write_bytes(gray_png(250))
    with start_in_process(tmp_path) as running:
        expected = running.expectation
        answers = diagnose(str(running.address), expected.policy, expected.root, [str(picture)])
    assert answers == ["light"]


def posted(service: Any, body: bytes) -> tuple[int, dict[str, Any]]:
    """What a server of ASGI does with one request, and the status and the value that come back."""
    sent: list[dict[str, Any]] = []
    half = len(body) // 2
    first: dict[str, Any] = {"body": body[:half], "more_body": True}
    parts = iter([first, {"body": body[half:]}])

    async def receive() -> dict[str, Any]:
        for part in parts:
            return part
        raise AssertionError("it asks for more than there is")

    async def send(event: dict[str, Any]) -> None:
        sent.append(event)

    async def serve() -> None:
        events = iter([{"type": "lifespan.startup"}])
        ended = asyncio.Event()

        async def next_event() -> dict[str, Any]:
            for event in events:
                return event
            await ended.wait()
            return {"type": "lifespan.shutdown"}

        started = asyncio.Event()

        async def lifespan_send(event: dict[str, Any]) -> None:
            started.set()
            assert event["type"].endswith(".complete")

        living = asyncio.create_task(service({"type": "lifespan"}, next_event, lifespan_send))
        await started.wait()
        await service({"type": "http"}, receive, send)
        ended.set()
        await living

    asyncio.run(serve())
    return sent[0]["status"], json.loads(sent[1]["body"])


def test_a_server_of_your_own(tmp_path: Path) -> None:
    scope: dict[str, Any] = {}
    exec(compile(SERVER, f"{PAGE.name}:server", "exec"), scope)
    (tmp_path / "token").write_text("t")
    with start_in_process(tmp_path) as running, start_websocket_relay(running.address) as peer:
        expected = running.expectation
        policy = tmp_path / "policy.yaml"
        policy.write_text(render_policy(expected.policy))

        def service(port: int, root: Any = expected.root) -> Any:
            return scope["Service"](f"ws://127.0.0.1:{port}", policy, tmp_path / "token", root=root)

        answered = posted(service(peer.port), gray_png(250))
        assert answered == (200, {"label": "light", "release": "test"})
        assert posted(service(peer.port), b"no picture")[0] == 422
        assert posted(service(peer.port), gray_png(250)[:30])[0] == 422
        status, value = posted(service(peer.port, EnclaveForge().root), gray_png(250))
        assert (status, value["code"]) == (502, "chain-root")
    assert posted(service(peer.port), gray_png(250))[0] == 502


def test_every_public_name_is_there() -> None:
    for name, package in PUBLIC.items():
        for exported in package.__all__:
            assert getattr(package, exported) is not None, f"{name}.{exported}"
    with pytest.raises(AttributeError, match="nonsense"):
        _ = enclavectl.client.nonsense  # type: ignore[attr-defined]  # that there is none is the test
