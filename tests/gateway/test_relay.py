"""Whole conversations: the real client, the real command, an enclave of the local backend."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from enclavectl.client.batch import classify
from enclavectl.client.pictures import Picture, read_picture
from enclavectl.client.session import Client
from tests.gateway.conftest import Authority
from tests.gateway.process import gateway, run_command
from tests.gateway.tunnel import Way, tunnel
from tests.local_enclave import LocalEnclave

SAMPLES = sorted((Path(__file__).resolve().parents[2] / "samples").glob("*.png"))


def pictures() -> list[Picture]:
    return [read_picture(str(path), lambda _limit: b"") for path in SAMPLES[:4]]


def diagnose(way: Way, enclave: LocalEnclave, folder: Path, count: int = 4) -> int:
    """Ask the enclave through the gateway, and return how many answers came."""
    with (
        tunnel(way, folder / "t.sock") as address,
        Client.connect(address, enclave.expectation, timeout_s=30) as client,
    ):
        replies = list(classify(client, pictures()[:count], timeout_s=30))
    (folder / "t.sock").unlink()
    return sum(reply.outcome is not None for reply in replies)


def to(enclave: LocalEnclave, release: str = "skin-1") -> str:
    return f"{release}@{enclave.address}"


@pytest.mark.parametrize("websocket", [True, False], ids=["websocket", "frames"])
def test_a_client_is_served_without_tls_on_this_machine(
    tmp_path: Path, enclave: LocalEnclave, websocket: bool
) -> None:
    with gateway(tmp_path / "g", [to(enclave)]) as running:
        assert diagnose(Way(port=running.port, websocket=websocket), enclave, tmp_path) == 4
        [record] = running.wait_for_records(1)
    assert record["requests"] == 4
    assert record["outcome"] == "served"
    assert record["transport"] == ("websocket" if websocket else "frames")
    assert record["release"] == "skin-1"
    assert set(record) == {
        *("schema", "time", "id", "client", "transport", "release", "requests", "bytes_up", "bytes_down"),
        *("seconds", "outcome"),
    }


def test_a_client_is_served_by_websocket_over_tls_with_a_token(
    tmp_path: Path, enclave: LocalEnclave, authority: Authority
) -> None:
    folder = tmp_path / "g"
    folder.mkdir(mode=0o700)
    token = run_command(folder, "gateway", "token", "add", "hospital").stdout.strip()
    with gateway(folder, [to(enclave)], *authority.arguments) as running:
        way = Way(
            port=running.port,
            path="/v1/skin-1",
            tls=authority.trusting(),
            headers={"Authorization": f"Bearer {token}"},
        )
        assert diagnose(way, enclave, tmp_path) == 4
        [record] = running.wait_for_records(1)
        assert token not in running.log + running.notes
    assert record["client"] == "hospital"


def test_a_client_is_served_by_frames_over_tls_with_a_certificate(
    tmp_path: Path, enclave: LocalEnclave, authority: Authority
) -> None:
    ca = str(authority.folder / "ca.pem")
    with gateway(tmp_path / "g", [to(enclave)], *authority.arguments, "--client-ca", ca) as running:
        tls = authority.trusting(alpn="enclavectl/1", client=True)
        assert diagnose(Way(port=running.port, websocket=False, tls=tls), enclave, tmp_path) == 4
        [record] = running.wait_for_records(1)
    assert record["client"] == "clinic.example"


def test_a_drain_loses_no_request_that_was_begun(tmp_path: Path, enclave: LocalEnclave) -> None:
    with gateway(tmp_path / "g", [to(enclave)]) as running:
        way = Way(port=running.port, websocket=False)
        with (
            tunnel(way, tmp_path / "t.sock") as address,
            Client.connect(address, enclave.expectation, timeout_s=30) as client,
        ):
            answered = 0
            stopping: threading.Thread | None = None
            for reply in classify(client, pictures() * 50, timeout_s=30):
                if answered == 10:
                    stopping = threading.Thread(target=running.stop)
                    stopping.start()
                if reply.outcome is None:
                    break
                answered += 1
        assert stopping is not None
        stopping.join()
        [record] = running.wait_for_records(1)
        assert running.process.returncode == 0
    # Every request that the gateway passed on got its answer.
    assert record["outcome"] == "stopping"
    assert record["requests"] == answered >= 10
