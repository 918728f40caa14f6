"""``python -m tests.hostile.crowd ADDRESS KIND=COUNT...``: peers that complete no valid request, apart.

Prints a line once every peer has connected, then goes on until its standard input ends. A peer that is turned
away comes back after a pause, so that the crowd neither shrinks nor becomes a mere contest for the processor.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress

from enclave_payload.wire import HEADER_BYTES, FrameType, encode_frame
from enclavectl.net.address import HybridVsockAddress, UnixAddress, parse_address
from enclavectl.protocol.evidence import Challenge, challenge_frame

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

# An idle peer costs the server a connection each time; a bad one also a refusal.
PAUSE_S = 1.0
MIB = 1024 * 1024


async def idle(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Connect and say nothing."""
    await reader.read()


async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Speak another protocol."""
    writer.write(b"GET / HTTP/1.1\r\nHost: enclave\r\n\r\n")
    await reader.read()


async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Begin a challenge, and say a byte of it now and then."""
    for byte in challenge_frame(Challenge(os.urandom(32))):
        writer.write(bytes([byte]))
        with suppress(TimeoutError):
            if not await asyncio.wait_for(reader.read(1), 1):
                return


async def challenge(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take the evidence and ask for nothing."""
    await _attested(reader, writer)
    await reader.read()


async def unopened(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take the evidence and send a request that does not open."""
    await _attested(reader, writer)
    writer.write(encode_frame(FrameType.SEALED, bytes(8), b"\0\2", os.urandom(2000)))
    await reader.read()


async def unfinished(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take the evidence and send 2 MiB of a request that announces 19."""
    await _attested(reader, writer)
    writer.write((19 * MIB).to_bytes(4, "big") + bytes([FrameType.SEALED]) + bytes(2 * MIB))
    await reader.read()


async def _attested(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(challenge_frame(Challenge(os.urandom(32))))
    head = await reader.readexactly(HEADER_BYTES)
    await reader.readexactly(int.from_bytes(head[:4], "big") - 1)


KINDS: dict[str, Talk] = {
    talk.__name__: talk for talk in (idle, garbage, half, challenge, unopened, unfinished)
}


async def _connect(
    address: UnixAddress | HybridVsockAddress,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_unix_connection(address.path.name)
    if isinstance(address, HybridVsockAddress):
        writer.write(f"CONNECT {address.port}\n".encode())
        await reader.readuntil(b"\n")
    return reader, writer


async def _peer(
    address: UnixAddress | HybridVsockAddress, talk: Talk, connected: Callable[[], object]
) -> None:
    while True:
        with suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await _connect(address)
            connected()
            try:
                await talk(reader, writer)
            finally:
                writer.close()
        await asyncio.sleep(PAUSE_S)


async def main(text: str, kinds: list[str]) -> None:
    """Keep all of them there until standard input ends."""
    address = parse_address(text)
    assert isinstance(address, UnixAddress | HybridVsockAddress)
    os.chdir(address.path.parent)  # a path of any length becomes one that fits a socket's address
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65536)), hard))
    wanted = [KINDS[kind] for each in kinds for kind, _, n in [each.partition("=")] for _ in range(int(n))]
    there = [asyncio.Event() for _ in wanted]
    tasks = [
        asyncio.create_task(_peer(address, talk, event.set))
        for talk, event in zip(wanted, there, strict=True)
    ]
    await asyncio.gather(*(event.wait() for event in there))
    sys.stdout.write("there\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
