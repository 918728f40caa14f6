from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from enclavectl.errors import EnclavectlError, StateError, UsageError
from enclavectl.transport import (
    Address,
    HybridVsockAddress,
    UnixAddress,
    VsockAddress,
    connect,
    listen,
    listening,
    parse_address,
)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:/run/a.sock", UnixAddress(Path("/run/a.sock"))),
        ("unix:relative", UnixAddress(Path("relative"))),
        ("unix:/with:colon", UnixAddress(Path("/with:colon"))),
        ("vsock:16:5005", VsockAddress(16, 5005)),
        ("vsock:4294967295:4294967295", VsockAddress(2**32 - 1, 2**32 - 1)),
        ("vsock:0:0", VsockAddress(0, 0)),
        ("hybrid:/run/16.vsock:5005", HybridVsockAddress(Path("/run/16.vsock"), 5005)),
        ("hybrid:a:1:2", HybridVsockAddress(Path("a:1"), 2)),
    ],
)
def test_an_address_is_read_and_written_alike(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "unix:",
        "unix:a\0b",
        "vsock:16",
        "vsock:16:",
        "vsock:-1:5005",
        "vsock:16:5005:1",
        "vsock: 16:5005",
        "vsock:4294967296:1",
        "vsock:1:4294967296",
        "vsock:99999999999:1",
        "vsock:१६:5005",
        "VSOCK:16:5005",
        "vsock:16:5005\n",
        "hybrid:/run/16.vsock",
        "hybrid::5005",
        "hybrid:a:4294967296",
        "tcp:localhost:1",
        "/run/a.sock",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected unix:PATH, vsock:CID:PORT or hybrid:PATH:PORT"):
        parse_address(text)


def exchange(address: UnixAddress, listener: socket.socket) -> None:
    with connect(address, 5) as client, listener.accept()[0] as server:
        client.sendall(b"hello")
        assert server.recv(5) == b"hello"


@pytest.mark.parametrize("length", [20, 107, 108, 300])
def test_a_path_of_any_length_works(tmp_path: Path, length: int) -> None:
    folder = tmp_path
    while len(str(folder)) + 60 < length:
        folder /= "d" * 50
    folder.mkdir(parents=True, exist_ok=True)
    address = UnixAddress(folder / "s".ljust(max(length - len(str(folder)) - 1, 1), "s"))
    with listening(address) as listener:
        assert stat.S_IMODE(address.path.stat().st_mode) == 0o600
        exchange(address, listener)
    assert not address.path.exists()


def test_a_name_that_no_detour_makes_short_enough_is_an_error(tmp_path: Path) -> None:
    address = UnixAddress(tmp_path / ("s" * 200))
    with pytest.raises(StateError, match="cannot listen there"):
        listen(address)
    with pytest.raises(StateError, match="no enclave answers there"):
        connect(address, 5)


def test_the_socket_of_a_dead_listener_is_replaced(tmp_path: Path) -> None:
    address = UnixAddress(tmp_path / "s")
    listen(address).close()  # as a killed process leaves it: nobody unlinks
    assert address.path.is_socket()
    with listening(address) as listener:
        exchange(address, listener)


def test_the_socket_of_a_living_listener_is_left_alone(tmp_path: Path) -> None:
    address = UnixAddress(tmp_path / "s")
    with listening(address) as listener:
        with pytest.raises(StateError, match=r"cannot listen there \(Address already in use\)") as info:
            listen(address)
        assert info.value.hint
        listener.accept()[0].close()  # the question whether somebody listens there
        exchange(address, listener)


def test_a_file_in_the_way_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(StateError, match="cannot listen there"):
        listen(UnixAddress(path))
    assert path.read_text() == "precious"


@pytest.mark.parametrize("name", ["absent", "no/such/folder/s", "d" * 300 + "/s"])
def test_nobody_listening_is_a_state_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(StateError, match="no enclave answers there"):
        connect(UnixAddress(tmp_path / name), 5)
    listen(UnixAddress(tmp_path / "stale")).close()
    with pytest.raises(StateError, match="Connection refused"):
        connect(UnixAddress(tmp_path / "stale"), 5)


def test_a_vsock_address_without_an_enclave_is_an_error() -> None:
    # CID 1 is this machine; port 4294967294 is nobody's. Where the kernel has no vsock, that is the error.
    with pytest.raises(EnclavectlError) as info:
        connect(VsockAddress(1, 2**32 - 2), 5)
    assert info.value.exit_code in {5, 6}
    assert "vsock:1:4294967294" in info.value.message
