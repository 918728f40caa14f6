from __future__ import annotations

from http import HTTPStatus

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Request

from enclavectl.gateway.upgrade import HttpReply, Upgrade, read_request, unknown_release

TOKEN = "t" * 43


def ask(path: str, *headers: tuple[str, str], ready: bool = True) -> Upgrade | HttpReply:
    found = Headers()
    for name, value in headers or (("Sec-WebSocket-Protocol", "enclavectl.v1"),):
        found[name] = value
    return read_request(Request(path, found), is_ready=lambda: ready)


@pytest.mark.parametrize(
    ("path", "ready", "status"),
    [
        ("/healthz", False, 200),
        ("/readyz", True, 200),
        ("/readyz", False, 503),
        ("/", True, 404),
        ("/v1?token=x", True, 404),
        ("/v1/", True, 404),
        ("/v1/../v1", True, 404),
        ("/v2", True, 404),
    ],
)
def test_what_a_path_gets(path: str, ready: bool, status: int) -> None:
    reply = ask(path, ready=ready)
    assert isinstance(reply, HttpReply)
    assert reply.status == status


def test_who_asks_for_an_unknown_release_hears_which_are_here() -> None:
    assert "skin-1, skin-2" in unknown_release("skin-3", ["skin-1", "skin-2"]).text


def test_an_upgrade_names_its_release_token_and_origin() -> None:
    found = ask(
        "/v1/skin-1",
        ("Sec-WebSocket-Protocol", "enclavectl.v1"),
        ("Authorization", f"Bearer {TOKEN}"),
        ("Origin", "https://portal.example"),
    )
    assert found == Upgrade(release="skin-1", token=TOKEN, origin="https://portal.example")


def test_a_browsers_token_comes_as_a_subprotocol() -> None:
    assert ask("/v1", ("Sec-WebSocket-Protocol", f"enclavectl.v1, enclavectl.token.{TOKEN}")) == Upgrade(
        release=None, token=TOKEN, origin=None
    )


def test_a_header_of_another_scheme_is_a_wrong_token_and_not_none() -> None:
    found = ask("/v1", ("Sec-WebSocket-Protocol", "enclavectl.v1"), ("Authorization", "Basic eDp5"))
    assert found == Upgrade(release=None, token="", origin=None)


@pytest.mark.parametrize(
    "headers",
    [
        [("Sec-WebSocket-Protocol", "chat")],
        [("Authorization", f"Bearer {TOKEN}")],
        [("Sec-WebSocket-Protocol", "enclavectl.v1")] + [("Authorization", f"Bearer {TOKEN}")] * 2,
        [("Sec-WebSocket-Protocol", "enclavectl.v1")] + [("Origin", "https://a.example")] * 2,
    ],
)
def test_other_requests_are_bad(headers: list[tuple[str, str]]) -> None:
    reply = ask("/v1", *headers)
    assert isinstance(reply, HttpReply)
    assert reply.status == HTTPStatus.BAD_REQUEST
