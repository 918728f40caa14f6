"""``fleet status``: what it reads of gateways, also of those that say nonsense."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from enclavectl.deploy.kubernetes.gateways import find_gateways, parse_metrics, read_gateway
from enclavectl.errors import EnclavectlError
from tests.net.peers import start_peer

PAGE = """# HELP enclavectl_gateway_connections Open sessions.
enclavectl_gateway_connections{transport="websocket"} 3.0
enclavectl_gateway_connections{transport="frames"} 1.0
enclavectl_gateway_enclave_up{enclave="a",release="r1"} 1.0
enclavectl_gateway_enclave_up{enclave="b",release="r2"} 0.0
enclavectl_gateway_enclave_connections{enclave="a"} 4.0
enclavectl_gateway_requests_in_flight{enclave="a"} 2.0
other_metric{enclave="c"} 1.0
enclavectl_gateway_enclave_up{enclave="d",release="r1"} 1.2.3
enclavectl_gateway_connections{transport="frames"} 1e999
enclavectl_gateway_requests_in_flight{enclave="b"} -1
"""


def test_a_page_is_summed_up() -> None:
    found = parse_metrics(PAGE, "x:1")
    assert found.connections == 4
    assert [(one.name, one.release, one.is_up, one.sessions, one.in_flight) for one in found.enclaves] == [
        ("a", "r1", True, 4, 2),
        ("b", "r2", False, 0, 0),
    ]


@pytest.mark.parametrize("text", ["", "hello", "go_goroutines 7\n"])
def test_a_page_of_something_else_is_told(text: str) -> None:
    assert "expected a gateway's metrics" in (parse_metrics(text, "x:1").error or "")


@pytest.mark.parametrize("target", ["", "x", "x:", ":1", "x:99999", "http://x:1", "x:1\n", "a..b:1"])
def test_a_target_that_is_none_is_refused(target: str) -> None:
    with pytest.raises(EnclavectlError):
        find_gateways([target])


def test_addresses_are_asked_once() -> None:
    assert find_gateways(["127.0.0.1:9100", "127.0.0.1:9100"]) == [("127.0.0.1", 9100)]


def test_a_gateway_that_is_not_there_and_one_that_is_none_are_told() -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        assert "HTTP 404" in (read_gateway("127.0.0.1", server.server_port).error or "")
        server.shutdown()
        thread.join()
        port = server.server_port
    assert read_gateway("127.0.0.1", port).error is not None


def test_a_page_that_drips_is_given_up() -> None:
    def drip(sock: socket.socket) -> None:
        with suppress(OSError):
            sock.sendall(b"HTTP/1.1 200 OK\r\nX: ")
            while True:
                sock.sendall(b"x")
                time.sleep(0.05)

    with start_peer(drip) as peer:
        found = read_gateway("127.0.0.1", peer.port, page_s=0.3)
    assert found.error == "it did not give its page in time"
