"""What an answer means that is not the upgrade to a WebSocket: who it is from, and what to do."""

from __future__ import annotations

import re
from collections.abc import Sequence

from enclavectl.errors import (
    EnclaveBusy,
    EnclavectlError,
    EnclaveLost,
    NetworkError,
    StateError,
    UsageError,
    visible,
)
from enclavectl.net.address import WebSocketAddress
from enclavectl.net.http_head import HttpHead

_MAX_SHOWN = 8  # releases in a message; a host has at most four enclaves, and a fleet two releases at a time
_LABEL = "[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
# As enclavectl/gateway writes it.
_NO_SUCH_RELEASE = re.compile(rf"there is no release {_LABEL} here; there is ({_LABEL}(?:, {_LABEL})*)\n")
_GATEWAY_HINT = "the address of a gateway is wss://HOST[:PORT]/v1; its operator has it"

_PAGE_HINT = "does this network want a login first (open a browser), or is it a web site's address?"


def not_a_gateway(address: WebSocketAddress, found: str) -> NetworkError:
    """Make the error for a server of something else."""
    return NetworkError(
        f"{address}: expected a gateway, found {found}", hint=_GATEWAY_HINT, code="not-a-gateway"
    )


def refused_upgrade(
    address: WebSocketAddress, head: HttpHead, body: bytes, *, has_token: bool
) -> EnclavectlError:
    """Make the error for a response that is not 101; ``body`` is its beginning."""
    status = head.status
    if status == 511 or 300 <= status < 400:
        return _redirected(address, head)
    if status in {401, 403}:
        return _unauthorized(address, status, has_token=has_token)
    if status == 404 and not head.is_html:
        return _no_such_release(address, body)
    if status in {429, 502, 503, 504}:
        return _unavailable(address, status)
    if head.is_html and 200 <= status < 300:
        return NetworkError(
            f"{address}: expected a gateway, found a web page in place of the upgrade",
            hint=_PAGE_HINT,
            code="web-page",
        )
    return not_a_gateway(address, f"a web server that refuses the upgrade (status {status})")


def _unavailable(address: WebSocketAddress, status: int) -> EnclavectlError:
    if status in {429, 503}:
        return EnclaveBusy(
            f"{address}: the gateway has no room or no enclave now (status {status})",
            hint="try again later; its /readyz says when it has",
            code="gateway-busy",
        )
    return EnclaveLost(
        f"{address}: a proxy before the gateway does not reach it (status {status})",
        hint="try again; if it stays, tell its operator",
        code="gateway-unreachable",
    )


def _redirected(address: WebSocketAddress, head: HttpHead) -> NetworkError:
    place = visible(head.headers.get("location", ""))[:100] or "a login page"
    return NetworkError(
        f"{address}: expected a gateway, found a redirect to {place} (status {head.status})",
        hint=_PAGE_HINT,
        code="web-page",
    )


def _unauthorized(address: WebSocketAddress, status: int, *, has_token: bool) -> UsageError:
    if has_token:
        return UsageError(
            f"{address}: the gateway refuses this token ({status}): revoked, expired, or another's",
            hint="ask its operator for a new one (enclavectl gateway token add)",
            code="token-refused",
        )
    return UsageError(
        f"{address}: the gateway expected a token or a client's certificate, found neither ({status})",
        hint="--token-file FILE, or --client-cert FILE, with what its operator gave you",
        code="token-missing",
    )


def _no_such_release(address: WebSocketAddress, body: bytes) -> EnclavectlError:
    found = releases_in(body)
    if found is None:
        return not_a_gateway(address, "nothing at this path (status 404)")
    shown = ", ".join(found[:_MAX_SHOWN]) + (", ..." if len(found) > _MAX_SHOWN else "")
    asked = address.path.rpartition("/")[2]
    return StateError(
        f"{address}: expected the release {asked}, found that the gateway has {shown or 'none now'}",
        hint="leave the release out of the address to get any; the policy decides which is right",
        code="no-such-release",
    )


def releases_in(body: bytes) -> Sequence[str] | None:
    """Return the labels in a gateway's 404; None if it is not a gateway's."""
    match = _NO_SUCH_RELEASE.fullmatch(body.decode(errors="replace"))
    if match is None:
        return None
    return [] if match[1] == "none" else match[1].split(", ")
