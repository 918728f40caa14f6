"""The gateway beside nginx's stream proxy, which carries the same bytes and knows nothing of frames.

Needs Debian's nginx and libnginx-mod-stream; there is no row where they are not installed.
"""

from __future__ import annotations

import shutil
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.common import Row
from benchmarks.gateway import REQUEST, cpu_s, receive, site
from enclavectl.net.carriage import encode_challenge
from tests.gateway.conftest import Authority
from tests.gateway.fake_enclave import ANSWER, EVIDENCE
from tests.gateway.process import wait_until
from tests.gateway.tunnel import Way

_ROUNDS = 200
_WARMUP = 20
_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
_CONFIG = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
load_module {module};
events {{ }}
stream {{
  upstream enclave {{ server unix:{enclave}; }}
  server {{ listen 127.0.0.1:{plain}; proxy_pass enclave; }}
  server {{
    listen 127.0.0.1:{secure} ssl; proxy_pass enclave;
    ssl_certificate {ca}/server.pem; ssl_certificate_key {ca}/server.key; ssl_protocols TLSv1.3;
  }}
}}
"""


def main() -> list[Row]:
    """Make two rows without TLS, and two with it."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin")
    if program is None or not _MODULE.exists():
        return []
    with site() as found, _nginx(program, found.folder, found.authority) as (ports, pid):
        plain, secure, authority = found.plain, found.secure, found.authority
        tls, alpn = authority.trusting(), authority.trusting(alpn="enclavectl/1")
        ways = [
            ("TCP", (plain.process.pid, Way(port=plain.port, websocket=False)),
             (pid, Way(port=ports[0], websocket=False))),
            ("TLS", (secure.process.pid, Way(port=secure.port, websocket=False, tls=alpn)),
             (pid, Way(port=ports[1], websocket=False, tls=tls))),
        ]  # fmt: skip
        return [row for what, ours, base in ways for row in _compare(what, ours, base)]


@contextmanager
def _nginx(program: str, folder: Path, authority: Authority) -> Iterator[tuple[list[int], int]]:
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        ports = [first.getsockname()[1], second.getsockname()[1]]
    text = _CONFIG.format(
        folder=folder, module=_MODULE, enclave=folder / "e.sock", plain=ports[0], secure=ports[1],
        ca=authority.folder,
    )  # fmt: skip
    (folder / "conf").write_text(text)
    argv = [program, "-p", str(folder), "-e", f"{folder}/error.log", "-c", f"{folder}/conf"]
    with subprocess.Popen(argv) as process:
        wait_until(lambda: all(_is_open(port) for port in ports), "nginx listens")
        yield ports, process.pid
        process.terminate()


def _is_open(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def _compare(what: str, ours: tuple[int, Way], base: tuple[int, Way]) -> list[Row]:
    """Take turns between the two, each on an open connection."""
    sides = [(pid, way.open()) for pid, way in (ours, base)]
    times: list[list[float]] = [[], []]
    began: list[float] = [0.0, 0.0]
    for _, stream in sides:
        stream.send(encode_challenge(bytes(32)))
        receive(stream, len(EVIDENCE))
    for number in range(_WARMUP + _ROUNDS):
        for index, (pid, stream) in enumerate(sides):
            if number == _WARMUP:
                began[index] = cpu_s(pid)
            began_at = time.perf_counter()
            stream.send(REQUEST)
            receive(stream, len(ANSWER))
            times[index].append((time.perf_counter() - began_at) * 1e3)
    cpu_ms = [(cpu_s(pid) - before) * 1e3 / _ROUNDS for (pid, _), before in zip(sides, began, strict=True)]
    for _, stream in sides:
        stream.close()
    our_ms, base_ms = (statistics.median(found[_WARMUP:]) for found in times)
    tenths = [sorted(found[_WARMUP:])[_ROUNDS // 10] for found in times]
    return [
        Row(
            what=f"400 kB by {what}: a whole request, beside nginx's stream proxy",
            ours=f"{our_ms:.2f} ms (fastest tenth {tenths[0]:.2f})",
            base=f"{base_ms:.2f} ms (fastest tenth {tenths[1]:.2f})",
            ratio=our_ms / base_ms,
            limit=float("inf"),
        ),
        Row(
            what=f"400 kB by {what}: CPU ms of the relay, beside nginx's",
            ours=f"{cpu_ms[0]:.2f} ms",
            base=f"{cpu_ms[1]:.2f} ms",
            ratio=cpu_ms[0] / max(cpu_ms[1], 0.01),
            limit=float("inf"),
        ),
    ]
