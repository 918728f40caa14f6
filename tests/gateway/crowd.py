"""``python -m tests.gateway.crowd PORT IDLE GARBAGE``: peers that come back when they are let go."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress


async def _peer(port: int, says: bytes) -> None:
    while True:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(says)
            await reader.read()
            writer.transport.abort()
        await asyncio.sleep(1)


async def _crowd(port: int, idle: int, garbage: int) -> None:
    await asyncio.gather(
        *(_peer(port, b"") for _ in range(idle)), *(_peer(port, b"\0garbage" * 20) for _ in range(garbage))
    )


if __name__ == "__main__":
    asyncio.run(_crowd(*map(int, sys.argv[1:4])))
