"""Which engine is asked: DOCKER_HOST, a context, or the usual socket, as the docker command decides it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from enclavectl.artifacts.engine_address import EngineAddress, find_engine, read_here
from enclavectl.errors import HostError

ROOTLESS = "unix:///run/user/1000/docker.sock"


def digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def home_with(folder: Path, chosen: object, **contexts: object) -> dict[str, str]:
    """A home whose Docker configuration has these contexts; returns the environment of its user."""
    docker = folder / ".docker"
    docker.mkdir()
    (docker / "config.json").write_text(json.dumps({"currentContext": chosen}))
    for name, endpoint in contexts.items():
        meta = docker / "contexts" / "meta" / digest(name)
        meta.mkdir(parents=True)
        (meta / "meta.json").write_text(json.dumps({"Name": name, "Endpoints": {"docker": endpoint}}))
    return {"HOME": str(folder)}


def found(environ: dict[str, str]) -> EngineAddress:
    return find_engine(environ, read_here)


def test_without_any_configuration_it_is_the_usual_socket(tmp_path: Path) -> None:
    address = found({"HOME": str(tmp_path)})
    assert (address.url, address.is_usual) == ("unix:///var/run/docker.sock", True)
    assert found({}).is_usual
    assert address.to_environment() == {"DOCKER_HOST": "unix:///var/run/docker.sock"}


def test_the_chosen_context_names_the_engine(tmp_path: Path) -> None:
    environ = home_with(tmp_path, "rootless", rootless={"Host": ROOTLESS, "SkipTLSVerify": False})
    address = found(environ)
    assert address == EngineAddress(url=ROOTLESS, source="the Docker context rootless")
    assert address.socket_path == "/run/user/1000/docker.sock"
    assert not address.is_usual


def test_what_is_named_more_closely_goes_before_what_is_named_less(tmp_path: Path) -> None:
    environ = home_with(tmp_path, "one", one={"Host": "unix:///1"}, two={"Host": "unix:///2"})
    assert found(environ).url == "unix:///1"
    environ["DOCKER_CONTEXT"] = "two"
    assert found(environ).url == "unix:///2"
    environ["DOCKER_HOST"] = "tcp://build:2376"
    assert found(environ) == EngineAddress(url="tcp://build:2376", source="DOCKER_HOST")
    assert found(environ).socket_path is None
    assert found({"DOCKER_CONTEXT": "default", "HOME": str(tmp_path)}).is_usual


def test_another_configuration_folder_is_heeded(tmp_path: Path) -> None:
    home_with(tmp_path, "one", one={"Host": "unix:///1"})
    assert found({"DOCKER_CONFIG": f"{tmp_path}/.docker", "HOME": "/nonexistent"}).url == "unix:///1"


def test_the_certificates_of_a_context_go_with_it(tmp_path: Path) -> None:
    environ = home_with(tmp_path, "far", far={"Host": "tcp://build:2376", "SkipTLSVerify": False})
    tls = tmp_path / ".docker" / "contexts" / "tls" / digest("far") / "docker"
    tls.mkdir(parents=True)
    (tls / "ca.pem").write_text("ca")
    assert found(environ).to_environment() == {
        "DOCKER_HOST": "tcp://build:2376",
        "DOCKER_CERT_PATH": str(tls),
        "DOCKER_TLS_VERIFY": "1",
    }


def test_a_context_that_skips_verification_does_so_for_the_sdk(tmp_path: Path) -> None:
    environ = home_with(tmp_path, "far", far={"Host": "tcp://build:2376", "SkipTLSVerify": True})
    tls = tmp_path / ".docker" / "contexts" / "tls" / digest("far") / "docker"
    tls.mkdir(parents=True)
    (tls / "ca.pem").write_text("ca")
    assert found(environ).to_environment()["DOCKER_TLS_VERIFY"] == ""


@pytest.mark.parametrize("endpoint", [{}, {"Host": ""}, {"Host": 3}, [], None, "x"])
def test_a_context_that_names_no_engine_is_an_error(endpoint: object, tmp_path: Path) -> None:
    with pytest.raises(HostError, match="names no engine") as caught:
        found(home_with(tmp_path, "bad", bad=endpoint))
    assert "docker context ls" in str(caught.value.hint)


def test_a_context_that_is_not_there_is_an_error_and_not_another_engine(tmp_path: Path) -> None:
    environ = home_with(tmp_path, "gone")
    with pytest.raises(HostError, match=r"'gone' that .*config.json names is not there") as caught:
        found(environ)
    assert caught.value.code == "docker-context"


@pytest.mark.parametrize("text", ["", "[", "[]", '{"currentContext": 3}', "[" * 9999])
def test_a_configuration_that_cannot_be_used_is_as_none(text: str, tmp_path: Path) -> None:
    home_with(tmp_path, "x")
    (tmp_path / ".docker" / "config.json").write_text(text)
    assert found({"HOME": str(tmp_path)}).is_usual
