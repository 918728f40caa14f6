"""Trains the demonstration model from nothing, on synthetic pictures only.

Writes enclave_payload/model/model.tflite and its card (model.yaml, model.json). Needs an environment of its
own, because TensorFlow and the project want different versions of numpy:

    python3.11 -m venv .venv-train
    .venv-train/bin/pip install tensorflow-cpu==2.21.* Pillow PyYAML   # the requirements, all of them
    .venv-train/bin/python -m tools.demo_model

It takes about 16 minutes on two cores that do little else. ``--pictures 20 --output /tmp/trial`` is a quick
trial. The samples are drawn afterwards, by tools/samples.py in the project's own environment.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL
import tensorflow as tf
import yaml
from PIL import Image

from enclave_payload.card import MODEL_SCHEMA
from enclavectl.models.card import read_card
from tools import evaluate
from tools.lesions import HEIGHT, KINDS, WIDTH, draw

NAMES = {  # the labels of the tutorial's model, in the order of its outputs
    "akiec": "Actinic keratoses and intraepithelial carcinoma",
    "bcc": "Basal cell carcinoma",
    "bkl": "Benign keratosis",
    "df": "Dermatofibroma",
    "mel": "Melanoma",
    "nv": "Melanocytic nevi",
    "vasc": "Vascular lesions",
}
NOTICE = (
    "Demonstration model trained on synthetic pictures. This is no diagnosis; "
    "it has never seen real skin and must not be used to decide about anybody's health."
)
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """So many passes over the training set at this size, with a learning rate that ends at 0."""

    side: int
    epochs: int
    learning_rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that decides what the model becomes, apart from the generator's code."""

    pictures_per_kind: int = 600
    held_out_per_kind: int = 100
    # Most of the learning happens on pictures of half the size, at a quarter of the cost.
    stages: tuple[Stage, ...] = (
        Stage(side=evaluate.SIDE // 2, epochs=20, learning_rate=3e-3),
        Stage(side=evaluate.SIDE, epochs=6, learning_rate=1e-3),
    )
    batch: int = 48
    label_smoothing: float = 0.04  # keeps the probabilities off 1.0; pictures that overlap deserve doubt
    brightness: float = 0.06
    seed: int = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSet:
    """Pictures as the payload will squash them, and the index of each one's kind."""

    pictures: Pixels
    kinds: npt.NDArray[np.int64]

    def at(self, side: int) -> TrainingSet:
        """Scale the pictures down to a size that divides their own."""
        if side == self.pictures.shape[1]:
            return self
        factor = self.pictures.shape[1] // side
        smaller = [np.asarray(Image.fromarray(picture).reduce(factor)) for picture in self.pictures]
        return TrainingSet(pictures=np.stack(smaller), kinds=self.kinds)


def _drawn(job: tuple[int, int]) -> Pixels:
    kind, seed = job
    return evaluate.prepare(draw(KINDS[kind], seed))


def draw_training_set(plan: Plan) -> TrainingSet:
    """Every training picture, drawn at full size by all processors."""
    jobs = [(kind, seed) for seed in range(plan.pictures_per_kind) for kind in range(len(KINDS))]
    # "spawn", because a forked TensorFlow can hang.
    with get_context("spawn").Pool() as pool:
        pictures = pool.map(_drawn, jobs, chunksize=16)
    return TrainingSet(pictures=np.stack(pictures), kinds=np.array([kind for kind, _ in jobs]))


def batches(plan: Plan, examples: TrainingSet) -> Iterator[tuple[evaluate.Floats, evaluate.Floats]]:
    """Shuffled batches without end; each picture is turned, mirrored and made a little brighter or darker."""
    rng = np.random.default_rng(plan.seed)
    targets = np.eye(len(KINDS), dtype=np.float32)[examples.kinds]
    while True:
        order = rng.permutation(len(targets))
        for start in range(0, len(order) - plan.batch + 1, plan.batch):
            chosen = order[start : start + plan.batch]
            images = np.stack([_turned(examples.pictures[index], rng) for index in chosen])
            light = 1 + plan.brightness * rng.uniform(-1, 1, (len(chosen), 1, 1, 1))
            bright = np.minimum(images * light.astype(np.float32), np.float32(255))
            yield evaluate.normalize(bright), targets[chosen]


def _turned(picture: Pixels, rng: np.random.Generator) -> Pixels:
    turned = np.rot90(picture, rng.integers(4))
    return turned[:, ::-1] if rng.random() < 0.5 else turned


def train(plan: Plan, examples: TrainingSet) -> list[evaluate.Floats]:
    """Train a MobileNet v1 of a quarter of its width from random weights."""
    weights: list[evaluate.Floats] = []
    for stage in plan.stages:
        model = _mobilenet(tf.keras.Input((stage.side, stage.side, 3)))
        if weights:
            model.set_weights(weights)
        steps = len(examples.kinds) // plan.batch
        rate = tf.keras.optimizers.schedules.CosineDecay(
            0.0, (stage.epochs - 1) * steps, warmup_target=stage.learning_rate, warmup_steps=steps
        )
        model.compile(
            optimizer=tf.keras.optimizers.Adam(rate),
            loss=tf.keras.losses.CategoricalCrossentropy(label_smoothing=plan.label_smoothing),
            metrics=["accuracy"],
        )
        data = batches(plan, examples.at(stage.side))
        model.fit(data, steps_per_epoch=steps, epochs=stage.epochs, shuffle=False, verbose=2)
        weights = model.get_weights()
    return weights


def _mobilenet(entry: tf.Tensor) -> tf.keras.Model:
    return tf.keras.applications.MobileNet(alpha=0.25, weights=None, classes=len(KINDS), input_tensor=entry)


def convert(weights: list[evaluate.Floats]) -> bytes:
    """Convert the trained model to TFLite in float32, for exactly one picture at a time.

    The batch is fixed at 1, because tflite-runtime 2.14 gives up XNNPACK for a model with a dynamic batch
    and is then 10 to 18 times slower.
    """
    single = _mobilenet(tf.keras.Input((evaluate.SIDE, evaluate.SIDE, 3), batch_size=1))
    single.set_weights(weights)
    return bytes(tf.lite.TFLiteConverter.from_keras_model(single).convert())


def card(plan: Plan, weights: bytes, result: evaluate.Evaluation) -> dict[str, object]:
    """Make the model card."""
    return {
        "schema": MODEL_SCHEMA,
        "id": "demo-lesion",
        "title": "Demonstration model: seven kinds of synthetic skin lesions",
        "file": "model.tflite",
        "sha256": hashlib.sha256(weights).hexdigest(),
        "input": {
            "width": evaluate.SIDE,
            "height": evaluate.SIDE,
            "fit": "stretch",
            "filter": "bilinear",
            "mean": evaluate.MEAN,
            "std": evaluate.STD,
        },
        "output": {"scores": "softmax"},
        "labels": [{"code": kind, "name": NAMES[kind]} for kind in KINDS],
        "notice": NOTICE,
        "training": _training(plan),
        "evaluation": {
            **evaluate.as_mapping(result),
            "seeds": f"{evaluate.HELD_OUT} to {evaluate.HELD_OUT + plan.held_out_per_kind - 1}, of each kind",
            "data": f"held-out pictures of tools/lesions.py at {WIDTH}x{HEIGHT}, never used in training",
            "meaning": "How well the model reads the drawings. These numbers say nothing about real skin.",
        },
        "license": "Apache-2.0",
    }


def _training(plan: Plan) -> dict[str, object]:
    return {
        "architecture": "MobileNet v1, alpha 0.25, 224x224x3 float32, softmax over 7 kinds, batch fixed at 1",
        "initial_weights": "random; nothing pretrained",
        "data": "synthetic pictures drawn by tools/lesions.py; no photograph of anybody",
        "preprocessing": "RGB, squashed to 224x224 with Pillow's BILINEAR, then (x - 127.5) / 127.5",
        "augmentation": f"quarter turns, mirror images, brightness up to {plan.brightness:.0%} either way",
        "pictures": plan.pictures_per_kind * len(KINDS),
        "seeds": f"0 to {plan.pictures_per_kind - 1}, for each kind",
        "training_seed": plan.seed,
        "stages": [
            {"side": stage.side, "epochs": stage.epochs, "learning_rate": stage.learning_rate}
            for stage in plan.stages
        ],
        "batch": plan.batch,
        "optimizer": "Adam; in each stage one epoch of warm-up, then cosine decay of the learning rate to 0",
        "loss": f"categorical cross-entropy, label smoothing {plan.label_smoothing}",
        "versions": {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": tf.keras.__version__,
            "numpy": np.__version__,
            "pillow": PIL.__version__,
        },
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "reproducible": (
            "The pictures, their order and the initial weights follow from the seeds, and TensorFlow runs "
            "with deterministic operations: two runs on one machine gave the same file, byte for byte. "
            "Another processor, number of threads or version may round differently and give other weights."
        ),
    }


def write(path: Path, data: bytes) -> None:
    """Replace the content of the file atomically."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    temporary.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the demonstration model and write its card.")
    parser.add_argument("--output", type=Path, default=evaluate.MODEL.parent)
    parser.add_argument(
        "--pictures", type=int, default=Plan().pictures_per_kind, help="of each kind, to train on"
    )
    options = parser.parse_args()
    plan = Plan(pictures_per_kind=options.pictures)
    tf.keras.utils.set_random_seed(plan.seed)
    tf.config.experimental.enable_op_determinism()
    weights = convert(train(plan, draw_training_set(plan)))
    predict = evaluate.predictor(tf.lite.Interpreter(model_content=weights))
    seeds = range(evaluate.HELD_OUT, evaluate.HELD_OUT + plan.held_out_per_kind)
    result = evaluate.evaluate(predict, seeds)
    options.output.mkdir(parents=True, exist_ok=True)
    write(options.output / "model.tflite", weights)
    value = card(plan, weights, result)
    text = yaml.safe_dump(value, sort_keys=False, width=110, default_flow_style=None)
    write(options.output / "model.yaml", text.encode())
    write(options.output / "model.json", read_card(options.output / "model.yaml").card.to_json())
    print(f"{len(weights)} bytes, accuracy {result.accuracy:.4f} on {result.pictures} held-out pictures")


if __name__ == "__main__":
    main()
