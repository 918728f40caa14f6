from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from enclavectl.errors import UsageError
from enclavectl.gateway.routing import parse_destination
from enclavectl.gateway.settings import (
    GatewaySettings,
    HostPort,
    parse_host_port,
    parse_network,
    parse_origin,
)
from tests.gateway.limits import gateway_limits

PUBLIC = HostPort("0.0.0.0", 8443)
LOCAL = HostPort("127.0.0.1", 8443)
TLS: dict[str, Any] = {"certificate": Path("/c"), "key": Path("/k")}
BASE = GatewaySettings(
    listen=LOCAL,
    tokens=Path("/t"),
    limits=gateway_limits(),
    destinations=(parse_destination("r@unix:/x"),),
)


@pytest.mark.parametrize(
    ("changes", "has_tokens"),
    [
        ({}, False),
        ({"listen": PUBLIC, **TLS}, True),
        ({"listen": PUBLIC, **TLS, "is_anonymous": True}, False),
        ({"listen": PUBLIC, **TLS, "client_ca": Path("/ca")}, False),
        ({"listen": PUBLIC, "is_plain_behind_proxy": True}, True),
        ({"needs_proxy_header": True, "trusted_proxies": (ip_network("10.0.0.0/8"),)}, False),
    ],
)
def test_these_combinations_are_safe(changes: dict[str, Any], has_tokens: bool) -> None:
    replace(BASE, **changes).check(has_tokens=has_tokens)


@pytest.mark.parametrize(
    ("changes", "has_tokens", "word"),
    [
        ({"listen": PUBLIC}, True, "TLS"),
        ({"listen": PUBLIC, "is_anonymous": True}, False, "TLS"),
        ({"listen": PUBLIC, **TLS}, False, "who may connect"),
        ({"is_plain_behind_proxy": True}, False, "who may connect"),
        ({"listen": PUBLIC, **TLS, "is_plain_behind_proxy": True}, True, "leave one out|found both"),
        ({"certificate": Path("/c")}, True, "together"),
        ({"client_ca": Path("/ca")}, True, "need TLS"),
        ({"needs_proxy_header": True}, True, "--trusted-proxy"),
        ({"destinations": ()}, True, "--to"),
    ],
)
def test_these_combinations_are_refused(changes: dict[str, Any], has_tokens: bool, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        replace(BASE, **changes).check(has_tokens=has_tokens)


@pytest.mark.parametrize("text", ["127.0.0.1:1", "[::1]:8443", "localhost:80", "g.example:443"])
def test_an_address_is_read(text: str) -> None:
    assert str(parse_host_port(text, "--listen")) == text


@pytest.mark.parametrize("text", ["0.0.0.0:1", "[::]:1", "g.example:443"])
def test_an_address_that_others_reach_needs_tls(text: str) -> None:
    with pytest.raises(UsageError, match="TLS"):
        replace(BASE, listen=parse_host_port(text, "--listen")).check(has_tokens=True)


@pytest.mark.parametrize(
    "text", ["", "1", "::1:80", "a:65536", "a:", ":80", "a b:1", "[x]:1", "a..b:1", 64 * "a" + ":1"]
)
def test_other_addresses_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_host_port(text, "--listen")


@pytest.mark.parametrize("text", ["*", "https://a.example/", "a.example", "https://A.example", "https://a b"])
def test_an_origin_is_what_browsers_send(text: str) -> None:
    assert parse_origin("https://a.example:8443") == "https://a.example:8443"
    with pytest.raises(UsageError):
        parse_origin(text)


def test_a_network_is_one() -> None:
    assert parse_network("10.0.0.0/8") == ip_network("10.0.0.0/8")
    with pytest.raises(UsageError):
        parse_network("10.0.0.1/8")
