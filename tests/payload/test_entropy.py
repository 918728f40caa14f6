import errno
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from enclave_payload.entropy import SEED_BYTES, EntropyError, ensure_seeded, pool_credit
from enclave_payload.nsm import NsmError

# include/uapi/linux/capability.h
CAP_SYS_ADMIN = 21
POOL = Path("/dev/random")


def may_credit_the_pool() -> bool:
    status = Path("/proc/self/status")
    if not status.exists():
        return False
    effective = next(line for line in status.read_text().splitlines() if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) >> CAP_SYS_ADMIN & 1)


def counting(sizes: list[int], size: int) -> Callable[[], bytes]:
    def get_random() -> bytes:
        sizes.append(size)
        return os.urandom(size)

    return get_random


def test_the_credit_is_bits_then_bytes_then_the_seed() -> None:
    # struct rand_pool_info, include/uapi/linux/random.h: native ints, as the kernel reads them.
    assert pool_credit(b"abc") == struct.pack("=ii", 24, 3) + b"abc"


def test_a_pool_that_is_absent_is_named(tmp_path: Path) -> None:
    with pytest.raises(EntropyError, match=f"absent: {os.strerror(errno.ENOENT)}$"):
        ensure_seeded(lambda: os.urandom(256), tmp_path / "absent")


def test_a_file_that_is_no_pool_takes_no_credit(tmp_path: Path) -> None:
    (tmp_path / "pool").write_bytes(b"")
    with pytest.raises(EntropyError, match=f"pool: {os.strerror(errno.ENOTTY)}$"):
        ensure_seeded(lambda: os.urandom(256), tmp_path / "pool")


def test_an_nsm_without_randomness_ends_the_start(tmp_path: Path) -> None:
    def get_random() -> bytes:
        raise NsmError("GetRandom: the response is not random")

    with pytest.raises(NsmError):
        ensure_seeded(get_random, tmp_path / "absent")


@pytest.mark.parametrize("size", [2, 100, 256])
def test_the_seed_is_as_long_as_promised_however_little_comes_at_once(tmp_path: Path, size: int) -> None:
    sizes: list[int] = []
    with pytest.raises(EntropyError):
        ensure_seeded(counting(sizes, size), tmp_path / "absent")
    assert SEED_BYTES <= sum(sizes) < SEED_BYTES + size


@pytest.mark.skipif(may_credit_the_pool(), reason="this process has CAP_SYS_ADMIN")
def test_the_real_pool_takes_no_credit_without_the_capability() -> None:
    with pytest.raises(EntropyError, match=f"^{POOL}: "):
        ensure_seeded(lambda: os.urandom(256), POOL)


@pytest.mark.skipif(not may_credit_the_pool(), reason="crediting the real pool needs CAP_SYS_ADMIN")
def test_the_real_pool_takes_the_credit() -> None:
    sizes: list[int] = []
    ensure_seeded(counting(sizes, 256), POOL)
    assert sizes == [256, 256]
