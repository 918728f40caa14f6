"""The page over a real network: a browser in a network namespace of its own, TLS, and bytes on the wire."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.browser.driving import CHALLENGE_BYTES, Visit, close_browser
from tests.browser.lane import absent
from tests.browser.site import sample, write_page
from tests.gateway.conftest import Authority, make_authority
from tests.gateway.process import GatewayProcess, gateway
from tests.local_enclave import LocalEnclave

# One for each worker of the tests: namespaces and links have names for all of the machine.
NUMBER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
NAMESPACE, OURS, THEIRS = f"ecpage{NUMBER}", f"ecpage{NUMBER}a", f"ecpage{NUMBER}b"
HOST, GUEST = f"10.213.{NUMBER}.1", f"10.213.{NUMBER}.2"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=10)


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    """A network namespace with one link to this one."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        absent("network namespaces need root and iproute2")
    subprocess.run(["ip", "netns", "del", NAMESPACE], check=False, capture_output=True)
    try:
        ip("netns", "add", NAMESPACE)
    except subprocess.CalledProcessError as exc:
        absent(f"this machine makes no network namespaces ({exc.stderr.decode().strip()})")
    try:
        ip("link", "add", OURS, "type", "veth", "peer", "name", THEIRS, "netns", NAMESPACE)
        ip("addr", "add", f"{HOST}/30", "dev", OURS)
        ip("link", "set", OURS, "up")
        ip("-n", NAMESPACE, "addr", "add", f"{GUEST}/30", "dev", THEIRS)
        ip("-n", NAMESPACE, "link", "set", THEIRS, "up")
        ip("-n", NAMESPACE, "link", "set", "lo", "up")
        yield NAMESPACE
    finally:
        close_browser(NAMESPACE)
        ip("netns", "del", NAMESPACE)


def bytes_from_the_browser() -> int:
    """What has come over the link from the browser's side."""
    return int(Path(f"/sys/class/net/{OURS}/statistics/rx_bytes").read_text())


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("ca"))


@contextmanager
def public(
    folder: Path, enclave: LocalEnclave, authority: Authority, *words: str
) -> Iterator[GatewayProcess]:
    """A gateway that the namespace reaches, over TLS, and the page for it."""
    listen = ("--listen", f"{HOST}:0", "--anonymous", "--origin", "null")
    with gateway(folder / "g", [f"skin-1@{enclave.address}"], *authority.arguments, *listen) as running:
        remote = f"wss://{HOST}:{running.port}/v1"
        write_page(folder, enclave, enclave.expectation.policy, remote, *words)
        yield running


def test_a_picture_crosses_the_network_sealed_and_once(
    tmp_path: Path, enclave: LocalEnclave, authority: Authority, namespace: str
) -> None:
    picture = sample("mel")
    with public(tmp_path, enclave, authority):
        before = bytes_from_the_browser()
        page = (tmp_path / "patient.html").as_uri()
        seen = Visit(url=page, folder=tmp_path, rounds=[[picture]], namespace=namespace).see()
        sent = bytes_from_the_browser() - before
    assert seen["answers"][0]["codes"][0] == "mel"
    # TLS, TCP and Padme add at most an eighth and the handshakes; a picture that went twice would show.
    assert picture.stat().st_size < sent < 1.3 * picture.stat().st_size + 50_000


def test_a_refused_enclave_costs_a_few_kilobytes_on_the_wire(
    tmp_path: Path, enclave: LocalEnclave, authority: Authority, namespace: str
) -> None:
    with public(tmp_path, enclave, authority):
        before = bytes_from_the_browser()
        page = (tmp_path / "patient.html").as_uri()
        year_ms = 365 * 24 * 3600 * 1000
        visit = Visit(
            url=page, folder=tmp_path, rounds=[[sample("mel")]], namespace=namespace, ahead_ms=year_ms
        )
        seen = visit.see()
        sent = bytes_from_the_browser() - before
    assert (seen["problem"], seen["sentBytes"]) == ("chain-expired", [CHALLENGE_BYTES])
    assert sent < 20_000


def test_a_page_without_https_says_that_it_cannot_seal(
    tmp_path: Path, enclave: LocalEnclave, authority: Authority, namespace: str
) -> None:
    with public(tmp_path, enclave, authority):
        argv = ["python3", "-m", "http.server", "--bind", HOST, "0"]
        with subprocess.Popen(
            argv, cwd=tmp_path, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
        ) as server:
            assert server.stdout is not None
            port = server.stdout.readline().partition(" port ")[2].split()[0]
            url = f"http://{HOST}:{port}/patient.html"
            seen = Visit(url=url, folder=tmp_path, rounds=[[sample("mel")]], namespace=namespace).see()
            server.terminate()
    assert seen["stop"] == "noCrypto"
    assert seen["sentBytes"] == []
