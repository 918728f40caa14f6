"""Weights that somebody damaged: they cost processes that hold no key, never the key holder."""

from __future__ import annotations

import multiprocessing
import random
from collections import Counter
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from enclave_payload.card import load_card
from enclave_payload.decoder import DecoderLostError, Decoders
from enclave_payload.limits import Limits
from enclave_payload.media import MediaType
from enclave_payload.verdict import Problem
from tests.payload.decoders import MODEL_DIR, SAMPLES

MODELS = 30
# What a decoder says of a model that fails, or what is said of a decoder that crashed or was ended.
_COSTS = {None, Problem.MODEL_FAILED, Problem.DECODER_FAILED, Problem.TOO_COSTLY}


def damaged(weights: bytes, number: int) -> bytes:
    """Damage the weights in one of three ways: cut off, with other offsets and sizes, or anywhere."""
    dice = random.Random(number)
    if number % 3 == 0:
        return weights[: dice.randrange(8, len(weights))]
    changed = bytearray(weights)
    # The graph's tables stand in the last bytes of this file, behind the buffers.
    start = len(weights) - 16 * 1024 if number % 3 == 1 else 8
    for _ in range(dice.randrange(1, 9)):
        changed[dice.randrange(start, len(weights))] = dice.choice((0, 0x7F, 0x80, 0xFF))
    return bytes(changed)


def cost_of(folder: Path, weights: bytes) -> str:
    """Load a model of a card that names it, and have two pictures looked at."""
    folder.mkdir()
    (folder / "model.tflite").write_bytes(weights)
    card = replace(load_card(MODEL_DIR), sha256=sha256(weights).hexdigest())
    (folder / "model.json").write_bytes(card.to_json())
    running = Decoders(folder, Limits())
    try:
        [decoder] = running.start(1, lambda _: None)
        picture = (SAMPLES / "bcc.png").read_bytes()
        problems = {decoder.classify(picture, MediaType.PNG, lambda: True).verdict.problem for _ in range(2)}
    except DecoderLostError:
        return "refused"
    finally:
        running.close()
    assert problems <= _COSTS
    return "answered" if problems == {None} else "failed"


def costs_of_damage(folder: Path) -> tuple[Counter[str], str]:
    """Return what became of the damaged models, and of the sound one after them."""
    weights = (MODEL_DIR / "model.tflite").read_bytes()
    costs = Counter(cost_of(folder / f"{n}", damaged(weights, n)) for n in range(MODELS))
    return costs, cost_of(folder / "sound", weights)


def test_thirty_damaged_models_are_refused_or_fail_alone(tmp_path: Path) -> None:
    # In a fresh process: the runtime reads on behind weights that were cut off. What the tests before have
    # freed may be whole weights, which a fork of this process would find there.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        costs, sound = pool.apply(costs_of_damage, (tmp_path,))
    assert costs["refused"] >= MODELS // 3  # none that was cut off is loaded
    assert costs["answered"] + costs["failed"] > 0
    assert sound == "answered"
