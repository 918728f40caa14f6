"""Is an enclave ready: it is challenged, and evidence that comes is enough. No document is parsed."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable
from concurrent.futures import Executor

from enclavectl.config.gateway import GatewayConfig
from enclavectl.errors import EnclavectlError
from enclavectl.gateway.following import follow_enclave
from enclavectl.gateway.link import connect_socket
from enclavectl.gateway.routing import Enclave, Health
from enclavectl.net.address import HostAddress
from enclavectl.net.carriage import NONCE_BYTES, FrameType, WireError, encode_challenge

# Evidence has up to 52 KiB.
_READ_BYTES = 64 * 1024


async def probe(address: HostAddress, executor: Executor, timeout_s: float) -> bool:
    """Challenge an enclave, and return whether evidence came in time."""
    try:
        async with asyncio.timeout(timeout_s):
            sock = await connect_socket(address, executor)
            with sock:
                return await _challenge(sock)
    except (EnclavectlError, OSError, WireError, TimeoutError):
        return False


async def _challenge(sock: socket.socket) -> bool:
    loop = asyncio.get_running_loop()
    follower = follow_enclave()
    await loop.sock_sendall(sock, encode_challenge(secrets.token_bytes(NONCE_BYTES)))
    while not follower.frames:
        data = await loop.sock_recv(sock, _READ_BYTES)
        if not data:
            return False
        follower.feed(data, 0.0)
    return FrameType.EVIDENCE in follower.frames


async def keep_probing(
    enclave: Enclave, limits: GatewayConfig, executor: Executor, changed: Callable[[Enclave], None]
) -> None:
    """Challenge an enclave every ``probe_s``, and at once when a session suspects it; until cancelled."""
    loop = asyncio.get_running_loop()
    woken = asyncio.Event()
    enclave.wake = woken.set
    while True:
        began_at = loop.time()
        is_up = await probe(enclave.destination.address, executor, limits.probe_timeout_s)
        enclave.probe_seconds = loop.time() - began_at
        before, enclave.health = enclave.health, Health.UP if is_up else Health.DOWN
        if enclave.health is not before:
            changed(enclave)
        woken.clear()
        # One that is down is asked more often: it may just be booting.
        pause_s = limits.probe_s if is_up else min(1.0, limits.probe_s)
        try:
            async with asyncio.timeout(pause_s):
                await woken.wait()
        except TimeoutError:
            continue
        # An enclave whose sessions all break is not asked in a loop.
        await asyncio.sleep(min(0.1, limits.probe_s))
