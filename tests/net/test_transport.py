from __future__ import annotations

import select
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from errno import EACCES, EAFNOSUPPORT, EPERM
from pathlib import Path

import pytest

from enclavectl.errors import EnclavectlError, EnclaveLost, StateError, UsageError
from enclavectl.net.address import HybridVsockAddress, UnixAddress, VsockAddress
from enclavectl.net.transport import connect, listen, listening
from tests import vsock_filter

PATIENCE_S = 30.0


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


@pytest.mark.skipif(not vsock_filter.IS_SUPPORTED, reason="the filter knows x86_64 and aarch64 only")
@pytest.mark.parametrize(
    ("errno", "said", "hint"),
    [
        (EPERM, "forbidden to this process (Operation not permitted)", "seccomp=PROFILE"),
        (EACCES, "forbidden to this process (Permission denied)", "seccomp=PROFILE"),
        (EAFNOSUPPORT, "no such socket can be made (Address family not supported", "modprobe vsock"),
    ],
)
def test_vsock_that_a_containers_filter_refuses_is_told_as_that(errno: int, said: str, hint: str) -> None:
    code = (
        "from enclavectl.net.address import VsockAddress\n"
        "from enclavectl.net.transport import connect, listen\n"
        "from enclavectl.errors import HostError\n"
        "for make in (lambda: connect(VsockAddress(16, 5005), 5), lambda: listen(VsockAddress(16, 5006))):\n"
        "    try:\n"
        "        make()\n"
        "    except HostError as exc:\n"
        "        print(exc.message, '|', exc.hint)\n"
    )
    argv = [sys.executable, vsock_filter.__file__, str(errno), sys.executable, "-c", code]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all(said in line and hint in line for line in lines), lines
    assert ("modprobe" in done.stdout) is (errno == EAFNOSUPPORT)


@pytest.mark.slow
def test_a_vsock_address_without_an_enclave_is_an_error() -> None:
    # CID 1 is this machine; port 4294967294 is nobody's. Where the kernel has no vsock, that is the error.
    with pytest.raises(EnclavectlError) as info:
        connect(VsockAddress(1, 2**32 - 2), 5)
    assert info.value.exit_code in {5, 6}
    assert "vsock:1:4294967294" in info.value.message


HYBRID_PORT = 5005


@contextmanager
def monitor(path: Path, answer: Callable[[socket.socket], None]) -> Iterator[HybridVsockAddress]:
    """A machine monitor's Unix socket: one connection, its ``CONNECT`` line checked, then ``answer``."""
    failures: list[Exception] = []

    def serve() -> None:
        try:
            with listener.accept()[0] as sock:
                sock.settimeout(PATIENCE_S)
                line = b""
                while not line.endswith(b"\n"):
                    line += sock.recv(1)
                assert line == b"CONNECT 5005\n"
                answer(sock)
        except (OSError, AssertionError) as exc:
            failures.append(exc)

    address = HybridVsockAddress(path, HYBRID_PORT)
    with listening(UnixAddress(path)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield address
        finally:
            thread.join()
    assert failures == []


def whole(sock: socket.socket) -> None:
    sock.sendall(b"OK 1073741824\nhello")


def byte_by_byte(sock: socket.socket) -> None:
    for byte in b"OK 1\nhello":
        sock.sendall(bytes([byte]))
        time.sleep(0.005)


def answer_first_and_then_the_guest(sock: socket.socket) -> None:
    sock.sendall(b"OK 4294967295\n")
    assert sock.recv(4) == b"ping"  # nothing of the stream was waited for, nor swallowed
    sock.sendall(b"hello")


@pytest.mark.parametrize("answer", [whole, byte_by_byte])
def test_behind_a_monitor_the_stream_is_the_guests_from_its_first_byte(
    tmp_path: Path, answer: Callable[[socket.socket], None]
) -> None:
    with monitor(tmp_path / "16.vsock", answer) as address, connect(address, PATIENCE_S) as sock:
        received = b""
        while data := sock.recv(64):
            received += data
    assert received == b"hello"


def test_behind_a_monitor_the_guest_may_wait_for_us(tmp_path: Path) -> None:
    with (
        monitor(tmp_path / "16.vsock", answer_first_and_then_the_guest) as address,
        connect(address, PATIENCE_S) as sock,
    ):
        sock.sendall(b"ping")
        assert sock.recv(64, socket.MSG_WAITALL) == b"hello"


def test_a_path_of_any_length_leads_to_a_monitor(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 100)
    folder.mkdir()
    with monitor(folder / "16.vsock", whole) as address, connect(address, PATIENCE_S) as sock:
        assert sock.recv(5, socket.MSG_WAITALL) == b"hello"


@pytest.mark.parametrize("reply", [b"", b"O", b"OK", b"OK 1"])
def test_a_monitor_that_closes_says_that_nobody_listens(tmp_path: Path, reply: bytes) -> None:
    with (
        monitor(tmp_path / "16.vsock", lambda sock: sock.sendall(reply)) as address,
        pytest.raises(StateError, match="nobody listens on that port of the guest") as info,
    ):
        connect(address, PATIENCE_S)
    assert f"hybrid:{address.path}:5005" in info.value.message
    assert info.value.hint


def test_a_monitor_that_resets_is_a_state_error_too(tmp_path: Path) -> None:
    path = tmp_path / "16.vsock"
    with listening(UnixAddress(path)) as listener:

        def reset() -> None:
            sock, _ = listener.accept()
            select.select([sock], [], [], PATIENCE_S)
            sock.close()  # with the request unread, which resets the connection

        thread = threading.Thread(target=reset)
        thread.start()
        with pytest.raises(StateError, match="no enclave answers there"):
            connect(HybridVsockAddress(path, HYBRID_PORT), PATIENCE_S)
        thread.join()


@pytest.mark.parametrize(
    "reply",
    [
        b"\n",
        b"OK\n",
        b"OK \n",
        b"OK -1\n",
        b"OK 12345678901\n",
        b"OK 1 \n",
        b"OK 1\r\n",
        b"ok 1\n",
        b"ERROR no\n",
        b"HTTP/1.1 400 Bad Request\r\n",
        b"x" * 4096,
        bytes(64),
        "OK \u0661\n".encode(),
    ],
)
def test_what_is_no_monitor_is_told_and_read_no_further(tmp_path: Path, reply: bytes) -> None:
    with (
        monitor(tmp_path / "16.vsock", lambda sock: sock.sendall(reply)) as address,
        pytest.raises(StateError, match="the socket is not one of hybrid vsock"),
    ):
        connect(address, PATIENCE_S)


@pytest.mark.parametrize("reply", [b"", b"OK 1"])
def test_a_silent_monitor_is_given_up(tmp_path: Path, reply: bytes) -> None:
    def stay_silent(sock: socket.socket) -> None:
        sock.sendall(reply)
        assert sock.recv(1) == b""  # until the client hangs up

    with (
        monitor(tmp_path / "16.vsock", stay_silent) as address,
        pytest.raises(EnclaveLost, match="nobody answered the connection in time"),
    ):
        connect(address, 0.2)


def test_a_monitor_that_drips_is_given_up_too(tmp_path: Path) -> None:
    """The time-out is for the whole answer: a byte now and then buys no time."""

    def drip(sock: socket.socket) -> None:
        with suppress(OSError):
            while True:
                sock.sendall(b"O")
                time.sleep(0.1)

    with (
        monitor(tmp_path / "16.vsock", drip) as address,
        pytest.raises(EnclaveLost, match="nobody answered the connection in time"),
    ):
        connect(address, 0.5)


@pytest.mark.parametrize("name", ["absent", "no/such/folder/s"])
def test_no_monitor_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(StateError, match="no enclave answers there"):
        connect(HybridVsockAddress(tmp_path / name, 5005), 5)


def test_nobody_listens_on_a_guests_address(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected an address of this host, found one inside of a guest"):
        listen(HybridVsockAddress(tmp_path / "16.vsock", 5005))
