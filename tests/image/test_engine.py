"""What an engine that goes away, or cannot do what it is asked for, becomes."""

from __future__ import annotations

import gc
import hashlib
import io
import json
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer

import pytest

from enclavectl.errors import HostError
from enclavectl.image.engine import Engine


@contextmanager
def engine_that_says(
    folder: Path, lines: Sequence[dict[str, str]], *, ends: bool = False
) -> Iterator[Engine]:
    """An engine whose builds say so, and which is gone after that unless ``ends``."""
    import docker

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        address_string = lambda _: "unix"  # noqa: E731 - a Unix socket's client has no address

        def log_message(self, *_: object) -> None:
            pass

        def do_POST(self) -> None:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for line in lines:
                data = json.dumps(line).encode() + b"\r\n"
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            if ends:
                self.wfile.write(b"0\r\n\r\n")
            self.close_connection = True

    with ThreadingUnixStreamServer(str(folder / "docker.sock"), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        client = docker.DockerClient(base_url=f"unix://{folder}/docker.sock", version="1.41")
        try:
            yield Engine(client)
        finally:
            client.close()
            server.shutdown()
            thread.join()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)
                gc.collect()  # the SDK leaves the connection of an answer that broke off


def build(engine: Engine) -> str:
    return engine.build(io.BytesIO(b"context"), {}, has_network=False, on_line=lambda _: None)


def refusal(call: Callable[[], object]) -> str:
    """The words of the error and its hint; the error itself would keep the SDK's sockets open."""
    with pytest.raises(HostError) as caught:
        call()
    return f"{caught.value.message} | {caught.value.hint}"


def test_an_engine_that_stops_during_a_build_is_no_bug_of_ours(tmp_path: Path) -> None:
    with engine_that_says(tmp_path, [{"stream": "Step 1/2"}]) as engine:
        words = refusal(lambda: build(engine))
    assert "building the image failed" in words
    assert "still running" in words


def test_an_engine_that_is_not_there_is_named(tmp_path: Path) -> None:
    with engine_that_says(tmp_path, []) as engine:
        (tmp_path / "docker.sock").unlink()
        assert "still running" in refusal(lambda: engine.inspect("image:1"))


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        ("write /x: no space left on device", "docker system df"),
        ("the --mount option requires BuildKit", "docker build"),
    ],
)
def test_what_mends_a_failed_build_is_said(tmp_path: Path, error: str, hint: str) -> None:
    with engine_that_says(tmp_path, [{"stream": "Step 1/2"}, {"error": error}], ends=True) as engine:
        words = refusal(lambda: build(engine))
    assert "its last lines: Step 1/2" in words
    assert hint in words


def test_a_build_asks_the_engine_of_the_chosen_docker_context(tmp_path: Path) -> None:
    """Where ``doctor`` looks: both find the engine by the same function."""

    class Handler(BaseHTTPRequestHandler):
        address_string = lambda _: "unix"  # noqa: E731 - a Unix socket's client has no address

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            body = json.dumps({"Version": "28.0.1", "ApiVersion": "1.44", "MinAPIVersion": "1.24"}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    meta = tmp_path / ".docker" / "contexts" / "meta" / hashlib.sha256(b"rootless").hexdigest()
    meta.mkdir(parents=True)
    endpoint = {"Host": f"unix://{tmp_path}/e.sock"}
    (meta / "meta.json").write_text(json.dumps({"Name": "rootless", "Endpoints": {"docker": endpoint}}))
    (tmp_path / ".docker" / "config.json").write_text('{"currentContext": "rootless"}')
    code = (
        "from enclavectl.image.engine import connect\nwith connect() as engine:\n    print(engine.version)\n"
    )
    with ThreadingUnixStreamServer(str(tmp_path / "e.sock"), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        server.shutdown()
        thread.join()
    assert done.stdout == "28.0.1\n", done.stderr
