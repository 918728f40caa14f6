"""One bit changed anywhere in kept evidence is refused, with the code of the first broken step."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from enclave_payload.contents import key_config_digest
from enclavectl.attestation.policy_file import render_policy
from enclavectl.cli.verify_inputs import CaseFiles, PolicyChoice, read_case
from enclavectl.evidence import EvidenceFile, KeptReceipt, Verification, examine
from enclavectl.evidence.file import EvidenceError, parse_evidence_file
from enclavectl.evidence.verification import unreadable
from tests.evidence import example
from tests.evidence.sessions import KEY_CONFIG, POLICY, archived_case, session_evidence
from tests.evidence.test_receipts_in_verification import PICTURE, receipt_for, statements
from tests.forge import EnclaveForge

FORGE = EnclaveForge()
DOCUMENT = FORGE.genuine(user_data=key_config_digest(KEY_CONFIG), public_key=example.PUBLIC_KEY)
EVIDENCE = replace(
    session_evidence(FORGE),
    document=DOCUMENT,
    receipts=(KeptReceipt(receipt=receipt_for(DOCUMENT), **statements()),),
    lock_sha256="ab" * 32,
)
MEMBERS = [*json.loads(EVIDENCE.to_bytes())]
POSITIONS = 24  # of each value, from its first byte to its last


def flipped(data: bytes) -> Iterator[bytes]:
    """Yield ``data`` with one bit changed: at some positions, each bit in turn."""
    for number in range(POSITIONS):
        changed = bytearray(data)
        changed[number * (len(data) - 1) // (POSITIONS - 1)] ^= 1 << number % 8
        yield bytes(changed)


def judge(folder: Path, data: bytes) -> Verification:
    """Judge an evidence file as the command does, with the verifier's own policy, root and picture."""
    (folder / "evidence.json").write_bytes(data)
    (folder / "policy.yaml").write_text(render_policy(POLICY))
    (folder / "root.pem").write_bytes(FORGE.development_root.certificate_pem)
    (folder / "picture").write_bytes(PICTURE)
    found = read_case(
        CaseFiles(
            file=folder / "evidence.json",
            document=None,
            picture=folder / "picture",
            root=folder / "root.pem",
            policy=PolicyChoice(policy=folder / "policy.yaml", lock=None, is_waived=False),
            nonce=None,
            at="document",
        )
    )
    return unreadable(found) if isinstance(found, EvidenceError) else examine(found)


def test_without_a_change_it_is_verified(tmp_path: Path) -> None:
    assert judge(tmp_path, EVIDENCE.to_bytes()).verified


@pytest.mark.parametrize("key", MEMBERS)
def test_a_bit_of_the_file_is_found_by_its_hash(tmp_path: Path, key: str) -> None:
    """In the name of each member, in its value, and in what stands around both."""
    data = EVIDENCE.to_bytes()
    starts = [*(data.index(f'  "{one}":'.encode()) for one in MEMBERS), len(data)]
    start, end = starts[MEMBERS.index(key)], starts[MEMBERS.index(key) + 1]
    for part in flipped(data[start:end]):
        if json_of(changed := data[:start] + part + data[end:]) == json_of(data):
            continue  # another kind of space between two members
        verification = judge(tmp_path, changed)
        assert verification.error is not None
        assert (verification.error.code, verification.error.exit_code) == ("evidence-file", 4)
        assert [check.id for check in verification.checks if check.ok is not None] == ["file"]


def json_of(data: bytes) -> object:
    try:
        return json.loads(data)
    except ValueError:
        return data


def with_receipt(name: str, data: bytes) -> EvidenceFile:
    [receipt] = EVIDENCE.receipts
    return replace(EVIDENCE, receipts=(replace(receipt, **{name: data}),))


# The forger's change of one value, and the steps that may be the first to break.
FORGED: dict[str, tuple[bytes, Callable[[bytes], EvidenceFile], set[str]]] = {
    "document": (
        EVIDENCE.document,
        lambda data: replace(EVIDENCE, document=data),
        {"envelope", "payload", "chain", "validity", "signature"},
    ),
    "key_config": (EVIDENCE.key_config, lambda data: replace(EVIDENCE, key_config=data), {"user-data"}),
    "nonce": (EVIDENCE.nonce, lambda data: replace(EVIDENCE, nonce=data), {"nonce"}),
    "root": (
        bytes.fromhex(EVIDENCE.root.sha256),
        lambda data: replace(EVIDENCE, root=replace(EVIDENCE.root, sha256=data.hex())),
        {"file"},
    ),
    "receipt": (
        EVIDENCE.receipts[0].receipt,
        lambda data: with_receipt("receipt", data),
        {"receipt"},
    ),
    **{
        name: (data, lambda data, name=name: with_receipt(name, data), {"receipt"})  # type: ignore[misc]
        for name, data in statements().items()
    },
}


@pytest.mark.parametrize("name", FORGED)
def test_a_bit_that_a_forger_hashed_anew_breaks_the_step_that_vouches_for_it(name: str) -> None:
    original, make, steps = FORGED[name]
    assert make(original) == EVIDENCE
    for data in flipped(original):
        evidence = parse_evidence_file(make(data).to_bytes())
        verification = examine(replace(archived_case(FORGE, evidence), picture=PICTURE))
        failed = verification.failed
        assert verification.error is not None
        assert failed is not None
        assert failed.id in steps
        assert verification.error.exit_code == 4
        position = verification.checks.index(failed)
        assert all(check.ok is not False for check in verification.checks[:position])
        assert all(check.ok is None for check in verification.checks[position + 1 :])
