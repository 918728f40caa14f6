"""The schemas of files that people write agree with the parsers that read these files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from enclavectl.attestation.policy_file import parse_policy
from enclavectl.config.load import SECTIONS, SETTINGS, parse_config
from enclavectl.config.schema import CONFIG_FILE
from enclavectl.errors import UsageError
from enclavectl.models.card import parse_model_card
from enclavectl.models.find import PACKAGED_DIR
from tests.schemas.validation import validator_of

ROOT = Path(__file__).resolve().parents[2]
PCR = "ab" * 48
RELEASE = f"{{name: one, pcrs: {{PCR0: '{PCR}', PCR1: '{PCR}', PCR2: '{PCR}'}}}}"
POLICY = f"schema: enclavectl.policy/2\naccept: [nitro]\nreleases: [{RELEASE}]\n"
LABEL = "label: '0123456789abcdef'"
TUPLE = f"pcrs: {{PCR16: '{PCR}'}}"
REVOKED = f"{{{LABEL}, date: '2027-01-31', reason: a leak}}"
CARD = (PACKAGED_DIR / "model.yaml").read_text()


def accepts(name: str, text: str) -> bool:
    return validator_of(name).is_valid(yaml.safe_load(text))


def test_the_default_configuration_file_is_accepted_with_and_without_its_comments() -> None:
    text = (ROOT / "configs" / "enclavectl.yaml").read_text()
    assert accepts(CONFIG_FILE, text)
    assert accepts(CONFIG_FILE, text.replace("#: ", ""))
    assert accepts(CONFIG_FILE, "")


# A value of every kind that YAML has, and the edges of numbers.
VALUES = ("auto", "''", "text", "0", "1", "3", "64", "65", "5005", "-1", "4294967294", "4294967295",
          "16777217", "1.5", "true", "null", "[]", "{}")  # fmt: skip


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("key", [one.key for one in SETTINGS])
def test_a_setting_takes_what_the_configuration_reads(key: str, value: str) -> None:
    section, _, name = key.rpartition(".")
    text = f"{section}:\n  {name}: {value}\n" if section else f"{name}: {value}\n"
    try:
        parse_config(text.encode(), Path("/c.yaml"), environ={"HOME": "/home/ada"})
        is_read = True
    except UsageError:
        is_read = False
    assert accepts(CONFIG_FILE, text) is is_read


@pytest.mark.parametrize("text", ["nonsense: 1", *(f"{name}: {{nonsense: 1}}" for name in SECTIONS), "[]"])
def test_unknown_settings_are_refused_by_both(text: str) -> None:
    assert not accepts(CONFIG_FILE, text)
    with pytest.raises(UsageError):
        parse_config(text.encode(), Path("/c.yaml"), environ={})


POLICY_EDITS = [
    (True, "accept: [nitro]", "accept: [nitro, simulated]"),
    (True, "accept: [nitro]", "accept: [emulated]\nmax_age_s: 60\nclock_skew_s: 0"),
    (True, f"releases: [{RELEASE}]", "unsafe_allow_debug: true"),
    (True, f"releases: [{RELEASE}]", "releases: []\nunsafe_allow_debug: true"),
    (True, f"PCR2: '{PCR}'", f"PCR2: '{PCR.upper()}', PCR31: '{PCR}'"),
    (True, "name: one", "name: one, not_before: '2027-01-31', expires: '2027-02-01T12:00:00Z', notes: ''"),
    (True, "accept: [nitro]", "accept: [nitro]\nrevoked: []"),
    (True, "accept: [nitro]", f"accept: [nitro]\nrevoked: [{REVOKED}]"),
    (True, "accept: [nitro]", f"accept: [nitro]\nrevoked: [{REVOKED.replace('label:', 'name: a, label:')}]"),
    (True, "accept: [nitro]", f"accept: [nitro]\nrevoked: [{REVOKED.replace(LABEL, TUPLE)}]"),
    (False, "name: one", "name: one, expires: tomorrow"),
    (False, "name: one", "name: one, expires: '2027-01-31T12:00:00+01:00'"),
    (False, "name: one", "name: one, notes: [a]"),
    (False, "name: one", f"name: one, notes: '{'a' * 401}'"),
    (False, "accept: [nitro]", "accept: [nitro]\nrevoked: {}"),
    (False, "accept: [nitro]", f"accept: [nitro]\nrevoked: [{REVOKED.replace(LABEL, 'label: one')}]"),
    (False, "accept: [nitro]", f"accept: [nitro]\nrevoked: [{REVOKED.replace(LABEL, 'name: one')}]"),
    (False, "accept: [nitro]", f"accept: [nitro]\nrevoked: [{REVOKED.replace(LABEL, f'{LABEL}, {TUPLE}')}]"),
    (False, "accept: [nitro]", f"accept: [nitro]\nrevoked: [{REVOKED.replace(LABEL, 'pcrs: {}')}]"),
    (False, "accept: [nitro]", f"accept: [nitro]\nrevoked: [{REVOKED.replace('reason', 'why')}]"),
    (False, "accept: [nitro]", f"accept: [nitro]\nrevoked: [{REVOKED.replace('2027-01-31', 'now')}]"),
    (False, "accept: [nitro]", "accept: []"),
    (False, "accept: [nitro]", "accept: [debug]"),
    (False, "accept: [nitro]", "accept: nitro"),
    (False, "accept: [nitro]", ""),
    (False, "policy/2", "policy/1"),
    (False, f"releases: [{RELEASE}]", ""),
    (False, f"releases: [{RELEASE}]", "releases: []"),
    (False, f"releases: [{RELEASE}]", "unsafe_allow_debug: false"),
    (False, f", PCR2: '{PCR}'", ""),
    (False, f"PCR2: '{PCR}'", f"PCR2: '{PCR}', PCR32: '{PCR}'"),
    (False, f"PCR2: '{PCR}'", f"PCR2: '{'0' * 96}'"),
    (False, f"PCR2: '{PCR}'", "PCR2: 'ab'"),
    (False, "name: one", "name: ''"),
    (False, "name: one", "title: one"),
    (False, "accept: [nitro]", "accept: [nitro]\nmax_age_s: 0"),
    (False, "accept: [nitro]", "accept: [nitro]\nmax_age_s: 10801"),
    (False, "accept: [nitro]", "accept: [nitro]\nclock_skew_s: 601"),
    (False, "accept: [nitro]", "accept: [nitro]\nunsafe: true"),
]


@pytest.mark.parametrize(("is_good", "old", "new"), POLICY_EDITS)
def test_a_policy_is_accepted_by_the_schema_if_it_can_be_read(is_good: bool, old: str, new: str) -> None:
    assert old in POLICY
    text = POLICY.replace(old, new)
    assert accepts("policy", text) is is_good
    if is_good:
        parse_policy(text, source="p.yaml")
    else:
        with pytest.raises(UsageError):
            parse_policy(text, source="p.yaml")


FORM: dict[str, Any] = {
    "width": 1,
    "height": 1,
    "fit": "stretch",
    "filter": "box",
    "mean": 0.5,
    "std": 255,
}
RAW: dict[str, Any] = {key: FORM[key] for key in ("width", "height", "fit", "filter")}
MANY = [{"code": f"c{index}", "name": "N"} for index in range(1025)]

CARD_EDITS: list[tuple[bool, dict[str, Any]]] = [
    (True, {}),
    (True, {"source": "somewhere", "license": None}),
    (True, {"labels": [{"code": "a", "name": "A"}, {"code": "b", "name": "B"}]}),
    (True, {"input": {**FORM, "width": 1, "height": 1024, "mean": 0, "std": 1}}),
    (True, {"input": {**FORM, "fit": "crop", "mean": [1, 2, 3], "std": [0.5, 1, 2], "layout": "nchw"}}),
    (True, {"input": {**FORM, "fit": "crop", "crop": 0.875}}),
    (True, {"input": {**FORM, "fit": "pad", "pad": 0, "filter": "sampled"}}),
    (True, {"input": {**RAW, "values": "raw"}}),
    (True, {"output": {"scores": "logits", "unsure_below": 0.6, "top": 64}}),
    (True, {"labels": [{"code": "a", "name": "A"}], "output": {"scores": "sigmoid"}}),
    (True, {"labels": MANY[:1024], "output": {"scores": "softmax", "top": 10}}),
    (True, {"expected": [{"file": "a.png", "label": "nv", "probability": 1, "tolerance": 0.5}]}),
    (False, {"nonsense": 1}),
    (False, {"id": "Demo"}),
    (False, {"schema": "enclavectl.model/1"}),
    (False, {"sha256": "ab"}),
    (False, {"title": ""}),
    (False, {"title": "a" * 201}),
    (False, {"file": "../model.tflite"}),
    (False, {"file": ".."}),
    (False, {"notice": ""}),
    (False, {"labels": [{"code": "a", "name": "A"}]}),
    (False, {"labels": [{"code": "A", "name": "A"}, {"code": "b", "name": "B"}]}),
    (False, {"labels": [["a", "A"], ["b", "B"]]}),
    (False, {"labels": MANY[:65]}),
    (False, {"labels": MANY, "output": {"scores": "softmax", "top": 10}}),
    (False, {"input": {**FORM, "width": 0}}),
    (False, {"input": {**FORM, "width": 1025}}),
    (False, {"input": {**FORM, "std": 0}}),
    (False, {"input": {**FORM, "mean": [1, 2]}}),
    (False, {"input": {**RAW, "mean": 0}}),
    (False, {"input": {**FORM, "values": "raw"}}),
    (False, {"input": {**RAW, "values": "scaled"}}),
    (False, {"input": {**FORM, "fit": "squash"}}),
    (False, {"input": {**FORM, "fit": "pad"}}),
    (False, {"input": {**FORM, "crop": 0.5}}),
    (False, {"input": {**FORM, "fit": "crop", "crop": 0.05}}),
    (False, {"input": {**FORM, "filter": "cubic"}}),
    (False, {"input": {"width": 1, "height": 1, "mean": 0, "std": 1}}),
    (False, {"output": {}}),
    (False, {"output": {"scores": "argmax"}}),
    (False, {"output": {"scores": "softmax", "top": 65}}),
    (False, {"output": {"scores": "softmax", "unsure_below": 1.5}}),
    (False, {"expected": [{"file": "a/b.png", "label": "nv", "probability": 1, "tolerance": 0.5}]}),
]


@pytest.mark.parametrize(("is_good", "edit"), CARD_EDITS)
def test_a_card_is_accepted_by_the_schema_if_it_can_be_read(is_good: bool, edit: dict[str, Any]) -> None:
    text = yaml.safe_dump({**yaml.safe_load(CARD), **edit})
    assert accepts("model", text) is is_good
    if is_good:
        parse_model_card(text.encode(), Path("/m/model.yaml"))
    else:
        with pytest.raises(UsageError):
            parse_model_card(text.encode(), Path("/m/model.yaml"))
