"""The settings of ``gateway``: the bounds within which it relays, each with the reason of its default.

What is over a bound is refused; the others are served on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from enclavectl.config.setting import OPTIONAL_PATH, setting, whole

_DAY_S = 24 * 3600
_KIB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """The bounds of the gateway, and the folder in which enclaves are announced to it."""

    announce: Path | None = setting(
        OPTIONAL_PATH, None, "Folder in which run announces each enclave, for gateway --from; null for none."
    )
    # Sessions in all: what four enclaves take. With 2 x 64 KiB each, this process stays below 128 MiB.
    connections: int = setting(whole(1, 10_000), 256, "Sessions in all.")
    # Of one name (token or certificate): a server's pool of connections fits, one client cannot take all.
    connections_per_client: int = setting(whole(1, 10_000), 8, "Sessions of one token or certificate name.")
    # Of one address, or /64 of IPv6: a hospital behind one address has several clients.
    connections_per_address: int = setting(
        whole(1, 10_000), 16, "Sessions of one address, or of one /64 of IPv6."
    )
    # An enclave serves 64 proven connections; the rest is for probes and for tools on the parent.
    connections_per_enclave: int = setting(
        whole(1, 64), 56, "Sessions of one enclave, which serves 64 connections."
    )
    # TLS, HTTP and the challenge. Over it the greediest address gives way, so idle peers keep nobody out.
    handshakes: int = setting(
        whole(1, 1000), 32, "Connections without a challenge; over it the greediest gives way."
    )
    # Of TLS and the HTTP upgrade: a round trip over a satellite takes 0.6 s, and there are three.
    handshake_s: float = setting(whole(1, 60), 5, "Seconds for TLS and the HTTP upgrade.")
    # From the end of the handshake to the whole challenge: clients send it at once. As the payload's.
    first_frame_s: float = setting(whole(1, 60), 5, "Seconds from then to the whole challenge.")
    # From a frame's first byte to its last: 16 MiB at 5 Mbit/s take 27 s. As the payload's.
    frame_s: float = setting(whole(1, 600), 30, "Seconds from a frame's first byte to its last.")
    # The least bytes in a second of a frame after its grace: slower than a modem of 1998, or a slow attack.
    frame_rate: int = setting(
        whole(0, 2**30), 16 * _KIB, "Bytes a second that a frame must have after its grace."
    )
    # Of a frame, before the rate counts: a link that was lost for a moment comes back.
    frame_grace_s: float = setting(whole(0, 600), 5, "Seconds of a frame before its rate counts.")
    # Without a byte either way. More than the payload's 60, so that its own refusal arrives.
    idle_s: float = setting(whole(1, _DAY_S), 75, "Seconds without a byte either way.")
    # Tokens and releases change; a session that never ends would keep old ones.
    session_s: float = setting(whole(1, 30 * _DAY_S), _DAY_S, "Seconds of a session.")
    # Toward an enclave or a client that does not read. As the payload's.
    write_s: float = setting(
        whole(1, 600), 10, "Seconds that an enclave or a client may not read what waits for it."
    )
    # Requests a second of one name: more than an enclave with one worker answers (70 to 700).
    requests_per_s: int = setting(whole(1, 100_000), 100, "Requests a second of one client.")
    # Requests that may come at once: six connections' worth of what an enclave keeps in flight.
    requests_burst: int = setting(whole(1, 100_000), 200, "Requests of one client at once.")
    # Between two challenges to an enclave; evidence takes it milliseconds.
    probe_s: float = setting(whole(1, 3600), 10, "Seconds between two challenges to an enclave.")
    # For evidence: an NSM that is asked by many takes up to a second.
    probe_timeout_s: float = setting(whole(1, 60), 5, "Seconds for the evidence to come.")
    # Between pings of a WebSocket, below the 60 s after which load balancers close; and for the pong.
    ping_s: float = setting(whole(1, 3600), 20, "Seconds between pings of a WebSocket.")
    # Pings, pongs and empty messages of a peer in a second, and at once: clients send one each 20 s.
    control_per_s: int = setting(whole(1, 1000), 5, "Pings, pongs and empty messages of a client a second.")
    control_burst: int = setting(whole(1, 10_000), 20, "Pings, pongs and empty messages of a client at once.")
    # After SIGTERM: load balancers ask every few seconds, and go on sending until they have noticed.
    drain_accept_s: float = setting(
        whole(0, 600), 5, "Seconds after SIGTERM in which new clients are still served."
    )
    # After that, for the answers under way: as long as an enclave may keep a request waiting.
    drain_s: float = setting(whole(1, 3600), 30, "Seconds after that for the answers under way.")
    # For a peer to take our last words.
    linger_s: float = setting(whole(1, 60), 5, "Seconds for a client to take our last words.")
    # A handshake's bytes: cookies and proxies' headers have up to 8 KiB; more is no client of ours.
    request_bytes: int = setting(whole(1024, 2**20), 16 * _KIB, "Bytes of an HTTP request, with its headers.")
    # A message of a WebSocket, either way; what RFC 6455 peers hold in one buffer.
    message_bytes: int = setting(whole(1024, 2**20), 64 * _KIB, "Bytes of one message of a WebSocket.")
    # The kernel's buffer of a client's socket: at 50 ms this carries 40 Mbit/s, and it bounds what waits.
    receive_buffer_bytes: int = setting(
        whole(4096, 2**24), 256 * _KIB, "The kernel's receive buffer of a client's connection."
    )
