"""HTTP proxies: the one that the environment names, and CONNECT through it."""

from __future__ import annotations

import base64
import socket
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from enclavectl.errors import EnclaveLost, NetworkError, UsageError
from enclavectl.net.address import NetworkAddress, bracketed, is_loopback
from enclavectl.net.http_head import HttpError, read_head, send_all
from enclavectl.net.tcp import connect_tcp

_NO_PROXY_HINT = "if the gateway can be reached without it, set no_proxy={host}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """An HTTP proxy. ``credentials`` are a secret: user and password as in ``user:password``."""

    host: str
    port: int
    credentials: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"the proxy {bracketed(self.host)}:{self.port}"


def find_proxy(address: NetworkAddress) -> Proxy | None:
    """Return the proxy that ``https_proxy`` or ``all_proxy`` names for this address, None for none.

    Loopback addresses go without one; ``no_proxy`` names others that do.

    Raises:
        UsageError: it is no HTTP proxy.
    """
    if is_loopback(address.host):
        return None
    # Imported here: it takes longer than the rest of this room, and reads macOS's and Windows's settings.
    from urllib.request import getproxies, proxy_bypass  # noqa: PLC0415 - see above

    found = getproxies()
    text = found.get("https") or found.get("all")
    if not text or proxy_bypass(f"{bracketed(address.host)}:{address.port}") or proxy_bypass(address.host):
        return None
    return parse_proxy(text)


def parse_proxy(text: str) -> Proxy:
    """Read ``http://[USER:PASSWORD@]HOST[:PORT]``; the scheme may be absent.

    Raises:
        UsageError: it is something else. The message has no password.
    """
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        host, port = parts.hostname, parts.port or 80
    except ValueError:  # a port that is none
        parts, host, port = None, None, 0
    if parts is None or parts.scheme != "http" or not host:
        scheme = "" if parts is None else f" of scheme {parts.scheme}:"
        raise UsageError(
            f"https_proxy: expected http://HOST:PORT, found a proxy{scheme} that cannot be used",
            hint="name an HTTP proxy that allows CONNECT, or set no_proxy for the gateway's host",
            code="proxy",
        )
    credentials = None
    if parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return Proxy(host=host, port=port, credentials=credentials)


def connect_through(proxy: Proxy, address: NetworkAddress, deadline: float) -> socket.socket:
    """Open a tunnel to ``address`` with CONNECT, by ``deadline`` on the monotonic clock.

    Raises:
        NetworkError: the proxy wants a password, refuses, or is no proxy.
        StateError: nothing listens where the proxy should be.
        EnclaveLost: it did not answer by the deadline.
    """
    sock = connect_tcp(proxy.host, proxy.port, deadline, what=f"{address} through {proxy}", peer="proxy")
    try:
        send_all(sock, _connect_request(proxy, address), deadline)
        head = read_head(sock, deadline)
    except TimeoutError as exc:
        sock.close()
        raise EnclaveLost(
            f"{address}: {proxy} did not answer in time",
            hint="does it reach the gateway? " + _NO_PROXY_HINT.format(host=address.host),
            code="proxy",
        ) from exc
    except (OSError, HttpError) as exc:
        sock.close()
        raise NetworkError(
            f"{address}: expected an HTTP proxy at {proxy.host}:{proxy.port}, found something else ({exc})",
            hint="check https_proxy; " + _NO_PROXY_HINT.format(host=address.host),
            code="proxy",
        ) from exc
    if 200 <= head.status < 300 and not head.rest:
        return sock
    sock.close()
    raise _refused(proxy, address, head.status)


def _connect_request(proxy: Proxy, address: NetworkAddress) -> bytes:
    target = f"{bracketed(address.host)}:{address.port}"
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if proxy.credentials is not None:
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(proxy.credentials.encode()).decode()}")
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()


def _refused(proxy: Proxy, address: NetworkAddress, status: int) -> NetworkError:
    if status == 407:
        found = (
            "wants a user and a password" if proxy.credentials is None else "refuses this user or password"
        )
        return NetworkError(
            f"{address}: expected a tunnel, found that {proxy} {found} (407)",
            hint="https_proxy=http://USER:PASSWORD@HOST:PORT; only Basic, no NTLM or Kerberos",
            code="proxy-password",
        )
    return NetworkError(
        f"{address}: expected a tunnel, found that {proxy} does not open one (status {status})",
        hint="does it allow CONNECT to this host and port, and does the host exist? "
        + _NO_PROXY_HINT.format(host=address.host),
        code="proxy",
    )
