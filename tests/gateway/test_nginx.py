"""nginx from the distribution in front, as people run it: it ends TLS, and passes the upgrade on."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.gateway.conftest import Authority
from tests.gateway.process import gateway, wait_until
from tests.gateway.test_relay import diagnose
from tests.gateway.tunnel import Way
from tests.local_enclave import LocalEnclave

NGINX = shutil.which("nginx")

# CI installs it; there its absence is a failure, and not a skip.
_IS_REQUIRED = os.environ.get("ENCLAVECTL_TEST_REQUIRE_NGINX") == "1"
pytestmark = pytest.mark.skipif(NGINX is None and not _IS_REQUIRED, reason="nginx is not installed here")

CONFIG = """
daemon off; pid {folder}/pid; error_log {folder}/error.log;
events {{ }}
http {{
  access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port} ssl; server_name localhost;
    ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_protocols TLSv1.3;
    location /v1 {{
      proxy_pass http://127.0.0.1:{behind}; proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_read_timeout 120s;
    }}
  }}
}}
"""


@contextmanager
def nginx(folder: Path, authority: Authority, behind: int) -> Iterator[int]:
    """Run nginx in front of a port; yield its own."""
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    files = {
        name: authority.folder / f"server.{ending}"
        for name, ending in (("certificate", "pem"), ("key", "key"))
    }
    (folder / "conf").write_text(CONFIG.format(folder=folder, port=port, behind=behind, **files))
    argv = [str(NGINX), "-p", str(folder), "-e", f"{folder}/error.log", "-c", f"{folder}/conf"]
    with subprocess.Popen(argv) as process:
        wait_until(lambda: is_open(port), "nginx listens")
        yield port
        process.terminate()


def is_open(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def test_a_client_is_served_through_nginx_and_its_address_is_known(
    tmp_path: Path, enclave: LocalEnclave, authority: Authority
) -> None:
    behind = ("--plain-behind-proxy", "--anonymous", "--trusted-proxy", "127.0.0.0/8", "--log-addresses")
    with (
        gateway(tmp_path / "g", [f"skin-1@{enclave.address}"], *behind) as running,
        nginx(tmp_path / "n", authority, running.port) as port,
    ):
        forwarded = {"X-Forwarded-For": "203.0.113.9"}
        way = Way(port=port, path="/v1/skin-1", tls=authority.trusting(), headers=forwarded)
        assert diagnose(way, enclave, tmp_path) == 4
        [record] = running.wait_for_records(1)
    assert (record["requests"], record["outcome"], record["address"]) == (4, "served", "203.0.113.9")
