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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer

import pytest

from enclavectl.errors import HostError
from enclavectl.image.engine import BuildOptions, Engine
from enclavectl.image.target import probe


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
    return engine.build(io.BytesIO(b"context"), BuildOptions(has_network=False), on_line=lambda _: None)


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
        ("dockerfile parse error line 4: unknown instruction: EXEC", "Heredocs need Docker 23"),
        ("dockerfile parse error on line 2: unknown flag: parents", "# syntax=docker/dockerfile:1"),
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


@contextmanager
def engine_with(
    folder: Path, answers: Mapping[str, tuple[int, object]]
) -> Iterator[tuple[Engine, list[str]]]:
    """An engine with these answers, by ``METHOD path``, and a list of what it is asked; None breaks off."""
    import docker

    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        address_string = lambda _: "unix"  # noqa: E731 - a Unix socket's client has no address

        def log_message(self, *_: object) -> None:
            pass

        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length).decode(errors="replace")
            path = self.path.partition("?")[0].removeprefix("/v1.41")
            asked.append(f"{self.command} {path} {body}".strip())
            status, value = answers.get(f"{self.command} {path}", (200, {}))
            if value is None:
                self.close_connection = True
                return
            data = value if isinstance(value, bytes) else json.dumps(value).encode() if value else b""
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Transfer-Encoding", "chunked")  # by which the SDK knows a stream
            self.end_headers()
            self.wfile.write((b"%x\r\n%s\r\n" % (len(data), data) if data else b"") + b"0\r\n\r\n")

        do_GET = do_POST = do_DELETE = answer  # noqa: N815 - the names that the server looks for

    with ThreadingUnixStreamServer(str(folder / "docker.sock"), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        client = docker.DockerClient(base_url=f"unix://{folder}/docker.sock", version="1.41")
        try:
            yield Engine(client), asked
        finally:
            client.close()
            server.shutdown()
            thread.join()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)
                gc.collect()  # as above


CREATED: dict[str, tuple[int, object]] = {
    "POST /containers/create": (201, {"Id": "c1"}),
    "GET /containers/c1/json": (200, {"Id": "c1"}),
}


def test_a_container_whose_command_cannot_start_is_removed(tmp_path: Path) -> None:
    start = {"POST /containers/c1/start": (400, {"message": "exec: python3: not found"})}
    with engine_with(tmp_path, {**CREATED, **start}) as (engine, asked):
        words = refusal(lambda: probe(engine, "image:1"))
    assert "has no python3 that runs" in words
    assert asked[-1].startswith("DELETE /containers/c1")
    assert '"enclavectl": "probe"' in asked[0]


def test_an_engine_that_is_lost_says_nothing_of_the_base_image(tmp_path: Path) -> None:
    gone: dict[str, tuple[int, object]] = {"POST /containers/c1/wait": (200, None)}
    with engine_with(tmp_path, {**CREATED, **gone}) as (engine, asked):
        words = refusal(lambda: probe(engine, "image:1"))
    assert "python3 in image:1 failed" in words
    assert "still running" in words
    assert "has no python3" not in words
    assert asked[-1].startswith("DELETE /containers/c1")


def test_what_a_failed_build_made_is_removed_and_nothing_else(tmp_path: Path) -> None:
    lines = [
        "Step 1/4 : FROM base",
        " ---> aaaaaaaaaaaa",
        "Step 2/4 : RUN one",
        " ---> Using cache",
        " ---> bbbbbbbbbbbb",
        "Step 3/4 : COPY x y",
        " ---> cccccccccccc",
        "Step 4/4 : RUN two",
        " ---> Running in dddddddddddd",
        "Removing intermediate container dddddddddddd",
        " ---> eeeeeeeeeeee",
        "Step 5/5 : RUN false",
    ]
    said = [json.dumps({"stream": f"{line}\n"}) for line in lines]
    said.append(json.dumps({"error": "the command returned 1"}))
    build_answer: dict[str, tuple[int, object]] = {"POST /build": (200, "\r\n".join(said).encode())}
    with engine_with(tmp_path, build_answer) as (engine, asked):
        assert "the command returned 1" in refusal(lambda: build(engine))
    removed = [line.removeprefix("DELETE /images/") for line in asked if line.startswith("DELETE")]
    assert removed == ["eeeeeeeeeeee", "cccccccccccc"]
