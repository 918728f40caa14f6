"""Randomness at boot: bytes of the NSM are credited to the kernel's pool before a key is made.

An enclave has no disk, no interrupts worth mentioning and no seed file. Newer enclave kernels feed the
pool from the NSM by themselves (nsm-hwrng); older ones wait in getrandom() without end
(https://github.com/aws/aws-nitro-enclaves-sdk-bootstrap/issues/15). Seeding twice does no harm.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path

# _IOW('R', 0x03, int[2]), include/uapi/linux/random.h. A bare write() to /dev/random credits nothing.
_RNDADDENTROPY = 0x40085203
# The kernel's pool holds 256 bits; 512 bytes are two answers of the NSM, so that one bad answer is not all.
SEED_BYTES = 512
# The pool is ready right after the credit; what is not ready then has no entropy to come.
_POOL_DEADLINE_S = 10.0


class EntropyError(Exception):
    """The pool could not be seeded; the payload must not make keys and ends."""


def ensure_seeded(get_random: Callable[[], bytes], pool: Path = Path("/dev/random")) -> None:
    """Credit at least 512 bytes of the NSM to the pool, and wait until it gives bytes.

    Raises:
        EntropyError: the pool refused the credit (needs CAP_SYS_ADMIN), or still waits after 10 s.
    """
    seed = b""
    while len(seed) < SEED_BYTES:
        seed += get_random()
    try:
        fd = os.open(pool, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.ioctl(fd, _RNDADDENTROPY, pool_credit(seed))
        finally:
            os.close(fd)
    except OSError as exc:
        raise EntropyError(f"{pool}: {exc.strerror}") from exc
    _require_ready()


def pool_credit(seed: bytes) -> bytes:
    """Write ``struct rand_pool_info``: entropy in bits, size in bytes, then the bytes."""
    return struct.pack("ii", len(seed) * 8, len(seed)) + seed


def _require_ready() -> None:
    deadline = time.monotonic() + _POOL_DEADLINE_S
    while True:
        try:
            os.getrandom(1, os.GRND_NONBLOCK)
        except BlockingIOError as exc:
            if time.monotonic() > deadline:
                raise EntropyError("the kernel's random pool is still not ready") from exc
            time.sleep(0.05)
        else:
            return
