"""The model in PCR16, as an operator and a client see it."""

from __future__ import annotations

from pathlib import Path

import pytest

from enclave_payload.card import load_card, model_register
from enclavectl.attestation import Policy, Release, Trust, render_policy
from tests.e2e.cli import Cli, sample
from tests.payload.decoders import MODEL_DIR

REGISTER = model_register(load_card(MODEL_DIR).to_json())


def test_what_was_started_is_pinned_and_says_so(cli: Cli, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    cli.ok("run", "--name", "first")
    described = cli.ok("describe", "first", "--policy-file", policy, "-o", "json").json()
    assert described["enclave"]["pcrs"]["16"] == REGISTER.hex()
    assert described["attested"]["model_pinned"] is True
    assert described["attested"]["pcrs"]["16"] == REGISTER.hex()
    assert REGISTER.hex() in policy.read_text()
    assert "model pinned  yes, by PCR16" in cli.ok("describe", "first").out
    choices: tuple[tuple[str | Path, ...], ...] = ((), ("--policy", policy))
    for options in choices:
        answered = cli.ok("diagnose", *options, sample("nv"), "-o", "json").json()
        assert answered["evidence"]["model_pinned"] is True
        assert "model pinned  yes, by PCR16" in cli.ok("diagnose", *options, sample("nv")).out


def test_a_policy_without_the_register_passes_and_the_answer_says_so(cli: Cli, tmp_path: Path) -> None:
    """As one that was made from the lock of an older build."""
    cli.ok("run", "--name", "first")
    pcrs = cli.ok("describe", "first", "-o", "json").json()["enclave"]["pcrs"]
    image = {int(index): bytes.fromhex(value) for index, value in pcrs.items() if index != "16"}
    policy = tmp_path / "policy.yaml"

    def write(registers: dict[int, bytes]) -> None:
        release = Release(name="old", pcrs=registers)
        policy.write_text(render_policy(Policy(accept=frozenset({Trust.SIMULATED}), releases=(release,))))

    write(image)
    answered = cli.ok("diagnose", "--policy", policy, sample("nv"), "-o", "json").json()
    assert answered["evidence"]["model_pinned"] is False
    report = tmp_path / "report.html"
    drawn = cli.ok("diagnose", "--policy", policy, "--report", report, sample("nv")).out
    assert "model pinned  no: PCR16 is not part of the release" in drawn
    assert "no: PCR16 is not part of the release" in report.read_text()
    write({**image, 16: b"\x11" * 48})
    error = cli.refused(4, "diagnose", "--policy", policy, sample("nv"))
    assert error["code"] == "pcr-mismatch"
    assert error["message"].startswith("PCR16: expected 1111111111111111")


def test_in_debug_mode_the_register_is_real_and_proves_nothing(cli: Cli) -> None:
    cli.ok("run", "--debug", "--name", "open")
    described = cli.ok("describe", "open", "-o", "json").json()
    assert described["attested"]["pcrs"]["16"] == REGISTER.hex()
    assert described["attested"]["model_pinned"] is False
    drawn = cli.ok("describe", "open").out
    assert "attested      zeros: debug mode" in drawn
    assert "model pinned  no" in drawn


@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_another_model_has_another_register(cli: Cli, tmp_path: Path, debug: list[str]) -> None:
    folder = tmp_path / "renamed"
    folder.mkdir()
    (folder / "model.tflite").symlink_to(MODEL_DIR / "model.tflite")
    card = (MODEL_DIR / "model.yaml").read_text()
    (folder / "model.yaml").write_text(card.replace("Melanoma", "Mole"))
    ran = cli.ok("run", *debug, "--model", folder, "-o", "json").json()
    assert ran["attested"]["pcrs"]["16"] == ran["enclave"]["pcrs"]["16"] != REGISTER.hex()
