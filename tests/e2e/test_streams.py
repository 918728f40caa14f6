"""Standard output is the answer, standard error the story; and the small commands."""

from __future__ import annotations

import hashlib
import os
import pty
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from enclavectl import __version__
from tests.e2e.cli import Cli, sample


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """Commands that start nothing."""
    base = tmp_path_factory.mktemp("plain")
    (base / "home").mkdir()
    return Cli(base)


def test_version_and_bare(plain: Cli) -> None:
    assert plain.ok("--version").out == f"enclavectl {__version__}\n"
    bare = plain.ok()
    assert bare.out == plain.ok("--help").out
    assert "Exit codes: 0 ok" in bare.out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(plain: Cli, shell: str) -> None:
    # Typer asks which shell runs the command; the variable lets the caller say it.
    env = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    assert "_ENCLAVECTL_COMPLETE" in plain.ok("--show-completion", shell, env=env).out


def test_piped_output_is_plain_and_the_streams_do_not_mix(shared: Cli) -> None:
    for env in ({}, {"NO_COLOR": "1"}, {"CI": "true"}, {"TERM": "xterm-256color"}):
        ran = shared.run("diagnose", sample("bcc"), env=env)
        assert ran.status == 0
        assert "\x1b" not in ran.out + ran.err
        assert "enclavectl:" not in ran.out
        assert ran.err == "enclavectl: using the running enclave shared, model demo-lesion\n"
    ran = shared.ok("list", "-o", "json")
    assert ran.err == ""
    assert ran.json()["backend"] == "local"


def on_terminal(cli: Cli, *arguments: str | Path, **env: str) -> str:
    """What a person at a terminal sees."""
    primary, secondary = pty.openpty()
    with subprocess.Popen(
        [*cli.program, *map(str, arguments)],
        env=cli.environment({"TERM": "xterm-256color", **env}),
        stdin=secondary,
        stdout=secondary,
        stderr=secondary,
    ) as command:
        os.close(secondary)
        seen = b""
        try:
            while data := os.read(primary, 65536):
                seen += data
        except OSError:
            pass  # how Linux reports the end of a terminal
        assert command.wait(60) == 0, seen
    os.close(primary)
    return seen.decode()


def test_colors_on_a_terminal_unless_they_are_not_wanted(shared: Cli) -> None:
    colored = on_terminal(shared, "diagnose", sample("bcc"))
    assert re.search("\x1b\\[[0-9;]*3[0-9]", colored)
    plain = on_terminal(shared, "diagnose", sample("bcc"), NO_COLOR="1")
    assert not re.search("\x1b\\[[0-9;]*3[0-9]", plain)
    assert "SIMULATED" in plain


def test_config_show_path_init(cli: Cli) -> None:
    path = Path(cli.ok("config", "path").out.strip())
    assert path == cli.base / "home" / ".config" / "enclavectl" / "config.yaml"
    assert cli.ok("config", "path", "-o", "json").json() == {
        "schema": "enclavectl.config-path/1",
        "path": str(path),
        "exists": False,
    }
    cli.ok("config", "init")
    assert path.exists()
    assert "exists already" in cli.refused(6, "config", "init")["message"]
    assert cli.ok("config", "init", "--force", "-o", "json").json()["exists"] is True
    settings = cli.ok("config", "show", "-o", "json").json()["settings"]
    assert settings["diagnose.top"] == {"value": 3, "source": "default"}
    assert settings["state_dir"]["source"] == "environment ENCLAVECTL_STATE_DIR"

    path.write_text("diagnose:\n  top: 5\n")
    settings = cli.ok("config", "show", "-o", "json").json()["settings"]
    assert settings["diagnose.top"] == {"value": 5, "source": f"file {path}:2"}
    lines = cli.ok("diagnose", sample("nv")).out.splitlines()
    assert len([line for line in lines if "%" in line]) == 5
    env = {"ENCLAVECTL_DIAGNOSE_TOP": "2"}
    assert cli.run("diagnose", sample("nv"), env=env).out.count("%") == 2
    assert cli.run("diagnose", sample("nv"), "--top", "1", env=env).out.count("%") == 1


def test_an_unknown_key_names_the_nearest(cli: Cli) -> None:
    (cli.base / "bad.yaml").write_text("diagnose:\n  timout_s: 5\n")
    for command in (("config", "show"), ("list",), ("diagnose", sample("nv")), ("model", "show")):
        error = cli.refused(2, *command, "--config", "bad.yaml")
        assert "bad.yaml:2: unknown key 'diagnose.timout_s'" in error["message"]
        assert "'timeout_s'" in error["message"]
    ran = cli.run("list", env={"ENCLAVECTL_DIAGNOSE_TPO": "1"})
    assert ran.status == 2
    assert "ENCLAVECTL_DIAGNOSE_TOP" in ran.err
    assert "no such configuration file" in cli.refused(2, "list", "--config", "absent.yaml")["message"]


def test_a_backend_that_nobody_has(plain: Cli) -> None:
    assert plain.run("run", "--backend", "cloud").status == 2


def test_model_show(plain: Cli) -> None:
    value = plain.ok("model", "show", "-o", "json").json()
    assert (value["schema"], value["id"]) == ("enclavectl.model-show/1", "demo-lesion")
    assert value["sha256"] == hashlib.sha256(Path(value["file"]).read_bytes()).hexdigest()
    text = plain.ok("model", "show").out
    assert value["sha256"] in text
    assert value["notice"] in " ".join(text.split())
    assert (value["probe"]["error"], f"it serves in {value['probe']['runtime']}" in text) == (None, True)
    assert "demo-lesion" in plain.refused(2, "model", "show", "demo")["message"]


@contextmanager
def served(content: bytes) -> Iterator[str]:
    """A local server that has ``content`` at every address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Keep the tests' output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/model.tflite"
        server.shutdown()


def test_model_fetch_installs_nothing_but_the_pinned_file(plain: Cli) -> None:
    with served(b"not the published weights") as url:
        error = plain.refused(3, "model", "fetch", "skin-lesion", "--url", url)
    assert "expected content with git blob id" in error["message"]
    assert not [path for path in (plain.base / "data").rglob("*") if path.is_file()]
    error = plain.refused(3, "model", "fetch", "skin-lesion", "--url", url)  # nobody serves there any more
    assert "the download failed" in error["message"]
    assert "https" in plain.refused(2, "model", "fetch", "skin-lesion", "--url", "ftp://x/y")["message"]
    assert "skin-lesion" in plain.refused(2, "model", "fetch", "skin-leison")["message"]
    assert "demo-lesion" in plain.refused(2, "diagnose", sample("nv"), "--model", "skin-lesion")["message"]
