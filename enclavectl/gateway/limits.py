"""The bounds within which the gateway relays. What is over a bound is refused; the others are served on."""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayLimits:
    """Counts, bytes and seconds. ``enclavectl.config.gateway`` has the same names as settings."""

    # Sessions in all: what four enclaves take. With 2 x 64 KiB each, this process stays below 128 MiB.
    connections: int = 256
    # Of one name (token or certificate): a server's pool of connections fits, one client cannot take all.
    connections_per_client: int = 8
    # Of one address, or /64 of IPv6: a hospital behind one address has several clients.
    connections_per_address: int = 16
    # An enclave serves 64 proven connections; the rest is for probes and for tools on the parent.
    connections_per_enclave: int = 56
    # TLS, HTTP and the challenge. Over it the greediest address gives way, so idle peers keep nobody out.
    handshakes: int = 32
    # Of TLS and the HTTP upgrade: a round trip over a satellite takes 0.6 s, and there are three.
    handshake_s: float = 5.0
    # From the end of the handshake to the whole challenge: clients send it at once. As the payload's.
    first_frame_s: float = 5.0
    # From a frame's first byte to its last: 16 MiB at 5 Mbit/s take 27 s. As the payload's.
    frame_s: float = 30.0
    # The least bytes in a second of a frame after its grace: slower than a modem of 1998, or a slow attack.
    frame_rate: int = 16 * KIB
    # Of a frame, before the rate counts: a link that was lost for a moment comes back.
    frame_grace_s: float = 5.0
    # Without a byte either way. More than the payload's 60, so that its own refusal arrives.
    idle_s: float = 75.0
    # Tokens and releases change; a session that never ends would keep old ones.
    session_s: float = 24 * 3600.0
    # Toward an enclave or a client that does not read. As the payload's.
    write_s: float = 10.0
    # Requests a second of one name: more than an enclave with one worker answers (70 to 700).
    requests_per_s: int = 100
    # Requests that may come at once: six connections' worth of what an enclave keeps in flight.
    requests_burst: int = 200
    # Between two challenges to an enclave; evidence takes it milliseconds.
    probe_s: float = 10.0
    # For evidence: an NSM that is asked by many takes up to a second.
    probe_timeout_s: float = 5.0
    # Between pings of a WebSocket, below the 60 s after which load balancers close; and for the pong.
    ping_s: float = 20.0
    # Pings, pongs and empty messages of a peer in a second, and at once: clients send one each 20 s.
    control_per_s: int = 5
    control_burst: int = 20
    # After SIGTERM: load balancers ask every few seconds, and go on sending until they have noticed.
    drain_accept_s: float = 5.0
    # After that, for the answers under way: as long as an enclave may keep a request waiting.
    drain_s: float = 30.0
    # For a peer to take our last words.
    linger_s: float = 5.0
    # How often deadlines, tokens and certificates are looked at.
    sweep_s: float = 0.25
    # A handshake's bytes: cookies and proxies' headers have up to 8 KiB; more is no client of ours.
    request_bytes: int = 16 * KIB
    # A message of a WebSocket, either way; what RFC 6455 peers hold in one buffer.
    message_bytes: int = 64 * KIB
    # The kernel's buffer of a client's socket: at 50 ms this carries 40 Mbit/s, and it bounds what waits.
    receive_buffer_bytes: int = 256 * KIB
