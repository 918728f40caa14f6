"""What a request over HTTP may be: a question for health, or the upgrade to a WebSocket. No I/O."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from websockets.datastructures import Headers, MultipleValuesError
from websockets.http11 import Request

SUBPROTOCOL = "enclavectl.v1"
# Browsers cannot set headers on a WebSocket, so their token comes as one of the subprotocols they offer.
TOKEN_PREFIX = "enclavectl.token."  # noqa: S105 - a prefix
# Seconds after which a busy gateway may be asked again.
RETRY_AFTER_S = 5
_PATH = re.compile(r"/v1(?:/([A-Za-z0-9][A-Za-z0-9_.-]{0,63}))?", re.ASCII)
_BEARER = re.compile(r"[Bb]earer +([A-Za-z0-9_-]{1,128})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpReply:
    """A response that ends the connection, in place of an upgrade."""

    status: HTTPStatus
    text: str
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgrade:
    """A request that may become a WebSocket, if its token is right."""

    release: str | None
    token: str | None
    origin: str | None


def busy(text: str) -> HttpReply:
    """Return the reply to who may come again later."""
    return HttpReply(
        status=HTTPStatus.SERVICE_UNAVAILABLE,
        text=text,
        headers=(("Retry-After", str(RETRY_AFTER_S)),),
    )


def unknown_release(release: str, here: Sequence[str]) -> HttpReply:
    """Return the reply to who asks for a release that is not here."""
    text = f"there is no release {release} here; there is {', '.join(here) or 'none'}\n"
    return HttpReply(status=HTTPStatus.NOT_FOUND, text=text)


def read_request(request: Request, *, is_ready: Callable[[], bool]) -> Upgrade | HttpReply:
    """Say what a request wants, or what it gets.

    A path's query is refused: a token there would be in the logs of every proxy on the way.
    """
    if request.path in {"/healthz", "/readyz"}:
        is_well = request.path == "/healthz" or is_ready()
        ok = HttpReply(status=HTTPStatus.OK, text="ok\n")
        return ok if is_well else busy("no enclave answers, or the gateway is stopping\n")
    match = _PATH.fullmatch(request.path)
    if match is None:
        return HttpReply(status=HTTPStatus.NOT_FOUND, text="there is /v1 and /v1/RELEASE, without a query\n")
    return _read_upgrade(request.headers, match[1])


def _read_upgrade(headers: Headers, release: str | None) -> Upgrade | HttpReply:
    offered = _offered(headers)
    if SUBPROTOCOL not in offered:
        text = f"expected a WebSocket of subprotocol {SUBPROTOCOL}\n"
        return HttpReply(status=HTTPStatus.BAD_REQUEST, text=text)
    try:
        return Upgrade(release=release, token=_token(headers, offered), origin=headers.get("Origin"))
    except MultipleValuesError:
        return HttpReply(status=HTTPStatus.BAD_REQUEST, text="a header is there twice\n")


def _offered(headers: Headers) -> list[str]:
    lines = headers.get_all("Sec-WebSocket-Protocol")
    return [word.strip() for line in lines for word in line.split(",")]


def _token(headers: Headers, offered: Sequence[str]) -> str | None:
    if (value := headers.get("Authorization")) is not None:
        match = _BEARER.fullmatch(value)
        return match[1] if match is not None else ""
    tokens = [word.removeprefix(TOKEN_PREFIX) for word in offered if word.startswith(TOKEN_PREFIX)]
    return tokens[0] if tokens else None
