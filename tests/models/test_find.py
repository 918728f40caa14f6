import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_payload.card import MAX_WEIGHTS_BYTES, Label
from enclavectl.errors import UsageError
from enclavectl.models.card import parse_model_card, read_card
from enclavectl.models.find import CARD_NAME, PACKAGED_DIR, PACKAGED_ID, find_model, installed_models
from enclavectl.models.weights import load_weights
from tests.payload.cards import stretched

WEIGHTS = b"these bytes stand for weights; nothing here runs them"
CARD = f"""\
schema: enclavectl.model/2
id: tiny
title: A tiny model
file: weights.bin
sha256: {hashlib.sha256(WEIGHTS).hexdigest()}
input: {{width: 32, height: 16, fit: stretch, filter: bilinear, mean: 127.5, std: 127.5}}
output: {{scores: softmax}}
labels:
  - {{code: no, name: Nothing}}
  - {{code: bcc, name: Basal cell carcinoma}}
notice: >
  This is
  no diagnosis.
"""
EXTRA = "training: {seed: 7, date: 2026-01-02}\nlicense: Apache-2.0\n"


def install(folder: Path, card: str = CARD) -> Path:
    folder.mkdir(parents=True)
    (folder / CARD_NAME).write_text(card)
    (folder / "weights.bin").write_bytes(WEIGHTS)
    return folder


def test_a_card_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.yaml"
    model = parse_model_card((CARD + EXTRA).encode(), path)
    assert (model.card.model_id, model.title, model.card_path) == ("tiny", "A tiny model", path)
    assert model.weights_path == tmp_path / "weights.bin"
    assert model.card.input == stretched(32, 16)
    # "no" is a label and no boolean: YAML 1.2.
    assert model.card.labels == (
        Label(code="no", name="Nothing"),
        Label(code="bcc", name="Basal cell carcinoma"),
    )
    assert model.card.notice == "This is no diagnosis."
    assert model.extra == {"training": {"seed": 7, "date": "2026-01-02"}, "license": "Apache-2.0"}
    shown = json.loads(json.dumps(model.to_json()))
    assert shown["labels"][0] == {"code": "no", "name": "Nothing"}
    assert shown["training"]["seed"] == 7


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("title:", "titel:", r"model.yaml:3: unknown key 'titel'; the nearest known one is 'title'"),
        ("width: 32", "widht: 32", r"model.yaml:6: unknown key 'input.widht'; .*'width'"),
        ("title: A tiny model\n", "", r"lacks title"),
        (
            "model/2",
            "model/3",
            r"model.yaml:1: expected schema enclavectl.model/2, found 'enclavectl.model/3'",
        ),
        ("id: tiny", "id: Tiny!", r"model.yaml: id: expected"),
        ("id: tiny", "id: tiny\nid: tiny", r":3: key 'id' is given twice"),
        (
            "file: weights.bin",
            "file: ../weights.bin",
            r":4: file: expected the name of a file beside the card",
        ),
        ("file: weights.bin", "file: /etc/shadow", r":4: file: expected the name"),
        ("file: weights.bin", "file: ..", r":4: file: expected the name"),
        (
            "file: weights.bin",
            "file: 3",
            r":4: file: expected 1 to 200 printable characters on one line, found 3",
        ),
        ("width: 32", "width: 0", r"input.width: expected 1 to 1024 pixels"),
        ("width: 32, height: 16", "width: 32", r":6: input lacks height"),
        ("std: 127.5", "std: 0", r"input.std: expected positive numbers"),
        ("std: 127.5", "std: 1e999", r":6: expected a number within the range of a double"),
        ("code: no", "code: bcc", r"labels: a code is used twice"),
        ("code: no", "code: 1", r"labels\[0\] code"),
        ("code: no, ", "", r":9: labels: expected \{code: ..., name: ...\}, found"),
        ("name: Nothing", 'name: "\\u202e"', r"labels\[0\] name: expected 1 to 100 printable"),
        ("notice: >", "notice: ''\nsource: >", r"notice: expected 1 to 1000 printable"),
        ("title: A tiny model", 'title: "two\\nlines"', r":3: title: expected 1 to 200 printable"),
    ],
)
def test_what_a_card_may_not_say(old: str, new: str, message: str) -> None:
    assert CARD.count(old) >= 1
    with pytest.raises(UsageError, match=message):
        parse_model_card(CARD.replace(old, new, 1).encode(), Path("/m/model.yaml"))


def test_a_card_that_the_payload_would_refuse_is_refused_here() -> None:
    labels = "".join(f"  - {{code: c{index}, name: {'😀' * 100}}}\n" for index in range(200))
    card = CARD.replace("labels:\n", "labels:\n" + labels).replace("softmax}", "softmax, top: 1}")
    with pytest.raises(UsageError, match="at most 65536 bytes, found"):
        parse_model_card(card.encode(), Path("/m/model.yaml"))
    with pytest.raises(UsageError, match="at most 262144 bytes, found more"):
        parse_model_card(b"#" * 262145, Path("/m/model.yaml"))


def test_a_model_is_found_by_card_by_folder_and_by_id(tmp_path: Path) -> None:
    folder = install(tmp_path / "models" / "tiny")
    expected = read_card(folder / CARD_NAME)
    assert find_model("tiny", data_dir=tmp_path) == expected
    assert find_model(folder, data_dir=tmp_path / "empty") == expected
    assert find_model(str(folder / CARD_NAME), data_dir=tmp_path / "empty") == expected
    assert load_weights(expected) == WEIGHTS


def test_an_unknown_id_names_what_exists(tmp_path: Path) -> None:
    install(tmp_path / "models" / "tiny")
    with pytest.raises(UsageError, match=r"expected one of the models .*tiny; found 'tyni'") as caught:
        find_model("tyni", data_dir=tmp_path)
    assert "model fetch" in (caught.value.hint or "")


def test_paths_that_lead_to_no_card(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such model card"):
        find_model(tmp_path / "absent.yaml", data_dir=tmp_path)
    with pytest.raises(UsageError, match=r"model\.yaml: no such model card"):
        find_model(tmp_path, data_dir=tmp_path)
    with pytest.raises(UsageError, match="expected a model card or its folder, found weights"):
        find_model("./weights.tflite", data_dir=tmp_path)
    for name in ("a\0/b", "x" * 5000 + "/y"):
        with pytest.raises(UsageError, match="cannot read this model card"):
            find_model(name, data_dir=tmp_path)


def test_an_id_and_its_folder_must_agree(tmp_path: Path) -> None:
    install(tmp_path / "models" / "other")
    with pytest.raises(UsageError, match="expected the card of 'other', found id 'tiny'"):
        find_model("other", data_dir=tmp_path)


def test_weights_that_differ_from_the_card_are_refused(tmp_path: Path) -> None:
    folder = install(tmp_path / "m")
    model = read_card(folder / CARD_NAME)
    model.weights_path.write_bytes(WEIGHTS + b"!")
    found = hashlib.sha256(WEIGHTS + b"!").hexdigest()
    with pytest.raises(UsageError, match=rf"expected SHA-256 {model.card.sha256} .* found {found}"):
        load_weights(model)
    with model.weights_path.open("wb") as file:
        file.truncate(MAX_WEIGHTS_BYTES + 1)
    with pytest.raises(UsageError, match="at most 67108864 bytes, found more"):
        load_weights(model)
    model.weights_path.unlink()
    with pytest.raises(UsageError, match="no such weights file"):
        load_weights(model)


def test_the_packaged_model_cannot_be_shadowed(tmp_path: Path) -> None:
    if not (PACKAGED_DIR / CARD_NAME).exists():
        pytest.skip("the packaged model is not in this tree")
    install(tmp_path / "models" / PACKAGED_ID)
    model = find_model(PACKAGED_ID, data_dir=tmp_path)
    assert model.card_path.parent == PACKAGED_DIR
    assert model.card == read_card(model.card_path).card
    assert load_weights(model)


def test_installed_models_are_those_with_a_card(tmp_path: Path) -> None:
    install(tmp_path / "models" / "tiny")
    (tmp_path / "models" / "half").mkdir()
    assert installed_models(tmp_path)["tiny"] == tmp_path / "models" / "tiny" / CARD_NAME
    assert "half" not in installed_models(tmp_path)
    assert "tiny" not in installed_models(tmp_path / "absent")


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: (CARD + text).encode()))
def test_any_bytes_are_a_model_or_a_usage_error(data: bytes) -> None:
    try:
        model = parse_model_card(data, Path("/m/model.yaml"))
    except UsageError:
        return
    assert model.weights_path == Path("/m/weights.bin")
