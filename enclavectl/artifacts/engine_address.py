"""The Docker engine of this user: ``build`` connects to it, and ``doctor`` checks it.

The order is the docker command's: DOCKER_HOST, DOCKER_CONTEXT, the context that ``docker context use`` chose,
the usual socket. https://docs.docker.com/engine/manage-resources/contexts/
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from enclavectl.errors import HostError, UsageError
from enclavectl.files import read_bounded
from enclavectl.json_object import JsonError, JsonObject

USUAL_SOCKET = "/var/run/docker.sock"
# docker writes some hundred bytes into either file; credentials and plugins make config.json larger.
_MAX_BYTES = 1 << 20

# Returns a file's text, or None where there is none.
ReadText = Callable[[str], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineAddress:
    """An engine's URL and its source. ``tls_folder`` has ca.pem, cert.pem and key.pem of a context."""

    url: str
    source: str
    tls_folder: str | None = None
    is_verified: bool = True

    @property
    def socket_path(self) -> str | None:
        """The Unix socket, or None for an engine elsewhere."""
        return self.url.removeprefix("unix://") if self.url.startswith("unix://") else None

    @property
    def is_usual(self) -> bool:
        """True for the usual socket of the system's own engine."""
        return self.socket_path in {USUAL_SOCKET, "/run/docker.sock"}

    def to_environment(self) -> dict[str, str]:
        """Return the variables that make the Docker SDK connect to this engine."""
        if self.tls_folder is None:
            return {"DOCKER_HOST": self.url}
        verify = "1" if self.is_verified else ""
        return {"DOCKER_HOST": self.url, "DOCKER_CERT_PATH": self.tls_folder, "DOCKER_TLS_VERIFY": verify}


def find_engine(environ: Mapping[str, str], read_text: ReadText) -> EngineAddress:
    """Find the engine that the docker command would use.

    Raises:
        HostError: the named context does not exist or names no engine.
    """
    if url := environ.get("DOCKER_HOST"):
        return EngineAddress(url=url, source="DOCKER_HOST")
    folder = environ.get("DOCKER_CONFIG") or f"{environ.get('HOME', '')}/.docker"
    name, source = environ.get("DOCKER_CONTEXT"), "DOCKER_CONTEXT"
    if not name:
        source = f"{folder}/config.json"
        chosen = _json_object(read_text(source)).get("currentContext")
        name = chosen if isinstance(chosen, str) else None
    if not name or name == "default":
        return EngineAddress(url=f"unix://{USUAL_SOCKET}", source="the usual socket")
    return _context(folder, name, source, read_text)


def read_here(name: str) -> str | None:
    """Read a file of this machine; None if it is missing or unreadable, since docker ignores that as well."""
    try:
        return read_bounded(Path(name), _MAX_BYTES).decode("utf-8", errors="replace")
    except UsageError:
        return None


def _context(folder: str, name: str, source: str, read_text: ReadText) -> EngineAddress:
    # docker names the folder of a context by the hash of the context's name.
    digest = hashlib.sha256(name.encode()).hexdigest()
    hint = "docker context ls shows which there are; docker context use default goes back to the usual one"
    text = read_text(f"{folder}/contexts/meta/{digest}/meta.json")
    if text is None:
        raise HostError(
            f"the Docker context {name!r:.80} that {source} names is not there",
            hint=hint,
            code="docker-context",
        )
    endpoints = _json_object(text).get("Endpoints")
    endpoint = endpoints.get("docker") if isinstance(endpoints, dict) else None
    url = endpoint.get("Host") if isinstance(endpoint, dict) else None
    if not isinstance(endpoint, dict) or not isinstance(url, str) or not url:
        raise HostError(f"the Docker context {name!r:.80} names no engine", hint=hint, code="docker-context")
    tls_folder = f"{folder}/contexts/tls/{digest}/docker"
    return EngineAddress(
        url=url,
        source=f"the Docker context {name}",
        tls_folder=tls_folder if read_text(f"{tls_folder}/ca.pem") is not None else None,
        is_verified=endpoint.get("SkipTLSVerify") is not True,
    )


def _json_object(text: str | None) -> Mapping[str, object]:
    """Parse a JSON object; empty if the text is none, since docker ignores that as well."""
    try:
        return JsonObject.parse((text or "{}").encode()).members
    except JsonError:
        return {}


def engine_of_this_user() -> EngineAddress:
    """Find the engine that a build on this machine uses.

    Raises:
        HostError: as ``find_engine``.
    """
    return find_engine(os.environ, read_here)
