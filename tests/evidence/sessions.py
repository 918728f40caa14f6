"""Evidence of sessions with a simulated enclave that this process plays, at a time of the test's choice."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from typing import Any

from enclave_payload.contents import SALT_BYTES, encode_key_config, key_config_digest
from enclave_payload.seal import generate_keys
from enclavectl.attestation import Policy
from enclavectl.attestation.policy_file import render_policy
from enclavectl.evidence.file import EvidenceFile, RootName
from enclavectl.evidence.verification import Case, Waiver
from enclavectl.protocol.key_config import MODEL_PCR
from tests.forge import NONCE, NOW, PCRS, RELEASE, Blueprint, EnclaveForge, accepting
from tests.in_process import CARD

KEY_CONFIG = encode_key_config(generate_keys().public, CARD, bytes(SALT_BYTES))
LATER = NOW + timedelta(seconds=1)
POLICY = accepting(RELEASE)


def session_evidence(
    forge: EnclaveForge, *, nonce: bytes = NONCE, key_config: bytes = KEY_CONFIG
) -> EvidenceFile:
    """What a client keeps of a session with the forge's enclave."""
    text = render_policy(POLICY)
    return EvidenceFile(
        document=forge.genuine(nonce=nonce, user_data=key_config_digest(key_config)),
        key_config=key_config,
        nonce=nonce,
        requested_at=NOW,
        root=RootName.of(forge.root),
        policy_sha256=sha256(text.encode()).hexdigest(),
        policy=text,
    )


def measured_evidence(forge: EnclaveForge, register: bytes) -> EvidenceFile:
    """The same of an enclave whose PCR16 holds ``register``."""
    evidence = session_evidence(forge)
    registers = {index: bytes(48) for index in range(16)} | PCRS | {MODEL_PCR: register}

    def edit(plan: Blueprint) -> None:
        plan.set("pcrs", registers)
        plan.set("user_data", key_config_digest(KEY_CONFIG))

    return replace(evidence, document=forge.forged(edit))


def archived_case(forge: EnclaveForge, evidence: EvidenceFile, policy: Policy | None = POLICY) -> Case:
    """Judge an evidence file at its document's own time."""
    return Case(
        document=evidence.document,
        root=forge.root,
        policy=policy,
        at=Waiver.DOCUMENT_TIME,
        nonce=Waiver.NO_NONCE,
        evidence=evidence,
        receipts=evidence.receipts,
    )


def edited(
    evidence: EvidenceFile, edit: Callable[[dict[str, Any]], object], *, rehash: bool = False
) -> bytes:
    """The evidence file after ``edit`` of its members; with ``rehash`` as a careful forger leaves it."""
    members = json.loads(evidence.to_bytes())
    edit(members)
    if rehash:
        rest = {key: value for key, value in members.items() if key != "content_sha256"}
        text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
        members["content_sha256"] = sha256(text.encode()).hexdigest()
    return json.dumps(members).encode()


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()
