"""What the plan of a build says of the model that it tried."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from enclavectl.image.context import PAYLOAD, probe_script
from enclavectl.image.model_probe import BEGINS
from enclavectl.image.plan import runtime_note
from enclavectl.image.probe_watch import ProbeWatch
from enclavectl.models.observation import Observation, Tensor, observation_in
from enclavectl.models.probe import judge
from tests.models.test_probe import good, model


def test_nothing_is_said_where_the_image_has_the_same_runtime() -> None:
    assert runtime_note("tflite-runtime 2.14.0", here="tflite-runtime 2.14.0") is None


def test_another_runtime_than_the_images_is_named() -> None:
    note = runtime_note("ai-edge-litert 2.3.0", here="tflite-runtime 2.14.0")
    assert note is not None
    assert "tried in tflite-runtime 2.14.0" in note
    assert "image's own ai-edge-litert 2.3.0" in note
    assert "\n" not in note


def watched(*lines: str) -> tuple[ProbeWatch, list[str]]:
    passed: list[str] = []
    watch = ProbeWatch(passed.append)
    for line in lines:
        watch.line(line)
    return watch, passed


REFUSED = Observation(
    runtime="ai-edge-litert 2.3.0", failed="load", words="Didn't find op for builtin opcode 'ADD' version '9'"
)


def test_a_model_that_the_images_runtime_refuses_is_told_in_its_words(tmp_path: Path) -> None:
    """BuildKit puts the step and the time before each line."""
    watch, passed = watched("#9 0.1 Step", f"#9 0.2 {BEGINS}", f"#9 0.4 {REFUSED.to_line()}", "#9 ERROR")
    misfit = watch.misfit(model(tmp_path, b""))
    assert misfit is not None
    assert misfit.code == "model-op-version"
    assert "in the image, ai-edge-litert 2.3.0 cannot load it: Didn't find op" in misfit.message
    assert passed == ["#9 0.1 Step", "#9 ERROR"]


def test_a_model_that_ends_the_images_runtime_is_told(tmp_path: Path) -> None:
    watch, _ = watched(BEGINS, "Segmentation fault")
    misfit = watch.misfit(model(tmp_path, b""))
    assert misfit is not None
    assert misfit.code == "model-broken"
    assert "without a word" in misfit.message


def test_a_build_that_fails_elsewhere_is_not_the_models(tmp_path: Path) -> None:
    assert watched("Step 1", "no space left")[0].misfit(model(tmp_path, b"")) is None
    card = model(tmp_path, b"").card
    shape = (1, card.input.height, card.input.width, 3)
    sound = Observation(
        runtime="r",
        inputs=(Tensor(name="i", dtype="float32", shape=shape, signature=shape),),
        outputs=(Tensor(name="o", dtype="float32", shape=(1, 3), signature=(1, 3)),),
        values=((0.5, 0.25, 0.25),),
    )
    assert watched(BEGINS, sound.to_line(), "warm-up failed")[0].misfit(model(tmp_path, b"")) is None


def test_the_probe_that_goes_into_the_image_runs_by_itself(tmp_path: Path) -> None:
    """It needs the payload, and nothing of enclavectl but what it brings."""
    found = model(tmp_path, good())
    site = tmp_path / "site"
    shutil.copytree(PAYLOAD, site / "enclave_payload", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(found.weights_path, site / "enclave_payload" / "model" / "model.tflite")
    (site / "enclave_payload" / "model" / "model.json").write_bytes(found.card.to_json())
    script = probe_script().replace("/build/site", str(site))
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-"], input=script, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(BEGINS)
    observation = observation_in(done.stdout)
    assert observation is not None
    assert judge(observation, found.card) is None
