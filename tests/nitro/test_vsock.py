"""Our AF_VSOCK code, on the sockets of a host in software: the real nitro-cli's, and an enclave that runs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cli import wait_until
from tests.nitro.host import FakeHost
from tests.nitro.hosts import make_host

pytestmark = pytest.mark.nitro_cli
ANY = 2**32 - 1
_CHILD = """
import json, sys, time
from enclavectl.errors import EnclavectlError
from enclavectl.net.address import VsockAddress
from enclavectl.net.transport import connect, listen
started = time.monotonic()
try:
    found = (lambda: {expression})()
except EnclavectlError as exc:
    found = {{"error": type(exc).__name__, "message": exc.message}}
print(json.dumps({{"found": found, "seconds": time.monotonic() - started}}))
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHost]:
    """A host with an enclave that listens, at CID 16."""
    with make_host("real", tmp_path_factory.mktemp("vsock") / "host") as made:
        made.launch()
        wait_until(lambda: "error" not in str(ask(made, "connect(VsockAddress(16, 5005), 5).close()")), "up")
        yield made


def start(host: FakeHost, code: str) -> subprocess.Popen[str]:
    """A process of Python on that host."""
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=host.environment,
        cwd=Path(__file__).resolve().parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )


def ask(host: FakeHost, expression: str) -> dict[str, Any]:
    """What a process on that host found, and how long that took."""
    with start(host, _CHILD.format(expression=expression)) as process:
        out, _ = process.communicate(timeout=60)
    value = json.loads(out)
    assert isinstance(value, dict)
    return value


def test_a_connection_knows_both_its_ends(host: FakeHost) -> None:
    expression = "(lambda sock: [sock.family, *sock.getsockname(), *sock.getpeername()])"
    family, own_cid, own_port, *peer = ask(host, f"{expression}(connect(VsockAddress(16, 5005), 5))")["found"]
    assert (family, own_cid, peer) == (40, 3, [16, 5005])
    assert own_port > 1023


@pytest.mark.parametrize("address", ["16, 4999", "17, 5005"])
def test_where_nobody_listens_the_connection_is_reset(host: FakeHost, address: str) -> None:
    """vsock knows no refusal: what TCP answers with ECONNREFUSED it answers with ECONNRESET."""
    found = ask(host, f"connect(VsockAddress({address}), 5)")["found"]
    assert found["error"] == "StateError"
    assert found["message"] == (
        f"vsock:{address.replace(', ', ':')}: no enclave answers there (Connection reset by peer)"
    )


def test_where_nobody_answers_the_kernel_gives_up_after_two_seconds(host: FakeHost) -> None:
    host.set(absent_cid=0)
    answer = ask(host, "connect(VsockAddress(18, 5005), 30)")
    host.set()
    assert answer["found"]["error"] == "EnclaveLost"
    assert "nobody answered the connection in time" in answer["found"]["message"]
    assert 2 <= answer["seconds"] < 30


@pytest.mark.parametrize("cid", [ANY, 3])
def test_a_port_has_one_listener_and_is_free_after_it(host: FakeHost, cid: int) -> None:
    listening = "import time; from enclavectl.net.transport import *; from enclavectl.net.address import *\n"
    listening += f"sock = listen(VsockAddress({cid}, 7001)); print('listening', flush=True); time.sleep(60)"
    with start(host, listening) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "listening\n"
        found = ask(host, f"listen(VsockAddress({ANY}, 7001))")["found"]
        assert found["error"] == "StateError"
        assert f"vsock:{ANY}:7001: cannot listen there (Address already in use)" in found["message"]
        holder.kill()
    name = f"(lambda sock: sock.getsockname())(listen(VsockAddress({cid}, 7001)))"
    assert ask(host, name)["found"] == [cid, 7001]


def test_an_address_of_another_machine_is_none_to_listen_on(host: FakeHost) -> None:
    found = ask(host, "listen(VsockAddress(16, 7002))")["found"]
    assert "Cannot assign requested address" in found["message"]


def test_the_enclave_dials_in_with_its_cid(host: FakeHost) -> None:
    """Nobody else can have that address, so it says which enclave it is."""
    peers = ask(host, f"(lambda one: one.accept()[1])(listen(VsockAddress({ANY}, 5006)))")["found"]
    assert peers[0] == 16


def test_an_enclave_that_ends_ends_its_connections(host: FakeHost) -> None:
    second = host.launch()
    cid = second["EnclaveCID"]
    wait_until(lambda: "error" not in str(ask(host, f"connect(VsockAddress({cid}, 5005), 5).close()")), "up")
    reading = (
        "from enclavectl.net.transport import *; from enclavectl.net.address import *\n"
        f"sock = connect(VsockAddress({cid}, 5005), 5); print('connected', flush=True)\n"
        "try: print(sock.recv(1))\nexcept ConnectionResetError as exc: print(exc.errno)"
    )
    with start(host, reading) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "connected\n"
        host.run("terminate-enclave", "--enclave-id", second["EnclaveID"])
        out, _ = reader.communicate(timeout=60)
    assert out in {"b''\n", "104\n"}


def test_a_launch_takes_the_port_of_the_heartbeat_and_gives_it_back(host: FakeHost) -> None:
    assert ask(host, "(lambda sock: 'free')(listen(VsockAddress(3, 9000)))")["found"] == "free"
