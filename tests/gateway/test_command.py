"""The command's life: what it refuses, how it starts, reloads and ends."""

from __future__ import annotations

import resource
import signal
import socket
import ssl
import stat
import urllib.error
import urllib.request
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from enclavectl.gateway.tls import ServerTls
from enclavectl.net.carriage import RefusalCode, encode_challenge, refusal_frame
from tests.cli.command import enclavectl
from tests.gateway.conftest import Authority, make_authority
from tests.gateway.fake_enclave import ANSWER, EVIDENCE, FakeEnclave, fake_enclave
from tests.gateway.process import free_port, gateway, run_command, wait_until
from tests.gateway.test_hostile import SEALED, read_exactly, read_to_end
from tests.gateway.tunnel import Way

CHALLENGE = encode_challenge(bytes(32))


def status_of(port: int, path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--listen", "0.0.0.0:0"], "TLS"),
        (["--listen", "0.0.0.0:0", "--plain-behind-proxy"], "who may connect"),
        (["--cert", "x.pem"], "together"),
        (["--cert", "x.pem", "--key", "y.pem"], "chain"),
        (["--listen", "nonsense"], "HOST:PORT"),
        (["--to", "nonsense"], "RELEASE@ADDRESS"),
        (["--origin", "*"], "--origin"),
        (["--trusted-proxy", "x"], "--trusted-proxy"),
        (["--from", "/nonexistent"], "announcements"),
    ],
)
def test_settings_that_cannot_be_used_end_with_2(tmp_path: Path, arguments: list[str], word: str) -> None:
    ran = run_command(tmp_path, "gateway", "--to", "r@unix:/x", "--wait", "0", *arguments)
    assert ran.returncode == 2, ran.stderr
    assert word in ran.stderr


def test_an_address_in_use_ends_with_3(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for option, others in (("--listen", ()), ("--metrics", ("--listen", "127.0.0.1:0"))):
            ran = run_command(tmp_path, "gateway", "--to", "r@unix:/x", *others, option, address)
            assert ran.returncode == 3, ran.stderr
            assert f"{option} {address}" in ran.stderr


def test_without_an_enclave_that_answers_it_ends_with_6(tmp_path: Path) -> None:
    arguments = ("--listen", "127.0.0.1:0", "--wait", "0.5")
    ran = run_command(tmp_path, "gateway", "--to", f"r@unix:{tmp_path}/none", *arguments)
    assert ran.returncode == 6, ran.stderr


def test_after_sigterm_it_is_not_ready_serves_for_a_while_and_drains(tmp_path: Path) -> None:
    with (
        fake_enclave(tmp_path / "s") as enclave,
        gateway(tmp_path / "g", [f"r@{enclave}"], drain_accept_s=6) as running,
    ):
        assert (status_of(running.port, "/healthz"), status_of(running.port, "/readyz")) == (200, 200)
        early = Way(port=running.port, websocket=False).open()
        early.send(CHALLENGE)
        read_exactly(early, len(EVIDENCE))
        running.process.send_signal(signal.SIGTERM)
        wait_until(lambda: status_of(running.port, "/readyz") == 503, "it says that it stops")
        assert status_of(running.port, "/healthz") == 200
        late = Way(port=running.port).open()
        late.send(CHALLENGE)
        read_exactly(late, len(EVIDENCE))
        for stream in (early, late):
            stream.send(SEALED)
            read_exactly(stream, len(ANSWER))
        for stream in (early, late):
            assert stream.receive() == refusal_frame(RefusalCode.STOPPING)
            stream.close()
        assert running.process.wait(60) == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", running.port))


def test_a_drain_waits_no_longer_than_its_time(tmp_path: Path) -> None:
    enclave = FakeEnclave(tmp_path / "s")
    with gateway(tmp_path / "g", [f"r@{enclave}"], drain_s=1) as running:
        stream = Way(port=running.port, websocket=False).open()
        stream.send(CHALLENGE)
        read_exactly(stream, len(EVIDENCE))
        assert enclave.is_reading.wait(30)
        enclave.may_read.clear()
        stream.send(SEALED)
        read_exactly(stream, len(ANSWER))  # the enclave reads once more before it stops
        stream.send(SEALED)
        running.wait_for_records(0)
        assert running.stop() == 0
        assert "answers under way" in running.notes
        enclave.may_read.set()
        stream.close()
    enclave.stop()


def test_a_new_certificate_is_taken_without_a_restart_and_a_bad_one_is_not(
    tmp_path: Path, enclave_of_zeros: FakeEnclave
) -> None:
    (tmp_path / "ca").mkdir()
    authority = make_authority(tmp_path / "ca")
    with gateway(tmp_path / "g", [f"r@{enclave_of_zeros}"], *authority.arguments) as running:
        before = serial_of(running.port, authority)
        authority.sign("server", "localhost")
        wait_until(lambda: "was read again" in running.notes, "the new certificate is read")
        after = serial_of(running.port, authority)
        assert after != before
        (tmp_path / "ca" / "server.pem").write_text("no certificate")
        running.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "stays in use" in running.notes, "the bad one is refused")
        assert serial_of(running.port, authority) == after


def test_a_log_that_takes_nothing_more_leaves_deadlines_in_force(
    tmp_path: Path, enclave_of_zeros: FakeEnclave
) -> None:
    (tmp_path / "ca").mkdir()
    authority = make_authority(tmp_path / "ca")
    to = [f"r@{enclave_of_zeros}"]
    with gateway(tmp_path / "g", to, *authority.arguments, first_frame_s=1) as running:
        # As a full disk: each file is as long as it may be.
        limits = resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (0, limits[1]))
        before = serial_of(running.port, authority)
        authority.sign("server", "localhost")
        wait_until(lambda: serial_of(running.port, authority) != before, "the new certificate is read")
        way = Way(port=running.port, websocket=False, tls=authority.trusting(alpn="enclavectl/1"))
        stream = way.open()
        assert stream.receive() == refusal_frame(RefusalCode.SLOW)
        stream.close()
        assert "was read again" not in running.notes


def test_a_ca_that_was_taken_out_lets_nobody_in_any_more(tmp_path: Path) -> None:
    make_authority(tmp_path)
    pair, ca = (tmp_path / "server.pem", tmp_path / "server.key"), tmp_path / "clients.pem"
    ca.write_bytes((tmp_path / "ca.pem").read_bytes())
    tls = ServerTls(*pair, ca)
    before = tls.context
    assert not tls.reload_if_changed()
    (tmp_path / "next").mkdir()
    make_authority(tmp_path / "next")
    ca.write_bytes((tmp_path / "next" / "ca.pem").read_bytes())
    assert tls.reload_if_changed()
    assert tls.context.get_ca_certs() != before.get_ca_certs()


def serial_of(port: int, authority: Authority) -> object:
    with (
        socket.create_connection(("127.0.0.1", port)) as sock,
        authority.trusting().wrap_socket(sock, server_hostname="localhost") as tls,
    ):
        assert tls.version() == "TLSv1.3"
        found = tls.getpeercert()
        assert found is not None
        return found["serialNumber"]


def test_a_client_without_a_certificate_is_refused_where_only_a_ca_is_known(
    tmp_path: Path, enclave_of_zeros: FakeEnclave, authority: Authority
) -> None:
    ca = ("--client-ca", str(authority.folder / "ca.pem"))
    with gateway(tmp_path / "g", [f"r@{enclave_of_zeros}"], *authority.arguments, *ca) as running:
        way = Way(port=running.port, websocket=False, tls=authority.trusting(alpn="enclavectl/1"))
        stream = way.open()
        assert stream.receive() == refusal_frame(RefusalCode.PROTOCOL)
        stream.close()
        other = make_authority(tmp_path)
        foreign = authority.trusting(alpn="enclavectl/1")
        foreign.load_cert_chain(other.folder / "client.pem", other.folder / "client.key")
        stream = Way(port=running.port, websocket=False, tls=foreign).open()
        heard = b""
        with suppress(ssl.SSLError, ConnectionError):
            heard = stream.receive()
        assert heard == b""
        stream.close()


def test_behind_a_proxy_the_greediest_client_gives_way_and_not_the_oldest(
    tmp_path: Path, enclave_of_zeros: FakeEnclave
) -> None:
    def header(host: int) -> bytes:
        addresses = bytes([203, 0, 113, host, 10, 0, 0, 1, 0, 1, 0, 2])
        return b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c" + addresses

    proxied = ("--proxy-protocol", "--trusted-proxy", "127.0.0.0/8")
    to = [f"r@{enclave_of_zeros}"]
    with gateway(tmp_path / "g", to, *proxied, handshakes=8, handshake_s=30) as running, ExitStack() as stack:

        def dial() -> socket.socket:
            return stack.enter_context(socket.create_connection(("127.0.0.1", running.port), timeout=60))

        honest = dial()
        honest.sendall(header(1))
        greedy = [dial() for _ in range(7)]
        for one in greedy:
            one.sendall(header(9))
        # The gateway has read their headers once it answers one of them.
        last = dial()
        last.sendall(header(9) + CHALLENGE)
        assert last.recv(1 << 16)
        for _ in range(7):
            dial().sendall(header(9))
        honest.sendall(CHALLENGE)
        assert honest.recv(1 << 16)


def test_addresses_come_from_a_proxy_header_and_are_logged_only_if_asked(
    tmp_path: Path, enclave_of_zeros: FakeEnclave
) -> None:
    header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c" + bytes([203, 0, 113, 9, 10, 0, 0, 1, 0, 1, 0, 2])
    proxied = ("--proxy-protocol", "--trusted-proxy", "127.0.0.0/8", "--log-addresses")
    with gateway(tmp_path / "g", [f"r@{enclave_of_zeros}"], *proxied) as running:
        with socket.create_connection(("127.0.0.1", running.port)) as sock:
            sock.sendall(header + CHALLENGE)
            assert sock.recv(1 << 16)
        [record] = running.wait_for_records(1)
        assert record["address"] == "203.0.113.9"
        with socket.create_connection(("127.0.0.1", running.port)) as sock:
            sock.sendall(CHALLENGE)
            assert read_to_end(sock) == b""


def test_metrics_count_what_was_relayed(tmp_path: Path, enclave_of_zeros: FakeEnclave) -> None:
    port = free_port()
    with gateway(tmp_path / "g", [f"r@{enclave_of_zeros}"], "--metrics", f"127.0.0.1:{port}") as running:
        stream = Way(port=running.port).open()
        stream.send(CHALLENGE)
        read_exactly(stream, len(EVIDENCE))
        for _ in range(3):
            stream.send(SEALED)
            read_exactly(stream, len(ANSWER))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as reply:
            page = reply.read().decode()
        stream.close()
        assert status_of(port, "/other") == 404
    for line in (
        'enclavectl_gateway_connections{transport="websocket"} 1.0',
        'enclavectl_gateway_frames_total{direction="up",type="sealed"} 3.0',
        'enclavectl_gateway_frames_total{direction="down",type="answer"} 3.0',
        'enclavectl_gateway_request_seconds_count{release="r"} 3.0',
        f'enclavectl_gateway_enclave_connections{{enclave="{enclave_of_zeros}"}} 1.0',
        f'enclavectl_gateway_enclave_up{{enclave="{enclave_of_zeros}",release="r"}} 1.0',
    ):
        assert line in page.splitlines()


def test_a_named_file_of_tokens_may_lie_in_any_folder(tmp_path: Path) -> None:
    """As docs/kubernetes.md has it: the file is private, its folder need not be."""
    (tmp_path / "open").mkdir(mode=0o755)
    path = tmp_path / "open" / "tokens.json"
    done = enclavectl("gateway", "token", "add", "hospital", "--tokens", path, home=tmp_path)
    assert done.status == 0, done.err
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert enclavectl("gateway", "token", "revoke", "hospital", "--tokens", path, home=tmp_path).status == 0
