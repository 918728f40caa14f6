"""Any output of the process that parses weights is an observation that can be judged, or none.

Weights that took that process over write what they like.
"""

from __future__ import annotations

import json
from dataclasses import asdict

from enclavectl.models.observation import MARK, Observation, Tensor, observation_in
from enclavectl.models.probe import judge
from tests.payload.cards import CARD

_IMAGE = Tensor(name="image", dtype="float32", shape=(1, 224, 224, 3), signature=(1, 224, 224, 3))
_SCORES = Tensor(name="scores", dtype="uint8", shape=(1, 7), signature=(-1, 7), scale=0.1, zero_point=3)
_SOUND = Observation(
    runtime="tflite-runtime 2.14.0",
    inputs=(_IMAGE,),
    outputs=(_SCORES,),
    values=((0.4, 0.6, 0.0, 0.0, 0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)),
)
_WORDS = "Didn't find op for builtin opcode 'CONV_2D' version '6'. Node number 3 (CONV_2D) failed\nmore"


def _with(**changes: object) -> bytes:
    return f"{MARK}{json.dumps({**asdict(_SOUND), **changes})}\n".encode()


SEEDS: list[bytes] = [
    b"",
    MARK.encode(),
    b"a line before\n" + _with() + b"and one behind",
    _with(failed="load", words=_WORDS),
    _with(failed="allocate", inputs=[{**asdict(_IMAGE), "signature": [1, -1, -1, 3]}]),
    _with(values=[[float("nan"), float("inf")], [1e308, -1e308, 1e-320, 0, 0, 0, 0]]),
    _with(values=[[True]], outputs=[]),
    _with(inputs=[{**asdict(_IMAGE), "shape": [1 << 62] * 9}]),
    _with(values=[]).replace(b"[]", b"[" * 500),
    _with(values=[]).replace(b"[]", b"[[" + b"9" * 500 + b"]]"),
]


def one(data: bytes) -> None:
    found = observation_in(data.decode(errors="replace"))
    if found is None:
        return
    again = observation_in(found.to_line())
    assert again is not None
    assert again.to_line() == found.to_line()  # as text: no NaN is like another
    misfit = judge(found, CARD)
    assert misfit is None or (misfit.code and len(misfit.message) < 5000)
