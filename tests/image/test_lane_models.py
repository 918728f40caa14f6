"""Real parts: a model that cannot serve is refused by ``build``, in the words of the runtime that saw it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from enclavectl.artifacts.lock import read_lock
from enclavectl.errors import UsageError
from enclavectl.image.builder import ImageRecipe
from enclavectl.image.buildkit import choose_builder
from enclavectl.image.context import PAYLOAD, payload_context
from enclavectl.image.engine import connect
from enclavectl.image.plan import LABELS, BuildOutput, Plan, make_image
from enclavectl.image.wheels import WheelStore
from enclavectl.models.observation import runtime_name
from tests.image.engine import BASE_IMAGE, Lane
from tests.models.test_probe import ending, good, model, old_softmax

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

CARD = """schema: enclavectl.model/2
id: m
title: M
file: model.tflite
sha256: SHA256
input: {width: 8, height: 8, fit: stretch, filter: bilinear, mean: 127.5, std: 127.5}
output: {scores: softmax}
labels: [{code: c0, name: C0}, {code: c1, name: C1}, {code: c2, name: C2}]
notice: A test.
"""


def test_an_operation_that_only_the_images_runtime_can_judge_is_refused_in_its_words(
    lane: Lane, payload: Path, tmp_path: Path
) -> None:
    """The operations of another runtime are not those of the one here, so the build itself has to try it."""
    folder = tmp_path / "model"
    folder.mkdir()
    wrong = model(folder, ending(old_softmax))
    (folder / "model.yaml").write_text(CARD.replace("SHA256", wrong.card.sha256))
    out = tmp_path / "out"
    out.mkdir()
    lock = payload / "enclavectl.lock.json"
    shutil.copy(lock, out)  # the same wheels, so the layers of the payload's image
    done = lane.build(out, "--base-image", BASE_IMAGE, "--model", folder)
    assert done.status == 2, done.err
    error = done.error()
    assert error["code"] == "model-op-version"
    assert "cannot load it: Didn't find op for builtin opcode 'SOFTMAX' version '99'" in str(error["message"])
    wheels = {wheel.name: wheel for wheel in read_lock(lock).wheels}
    if runtime_name().partition(" ")[0] not in wheels:
        theirs = f"in the image, ai-edge-litert {wheels['ai-edge-litert'].version} cannot load it"
        assert theirs in str(error["message"])
    assert [path.name for path in out.iterdir()] == [lock.name]
    assert (out / lock.name).read_bytes() == lock.read_bytes()


class Wrong(NamedTuple):
    """Weights that cannot serve, the code of their refusal, and words of it."""

    weights: Callable[[], bytes]
    code: str
    words: str


WRONG = {
    "cut off": Wrong(lambda: good()[:500], "model-broken", "in the image, "),
    "logits": Wrong(lambda: ending(lambda _, source: source), "model-logits", "expected softmax scores"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_the_probe_in_the_image_refuses_what_cannot_serve(
    lane: Lane, payload: Path, tmp_path: Path, kind: str
) -> None:
    """As on a machine that cannot run the model itself: nothing was tried before the engine builds."""
    wrong = WRONG[kind]
    found = model(tmp_path, wrong.weights())
    store = WheelStore(folder=lane.home / ".local/share/enclavectl/wheels", environ=lane.environ)
    wheels = read_lock(payload / "enclavectl.lock.json").wheels
    lines: list[str] = []
    output = BuildOutput(step=lines.append, line=lines.append, note=lines.append)
    with connect() as engine:
        recipe = ImageRecipe(
            files=payload_context(found, wheels, store),
            dockerfile=PAYLOAD / "Dockerfile",
            base=engine.require(BASE_IMAGE, on_line=lines.append),
            has_network=False,
            labels=LABELS,
        )
        plan = Plan(recipe=recipe, builder=choose_builder(engine, lane.environ), model=found, wheels=wheels)
        with pytest.raises(UsageError) as caught:
            make_image(plan, tmp_path, output)
    assert caught.value.code == wrong.code
    assert wrong.words in caught.value.message
    assert "in the image" in caught.value.message
