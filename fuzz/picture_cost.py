"""Any bytes have a verdict within the budget of CPU and memory of one picture, or are too-costly.

Runs in a real decoder process. ``report`` names the inputs that cost most for each of their bytes.
"""

from __future__ import annotations

import atexit
from functools import cache
from pathlib import Path
from typing import NamedTuple

import enclave_payload
from enclave_payload.decoder import Decoder, Decoders
from enclave_payload.limits import Limits
from enclave_payload.media import MediaType
from enclave_payload.verdict import Problem
from fuzz import picture
from tests.hostile.pictures import FAMILIES

_TYPES = tuple(MediaType)
# Tighter than the image's, so that a run of seconds can reach them.
_LIMITS = Limits(picture_cpu_s=1.0, picture_memory_bytes=512 << 20)
# The clock is looked at every 20 ms; a busy machine looks later.
_SLACK = 2.0

SEEDS: list[bytes] = [
    *picture.SEEDS,
    *(bytes([_TYPES.index(one.media_type)]) + one.make(one.few) for one in FAMILIES.values()),
]


class Cost(NamedTuple):
    """What the costliest input so far took for each of its bytes."""

    per_byte: float = 0.0
    input: bytes = b""


_worst: dict[str, Cost] = {"us of CPU": Cost(), "bytes of memory": Cost()}


@cache
def _decoder() -> Decoder:
    decoders = Decoders(Path(enclave_payload.__file__).parent / "model", _LIMITS)
    atexit.register(decoders.close)
    (decoder,) = decoders.start(1, print)
    return decoder


def one(data: bytes) -> None:
    if not data:
        return
    decoder = _decoder()
    pid, before = decoder.pid, decoder.cpu_s
    problem = decoder.classify(data[1:], _TYPES[data[0] % len(_TYPES)], lambda: True).verdict.problem
    assert problem is not Problem.DECODER_FAILED
    if decoder.pid != pid:  # killed for what it cost, or replaced for its age
        return
    cpu_s = decoder.cpu_s - before
    assert cpu_s < _SLACK * _LIMITS.picture_cpu_s
    _note("us of CPU", cpu_s * 1e6 / len(data), data)
    _note("bytes of memory", _peak_bytes(pid) / len(data), data)


def report() -> str:
    return "; ".join(
        f"{what}: {cost.per_byte:.0f} a byte for {cost.input[:60].hex()} ({len(cost.input)} bytes)"
        for what, cost in _worst.items()
    )


def _note(what: str, per_byte: float, data: bytes) -> None:
    if per_byte > _worst[what].per_byte:
        _worst[what] = Cost(per_byte, data)


def _peak_bytes(pid: int) -> int:
    """How much more than now the process has ever had mapped."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith("Vm")}
    return (sizes["VmPeak"] - sizes["VmSize"]) * 1024
