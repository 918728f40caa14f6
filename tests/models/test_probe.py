"""One probe says what keeps a model from serving: the runtime's own words, the cause, one fix."""

from __future__ import annotations

import hashlib
import math
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from enclave_payload.card import Label, ModelCard
from enclavectl.errors import UsageError
from enclavectl.models.find import PACKAGED_ID, find_model
from enclavectl.models.observation import MAX_CPU_S, MAX_MEMORY_BYTES, Observation, Tensor, observation_in
from enclavectl.models.probe import judge, probe
from enclavectl.models.weights import Model
from tests.models.tflite import (
    ADD,
    CAST,
    CUSTOM,
    DEQUANTIZE,
    FLOAT16,
    INT32,
    LOGISTIC,
    RESHAPE,
    UINT8,
    Graph,
)
from tests.payload.cards import SOFTMAX, stretched

SIDE = 8


def model(folder: Path, weights: bytes, *, labels: int = 3, width: int = SIDE) -> Model:
    (folder / "model.tflite").write_bytes(weights)
    card = ModelCard(
        model_id="m",
        sha256=hashlib.sha256(weights).hexdigest(),
        input=stretched(width, SIDE, "127.5", "127.5"),
        output=SOFTMAX,
        labels=tuple(Label(code=f"c{index}", name=f"Class {index}") for index in range(labels)),
        notice="A test.",
    )
    return Model(card=card, card_path=folder / "model.yaml", weights_path=folder / "model.tflite")


def good(*, signature: list[int] | None = None) -> bytes:
    graph = Graph()
    image = graph.tensor("image", [1, SIDE, SIDE, 3], signature=signature)
    return graph.model([image], [graph.softmax(graph.dense(graph.mean(image)))])


def of_input(kind: int, cast: int, *, version: int = 1) -> bytes:
    graph = Graph()
    image = graph.tensor("image", [1, SIDE, SIDE, 3], kind)
    picture = graph.apply(cast, [image], graph.tensor("f", [1, SIDE, SIDE, 3]), version=version)
    return graph.model([image], [graph.softmax(graph.dense(graph.mean(picture)))])


def of_shape(shape: list[int], channels: int = 3, *, axes: tuple[int, int] = (1, 2)) -> bytes:
    graph, batch = Graph(), shape[0]
    image = graph.tensor("image", shape)
    mean = graph.mean(image, channels, batch=batch, axes=axes)
    return graph.model(
        [image], [graph.softmax(graph.dense(mean, channels=channels, batch=batch), batch=batch)]
    )


def ending(end: Callable[[Graph, int], int], labels: int = 3) -> bytes:
    """The model up to its dense layer, and what ``end`` makes of that."""
    graph = Graph()
    image = graph.tensor("image", [1, SIDE, SIDE, 3])
    return graph.model([image], [end(graph, graph.dense(graph.mean(image), labels))])


def sigmoid(graph: Graph, source: int, labels: int) -> int:
    return graph.apply(LOGISTIC, [source], graph.tensor("scores", [1, labels]))


def custom(name: str) -> Callable[[Graph, int], int]:
    return lambda graph, source: graph.apply(CUSTOM, [source], graph.tensor("z", [1, 3]), custom=name)


def reshaped(shape: list[int]) -> Callable[[Graph, int], int]:
    def end(graph: Graph, source: int) -> int:
        to = graph.tensor("shape", [len(shape)], INT32, data=struct.pack(f"<{len(shape)}i", *shape))
        scores = graph.softmax(source, math.prod(shape))
        return graph.apply(RESHAPE, [scores, to], graph.tensor("flat", shape))

    return end


def two_inputs() -> bytes:
    graph = Graph()
    image, age = graph.tensor("image", [1, SIDE, SIDE, 3]), graph.tensor("age", [1, 3])
    both = graph.apply(ADD, [graph.mean(image), age], graph.tensor("sum", [1, 3]))
    return graph.model([image, age], [graph.softmax(graph.dense(both))])


def two_outputs() -> bytes:
    graph = Graph()
    image = graph.tensor("image", [1, SIDE, SIDE, 3])
    logits = graph.dense(graph.mean(image))
    return graph.model([image], [graph.softmax(logits), logits])


def old_softmax(graph: Graph, source: int) -> int:
    return graph.softmax(source, version=99)


def newer_dense() -> bytes:
    graph = Graph()
    image = graph.tensor("image", [1, SIDE, SIDE, 3])
    return graph.model([image], [graph.softmax(graph.dense(graph.mean(image), version=99))])


class Wrong(NamedTuple):
    """A model, and what has to be said of it; ``labels`` are the card's."""

    weights: bytes
    code: str
    message: str
    hint: str
    labels: int = 3


MISFITS = {
    "op version of a layer": Wrong(
        newer_dense(), "model-op-version", "'FULLY_CONNECTED' version '99'", "TensorFlow"
    ),
    "op version": Wrong(ending(old_softmax), "model-op-version", "'SOFTMAX' version '99'", "TensorFlow"),
    "flex op": Wrong(ending(custom("FlexSoftmax")), "model-flex-op", "Select TensorFlow op", "SELECT_TF_OPS"),
    "custom op": Wrong(
        ending(custom("Detect")), "model-custom-op", "unresolved custom op: Detect", "built-in"
    ),
    "two inputs": Wrong(two_inputs(), "model-inputs", r"found 2 \(image, age\)", "picture only"),
    "two outputs": Wrong(two_outputs(), "model-outputs", r"found 2 \(probabilities, logits", "only output"),
    "uint8 input without a scale": Wrong(
        of_input(UINT8, CAST), "model-type", "uint8 or int8 at its input, found uint8", "float32 input"
    ),
    "float16 input": Wrong(
        of_input(FLOAT16, DEQUANTIZE, version=3), "model-type", "found float16", "float32 input"
    ),
    "channels first": Wrong(
        of_shape([1, 3, SIDE, SIDE], axes=(2, 3)), "model-shape", r"found \[1, 3, 8, 8\]", "layout: nchw"
    ),
    "gray": Wrong(of_shape([1, SIDE, SIDE, 1], 1), "model-shape", r"found \[1, 8, 8, 1\]", "RGB"),
    "a batch of 8": Wrong(of_shape([8, SIDE, SIDE, 3]), "model-shape", r"found \[8, 8, 8, 3\]", "batch of 1"),
    "another size": Wrong(
        of_shape([1, 9, 7, 3]), "model-shape", r"found \[1, 9, 7, 3\]", "width: 7 and height: 9"
    ),
    "dynamic sides": Wrong(
        good(signature=[1, -1, -1, 3]), "model-shape", r"found \[1, any, any, 3\]", "fixed input size"
    ),
    "segmentation": Wrong(
        ending(reshaped([1, 3, 2, 1]), 6), "model-shape", r"found \[1, 3, 2, 1\]: no classifier", "classifier"
    ),
    "labels of another model": Wrong(
        good(), "model-shape", "expected 4 outputs, one for each label, found 3", "own labels", labels=4
    ),
    "a background label": Wrong(good(), "model-shape", "expected 2 outputs", "background label", labels=2),
    "one sigmoid": Wrong(
        ending(lambda graph, source: sigmoid(graph, source, 1), 1),
        "model-shape",
        "expected 2 outputs, .* found 1",
        "scores: sigmoid",
        labels=2,
    ),
    "logits": Wrong(
        ending(lambda _, source: source), "model-logits", "expected softmax scores .* found -0.0", "logits"
    ),
    "sigmoids": Wrong(
        ending(lambda graph, source: sigmoid(graph, source, 3)),
        "model-sigmoids",
        "expected softmax scores .*, found 0.4",
        "scores: sigmoid",
    ),
    "no model": Wrong(b"no model", "model-broken", "cannot load it", "export the model again"),
    "an empty file": Wrong(b"", "model-format", "found an empty file", "fetch the model again"),
    "zeros": Wrong(bytes(4096), "model-format", "found zero bytes only", "fetch the model again"),
    "Keras' HDF5": Wrong(
        b"\x89HDF\r\n\x1a\n" + bytes(99), "model-format", "Keras model in HDF5", "from_keras_model"
    ),
    "PyTorch": Wrong(b"PK\x03\x04" + bytes(99), "model-format", "a ZIP archive, as Keras", "ai_edge_torch"),
    "ONNX": Wrong(b"\x08\x07\x12\x07pytorch" + bytes(99), "model-format", "an ONNX model", "onnx2tf"),
    "SavedModel": Wrong(b"\x08\x01\x12\x93" + bytes(99), "model-format", "another protocol buffer", "TFLite"),
    "safetensors": Wrong(
        (2).to_bytes(8, "little") + b"{}" + bytes(99), "model-format", "in safetensors", "convert"
    ),
    "GGUF": Wrong(b"GGUF\x03\0\0\0" + bytes(99), "model-format", "a GGUF model", "TFLite models only"),
    "packed": Wrong(b"\x1f\x8b\x08\0" + bytes(99), "model-format", "gzip-compressed", "gunzip"),
    "a Git LFS pointer": Wrong(
        b"version https://git-lfs.github.com/spec/v1\n", "model-format", "Git LFS pointer", "git lfs pull"
    ),
    "a web page": Wrong(b"<!DOCTYPE html><html>", "model-format", "a web page", "fetch the model again"),
    "half of a model": Wrong(
        good()[:600], "model-broken", "cannot load it|ends with signal", "export the model again"
    ),
}


@pytest.mark.parametrize("kind", MISFITS)
def test_a_model_that_cannot_serve_is_told_with_its_cause_and_one_fix(tmp_path: Path, kind: str) -> None:
    wrong = MISFITS[kind]
    with pytest.raises(UsageError, match=wrong.message) as info:
        probe(model(tmp_path, wrong.weights, labels=wrong.labels))
    assert info.value.code == wrong.code
    assert wrong.hint in str(info.value.hint)
    assert info.value.message.startswith(f"{tmp_path / 'model.tflite'}: ")
    assert "\n" not in info.value.message
    assert len(info.value.message) < 600


@pytest.mark.parametrize(
    "weights",
    [
        good(),
        good(signature=[-1, SIDE, SIDE, 3]),
        good() + b"PK\x03\x04 a file behind it",
        ending(reshaped([3])),
        ending(reshaped([1, 1, 1, 3])),
    ],
    ids=["plain", "dynamic batch", "with metadata", "output without a batch", "output of four sides"],
)
def test_a_model_that_can_serve_passes(tmp_path: Path, weights: bytes) -> None:
    found = probe(model(tmp_path, weights))
    assert found.failed is None
    assert [sum(values) == pytest.approx(1) for values in found.values] == [True, True]
    assert found.values[0] != found.values[1]


def test_the_packaged_model_can_serve() -> None:
    assert probe(find_model(PACKAGED_ID, data_dir=Path("/nonexistent"))).runtime


def test_weights_that_are_not_the_cards_are_not_asked_about(tmp_path: Path) -> None:
    found = model(tmp_path, good())
    found.weights_path.write_bytes(good() + b"x")
    with pytest.raises(UsageError, match="expected SHA-256"):
        probe(found)


def test_a_relative_path_is_the_callers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = model(tmp_path, good())
    monkeypatch.chdir(tmp_path)
    relative = Model(card=found.card, card_path=found.card_path, weights_path=Path("model.tflite"))
    assert probe(relative).failed is None


def observation(values: tuple[float, ...]) -> Observation:
    image = Tensor(name="image", dtype="float32", shape=(1, 8, 8, 3), signature=(1, 8, 8, 3))
    output = Tensor(name="out", dtype="float32", shape=(1, 3), signature=(1, 3))
    return Observation(runtime="tflite-runtime 2.14.0", inputs=(image,), outputs=(output,), values=(values,))


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ((0.5, 0.25, 0.25), None),
        ((1.0, 0.0, 0.0), None),
        ((0.5, 0.25, 0.255), None),
        ((0.5, 0.25, 0.2658), None),  # a hundredth, and half a step of an 8-bit softmax for each label
        ((0.5, 0.25, 0.266), "model-sigmoids"),
        ((1.5, -0.5, 0.0), "model-logits"),
        ((float("nan"), 0.5, 0.5), "model-not-finite"),
        ((float("inf"), 0.0, 0.0), "model-not-finite"),
    ],
)
def test_outputs_are_probabilities_that_add_up_to_one(
    tmp_path: Path, values: tuple[float, ...], code: str | None
) -> None:
    misfit = judge(observation(values), model(tmp_path, b"").card)
    assert (None if misfit is None else misfit.code) == code


# As ai-edge-litert 2.3.0 and tflite-runtime 2.14.0 say it.
OVERFLOW = (
    "/tensorflow/lite/core/util.cc BytesRequired number of elements overflowed.\n"
    "Node number 0 (CONV_2D) failed to prepare.Failed to apply the default TensorFlow Lite delegate"
)
UNKNOWN_OP = (
    "Op builtin_code out of range: 250. Are you using old TFLite binary with newer model?"
    "Registration failed.\n"
)


@pytest.mark.parametrize(
    ("runtime", "words", "code", "hint"),
    [
        ("tflite-runtime 2.14.0", UNKNOWN_OP, "model-op-version", "--runtime ai-edge-litert"),
        ("ai-edge-litert 2.3.0", UNKNOWN_OP, "model-op-version", "of that runtime's time"),
        ("ai-edge-litert 2.3.0", "Model provided has model identifier 'PK'", "model-broken", "export"),
    ],
)
def test_what_the_runtime_refuses_is_told_in_its_words(
    tmp_path: Path, runtime: str, words: str, code: str, hint: str
) -> None:
    misfit = judge(Observation(runtime=runtime, failed="load", words=words), model(tmp_path, b"").card)
    assert misfit is not None
    assert misfit.code == code
    assert hint in misfit.hint
    assert misfit.message.startswith(f"{runtime} cannot load it: {words[:20]}")


def test_sides_that_overflow_are_told_as_what_they_are(tmp_path: Path) -> None:
    image = Tensor(name="image", dtype="float32", shape=(1, 1, 1, 3), signature=(1, -1, -1, 3))
    found = Observation(runtime="r", failed="allocate", words=OVERFLOW, inputs=(image,))
    misfit = judge(found, model(tmp_path, b"").card)
    assert misfit is not None
    assert misfit.code == "model-shape"
    found = Observation(runtime="r", failed="allocate", words=OVERFLOW)
    misfit = judge(found, model(tmp_path, b"").card)
    assert misfit is not None
    assert "overflowed (CONV_2D)" in misfit.message


def test_what_damaged_weights_may_take_is_bounded() -> None:
    """Half of a model made the runtime touch 16 GiB in one of two tries."""
    code = (
        "from enclavectl.models.observation import confine_this_process; confine_this_process(); "
        "print(open('/proc/self/limits').read())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = {line[:26].strip(): line[26:].split()[0] for line in done.stdout.splitlines() if line}
    assert found["Max address space"] == str(MAX_MEMORY_BYTES)
    assert found["Max cpu time"] == str(MAX_CPU_S)


@pytest.mark.parametrize(
    "attempt",
    [
        "open('made', 'w')",
        "open(sys.argv[1], 'a')",
        "os.unlink(sys.argv[1])",
        "os.rename(sys.argv[1], 'moved')",
        "os.chmod(sys.argv[1], 0o777)",
        "socket.socket()",
        "socket.socket(socket.AF_UNIX)",
        "os.fork()",
        "os.kill(os.getppid(), 15)",
        "os.execv('/bin/true', ['true'])",
    ],
)
def test_weights_that_take_over_their_parser_may_not(attempt: str, tmp_path: Path) -> None:
    """The process is the user's own: it may read, and tell nobody but the command."""
    mine = tmp_path / "mine"
    mine.write_text("as it was")
    code = (
        "import os, socket, sys; from enclavectl.models.observation import confine_this_process\n"
        "confine_this_process()\n"
        f"try:\n    {attempt}\nexcept PermissionError:\n    print('no', len(open(sys.argv[1]).read()))"
    )
    argv = [sys.executable, "-c", code, str(mine)]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == (f"no {len('as it was')}\n", "")
    assert mine.read_text() == "as it was"
    assert [one.name for one in tmp_path.iterdir()] == ["mine"]


def test_every_thread_of_the_parser_is_confined() -> None:
    """Threads share memory: one that may do more would do it for the others. numpy's OpenBLAS starts some."""
    code = (
        "import threading; e = threading.Event(); threading.Thread(target=e.wait, daemon=True).start()\n"
        "from enclavectl.models.observation import confine_this_process; confine_this_process()\n"
        "print(open('/proc/self/task/' + str(threading.main_thread().native_id) + '/status').read())\n"
        "print(open('/proc/self/task/' + str(threading.enumerate()[1].native_id) + '/status').read())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = [line.split() for line in done.stdout.splitlines()]
    assert found.count(["Seccomp:", "2"]) == found.count(["NoNewPrivs:", "1"]) == 2


LINE = Observation(runtime="r", failed="load", words="w").to_line()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"load"', '"weird"'),
        ('"load"', '["load"]'),
        ('"w"', "5"),
        ('"w"', "[" * 100_000),
        ('"r"', "null"),
        ('"inputs": []', '"inputs": 7'),
        ('"inputs": []', '"inputs": [{"name": 1}]'),
        ('"inputs": []', f'"inputs": [{", ".join("1" * 17)}]'),
        ('"values": []', '"values": [["one"]]'),
        ('"values": []', f'"values": [[1{"0" * 400}]]'),
        ('"values": []', '"values": [[true]]'),
    ],
)
def test_what_is_no_observation_is_none(old: str, new: str) -> None:
    assert observation_in(LINE) == Observation(runtime="r", failed="load", words="w")
    assert old in LINE
    assert observation_in(LINE.replace(old, new)) is None
