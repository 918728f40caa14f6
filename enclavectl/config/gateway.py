"""The settings of ``gateway``: the bounds within which it relays.

``enclavectl.gateway.limits`` has the reason of each; a test holds the defaults of both to be the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from enclavectl.config.setting import OPTIONAL_PATH, setting, whole

_DAY_S = 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """The bounds of the gateway, and the folder in which enclaves are announced to it."""

    announce: Path | None = setting(
        OPTIONAL_PATH, None, "Folder in which run announces each enclave, for gateway --from; null for none."
    )
    connections: int = setting(whole(1, 10_000), 256, "Sessions in all.")
    connections_per_client: int = setting(whole(1, 10_000), 8, "Sessions of one token or certificate name.")
    connections_per_address: int = setting(
        whole(1, 10_000), 16, "Sessions of one address, or of one /64 of IPv6."
    )
    connections_per_enclave: int = setting(
        whole(1, 64), 56, "Sessions of one enclave, which serves 64 connections."
    )
    handshakes: int = setting(
        whole(1, 1000), 32, "Connections without a challenge; over it the greediest gives way."
    )
    handshake_s: int = setting(whole(1, 60), 5, "Seconds for TLS and the HTTP upgrade.")
    first_frame_s: int = setting(whole(1, 60), 5, "Seconds from then to the whole challenge.")
    frame_s: int = setting(whole(1, 600), 30, "Seconds from a frame's first byte to its last.")
    frame_rate: int = setting(
        whole(0, 2**30), 16_384, "Bytes a second that a frame must have after its grace."
    )
    frame_grace_s: int = setting(whole(0, 600), 5, "Seconds of a frame before its rate counts.")
    idle_s: int = setting(whole(1, _DAY_S), 75, "Seconds without a byte either way.")
    session_s: int = setting(whole(1, 30 * _DAY_S), _DAY_S, "Seconds of a session.")
    write_s: int = setting(
        whole(1, 600), 10, "Seconds that an enclave or a client may not read what waits for it."
    )
    requests_per_s: int = setting(whole(1, 100_000), 100, "Requests a second of one client.")
    requests_burst: int = setting(whole(1, 100_000), 200, "Requests of one client at once.")
    probe_s: int = setting(whole(1, 3600), 10, "Seconds between two challenges to an enclave.")
    probe_timeout_s: int = setting(whole(1, 60), 5, "Seconds for the evidence to come.")
    ping_s: int = setting(whole(1, 3600), 20, "Seconds between pings of a WebSocket.")
    control_per_s: int = setting(whole(1, 1000), 5, "Pings, pongs and empty messages of a client a second.")
    control_burst: int = setting(whole(1, 10_000), 20, "Pings, pongs and empty messages of a client at once.")
    drain_accept_s: int = setting(
        whole(0, 600), 5, "Seconds after SIGTERM in which new clients are still served."
    )
    drain_s: int = setting(whole(1, 3600), 30, "Seconds after that for the answers under way.")
    linger_s: int = setting(whole(1, 60), 5, "Seconds for a client to take our last words.")
    request_bytes: int = setting(whole(1024, 2**20), 16_384, "Bytes of an HTTP request, with its headers.")
    message_bytes: int = setting(whole(1024, 2**20), 65_536, "Bytes of one message of a WebSocket.")
    receive_buffer_bytes: int = setting(
        whole(4096, 2**24), 262_144, "The kernel's receive buffer of a client's connection."
    )
