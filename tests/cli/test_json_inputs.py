"""JSON outputs hold for odd inputs as well: one object of its schema, and the exit code of the text."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from enclave_payload.cbor import Value
from enclavectl.attestation.policy_file import render_policy
from tests.cli.command import COMMAND
from tests.cli.policies import REGISTERS, lock_of
from tests.evidence.sessions import POLICY, session_evidence
from tests.forge import EnclaveForge
from tests.in_process import gray_png
from tests.schemas.validation import check_output
from tests.weights.sealing import sealed_in

ESCAPES = "a\n\x1b[31m\u202eb"


def not_utf8(folder: Path) -> list[bytes]:
    """A picture whose name is Latin-1, and which is none."""
    (folder / os.fsdecode(b"m\xfcller.png")).write_bytes(b"no picture")
    return [b"diagnose", b"m\xfcller.png"]


def control_characters(folder: Path) -> list[bytes]:
    (folder / ESCAPES).write_bytes(session_evidence(EnclaveForge()).to_bytes())
    return [b"verify", ESCAPES.encode(), b"--no-policy"]


def odd_names_in_a_policy(folder: Path) -> list[bytes]:
    odd = replace(POLICY.releases[0], name='"é" \U0001f600 {[<&', notes="'\\u0000 %s")
    (folder / "p.yaml").write_text(render_policy(replace(POLICY, releases=(odd,))))
    return [b"policy", b"show", b"p.yaml"]


def a_folder_of_nothing(folder: Path) -> list[bytes]:
    (folder / "empty").mkdir()
    return [b"diagnose", b"empty"]


def a_picture_named_as_an_option(folder: Path) -> list[bytes]:
    (folder / "-dash.png").write_bytes(gray_png(1))
    return [b"diagnose", b"-dash.png"]


def a_word_of_another_tool(_folder: Path) -> list[bytes]:
    return [b"ps"]


def a_schema_of_nobody(_folder: Path) -> list[bytes]:
    return [b"schema", b"\xff\xfe"]


def a_document_for_a_policy(folder: Path) -> list[bytes]:
    (folder / "doc").write_bytes(EnclaveForge().genuine())
    return [b"policy", b"check", b"doc"]


def a_state_folder_of_others(folder: Path) -> list[bytes]:
    (folder / "state").mkdir(mode=0o777)
    (folder / "state").chmod(0o777)
    return [b"history"]


def a_file_for_a_folder(folder: Path) -> list[bytes]:
    (folder / "parts").write_bytes(b"")
    (folder / "e.json").write_bytes(session_evidence(EnclaveForge()).to_bytes())
    return [b"receipt", b"extract", b"e.json", b"--to", b"parts"]


def a_lock_of_another_tool(folder: Path) -> list[bytes]:
    (folder / "package-lock.json").write_text('{"lockfileVersion": 3, "big": 1e400}')
    return [b"lock", b"show", b"package-lock.json"]


def a_sealed_model_of_a_hostile_owner(folder: Path) -> list[bytes]:
    kms: dict[int | str, Value] = {"key": "k", "blob": b"b", "context": {ESCAPES: "PCR16"}}
    sealed_in(folder, release={"kms": kms, "owner": ESCAPES})
    return [b"model", b"show", b"m.sealed"]


def a_lock_of_a_hostile_builder(folder: Path) -> list[bytes]:
    odd = {ESCAPES: ESCAPES}
    lock = lock_of(REGISTERS)
    lock = replace(lock, image={**lock.image, "base": {}}, blobs=odd, tools=odd, allowed=odd)
    (folder / "l.json").write_bytes(lock.to_bytes())
    return [b"lock", b"show", b"--lock", b"l.json"]


INPUTS: list[Callable[[Path], list[bytes]]] = [
    not_utf8,
    control_characters,
    odd_names_in_a_policy,
    a_folder_of_nothing,
    a_picture_named_as_an_option,
    a_word_of_another_tool,
    a_schema_of_nobody,
    a_document_for_a_policy,
    a_state_folder_of_others,
    a_file_for_a_folder,
    a_lock_of_another_tool,
    a_lock_of_a_hostile_builder,
    a_sealed_model_of_a_hostile_owner,
]


def ran(folder: Path, *arguments: bytes) -> subprocess.CompletedProcess[bytes]:
    environ = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder),
        "ENCLAVECTL_STATE_DIR": str(folder / "state"),
        "ENCLAVECTL_BACKEND": "local",
    }
    return subprocess.run(
        [os.fsencode(COMMAND), *arguments],
        cwd=folder,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("make", INPUTS, ids=lambda make: make.__name__)
def test_it_is_one_object_of_its_schema_with_the_exit_code_of_the_text(
    tmp_path: Path, make: Callable[[Path], list[bytes]]
) -> None:
    arguments = make(tmp_path)
    as_text = ran(tmp_path, *arguments)
    as_json = ran(tmp_path, *arguments, b"--output", b"json")
    assert as_json.returncode == as_text.returncode, as_json.stderr
    text = as_json.stdout.decode()
    value = json.loads(text)
    check_output(text)
    assert "\x1b" not in text
    text.encode()
    assert isinstance(value, dict)
    assert ("error" in value and value["error"] is not None) or as_json.returncode in (0, 5)
    for found in (as_text.stdout, as_text.stderr, as_json.stderr):
        assert b"Traceback" not in found
        assert b"\x1b[31m" not in found
