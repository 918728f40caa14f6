"""A model that cannot serve is told before anything is started, alike by every command."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from tests.e2e.cli import Cli, sample
from tests.models.tflite import Graph

CARD = """schema: enclavectl.model/2
id: logits
title: Logits
file: model.tflite
sha256: {sha256}
input: {{width: 8, height: 8, fit: stretch, filter: bilinear, mean: 127.5, std: 127.5}}
output: {{scores: softmax}}
labels:
- {{code: a, name: A}}
- {{code: b, name: B}}
- {{code: c, name: C}}
notice: A test.
"""


def logits(folder: Path) -> Path:
    graph = Graph()
    image = graph.tensor("image", [1, 8, 8, 3])
    weights = graph.model([image], [graph.dense(graph.mean(image))])
    (folder / "model.tflite").write_bytes(weights)
    (folder / "model.yaml").write_text(CARD.format(sha256=sha256(weights).hexdigest()))
    return folder / "model.yaml"


@pytest.mark.parametrize("command", [["run"], ["diagnose", "--fresh", sample("nv")]], ids=["run", "diagnose"])
def test_a_model_without_a_softmax_starts_nothing(cli: Cli, tmp_path: Path, command: list[str]) -> None:
    error = cli.refused(2, *command, "--model", logits(tmp_path))
    assert error["code"] == "model-logits"
    assert "softmax" in error["hint"]
    assert cli.enclave_folders() == []


def test_model_show_prints_the_card_and_the_verdict(cli: Cli, tmp_path: Path) -> None:
    card = logits(tmp_path)
    ran = cli.run("model", "show", card)
    assert ran.status == 2
    assert "it cannot serve" in ran.out
    assert "expected softmax scores" in ran.err
    ran = cli.run("model", "show", card, "-o", "json")
    assert ran.status == 2
    value = ran.json()
    assert value["id"] == "logits"
    assert value["probe"]["runtime"] is None
    assert value["probe"]["error"]["code"] == "model-logits"
