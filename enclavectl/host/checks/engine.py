"""Checks of Docker, which only builds need."""

from __future__ import annotations

from enclavectl.errors import HostError
from enclavectl.host.checks.base import Check, Verdict, ok, skip, warn
from enclavectl.host.checks.facts import Facts, parse_version
from enclavectl.json_object import JsonError, JsonObject
from enclavectl.nitro_cli.version import NitroVersion

# Docker changed its API in 25 and later; nitro-cli's client and linuxkit followed with 1.3.2 (issues 537,
# 629).
_CHANGED_API = (25, 0, 0)
_FOLLOWED = NitroVersion(1, 3, 2)


def _engine(facts: Facts) -> Verdict:
    try:
        address = facts.engine_address
    except HostError as exc:
        return warn(exc.message, exc.hint or "docker context ls")
    if address.socket_path is None:
        return skip(f"{address.source} names an engine elsewhere: {address.url}")
    try:
        answer = facts.host.probe.engine(address.socket_path)
    except HostError as exc:
        if exc.code == "not-recorded":
            raise
        start = "sudo systemctl start docker; enclavectl setup"
        if not address.is_usual:
            start = f"start the engine that {address.source} names, or: docker context use default"
        return warn(f"no engine answers: {exc.message}", start)
    if answer is None:
        return skip("the recording has no engine")
    return ok(f"Docker {answer.get('Version', 'of unknown version')} at {address.url}, by {address.source}")


def _api(facts: Facts) -> Verdict:
    try:
        path = facts.engine_address.socket_path
        answer = None if path is None else facts.host.probe.engine(path)
    except HostError:
        answer = None
    if answer is None:
        return skip("no engine was asked")
    api = f"{answer.get('MinAPIVersion', '?')} to {answer.get('ApiVersion', '?')}"
    shown = f"Docker {answer.get('Version', '?')}, API {api}"
    version, cli = parse_version(str(answer.get("Version", ""))), facts.nitro_cli
    if version and cli and version >= _CHANGED_API and cli < _FOLLOWED:
        return warn(
            f"{shown}, with nitro-cli {cli}, whose linuxkit fails with it",
            "upgrade aws-nitro-enclaves-cli, or build with enclavectl build --builder native",
        )
    return ok(shown)


def _credentials(facts: Facts) -> Verdict:
    if facts.host.environ.get("DOCKER_CONFIG"):
        return warn(
            "DOCKER_CONFIG is set; nitro-cli opens it as a file, Docker means a folder",
            "docker pull the image first, then build",
        )
    if facts.host.home is None:
        return skip("no home folder")
    name = f"{facts.host.home}/.docker/config.json"
    text = facts.tree.text(name)
    if text is None:
        return ok("no stored credentials: images are pulled anonymously")
    try:
        value = JsonObject.parse(text.encode())
        keys = [key for key in ("credsStore", "credHelpers") if value.members.get(key)]
    except JsonError:
        return warn(f"{name} is no JSON object", "docker login writes a new one")
    if keys:
        return warn(
            f"{name} has {' and '.join(keys)}, which nitro-cli cannot use",
            "docker pull the image first, then build",
        )
    return ok(f"{name}, without credential helpers")


CHECKS = (
    Check(
        id="docker.engine",
        why="building an image needs an engine; running one does not",
        examine=_engine,
    ),
    Check(
        id="docker.api",
        why="old releases of nitro-cli bring a linuxkit that fails with Docker's newer API",
        examine=_api,
    ),
    Check(
        id="docker.credentials",
        why="nitro-cli pulls with its own, poorer reading of Docker's configuration, anonymously if it fails",
        examine=_credentials,
    ),
)
