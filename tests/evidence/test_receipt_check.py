"""A receipt and the document that vouches for it: whatever does not fit is refused with its code."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import timedelta

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from enclave_payload.card import Label, ModelCard, model_register
from enclave_payload.contents import encode_key_config, key_config_digest
from enclave_payload.seal import SuiteId
from enclavectl.attestation import ArchivedDocument, Trust, VerifiedDocument, examine_archived
from enclavectl.evidence import ReceiptError, check_receipt, parse_receipt
from enclavectl.protocol.receipts import Claim
from tests.evidence import example
from tests.evidence.forged import example_claims, measured, with_claims, with_payload
from tests.forge import NONCE, NOW, PCRS, RELEASE, Blueprint, EnclaveForge, accepting
from tests.payload.cards import SOFTMAX, stretched

CARD = ModelCard(
    model_id="demo-synthetic-lesions",
    sha256="ab" * 32,
    input=stretched(4, 4, "0", "1"),
    output=SOFTMAX,
    labels=(Label(code="bcc", name="B"), Label(code="mel", name="M")),
    notice="Not a diagnosis.",
)
KEY_CONFIG = encode_key_config({SuiteId.X25519: bytes(32)}, CARD, bytes(16))
REGISTERS = {f"pcr{index}": PCRS[index] for index in (0, 1, 2, 8)}


@dataclass(frozen=True)
class Session:
    """A genuine session document, and what fits it."""

    document: ArchivedDocument | VerifiedDocument
    raw: bytes

    def check(self, receipt: bytes, key_config: bytes = KEY_CONFIG) -> None:
        check_receipt(
            parse_receipt(receipt), document=self.document, document_bytes=self.raw, key_config=key_config
        )

    def receipt(self, changes: dict[Claim, object] | None = None, *, without: Claim | None = None) -> bytes:
        return with_claims(self.claims() | (changes or {}), without=without)

    def claims(self) -> dict[Claim, object]:
        return {
            Claim.IAT: int(NOW.timestamp()) + 5,
            Claim.EAT_NONCE: NONCE,
            Claim.ATTESTATION_DOC_HASH: hashlib.sha256(self.raw).digest(),
            Claim.SECURITY_MODE: "evaluation",
            **measured(**REGISTERS),
        }

    def refused(self, receipt: bytes, key_config: bytes = KEY_CONFIG) -> str:
        with pytest.raises(ReceiptError) as caught:
            self.check(receipt, key_config)
        assert caught.value.exit_code == 4
        return caught.value.code


@pytest.fixture(scope="module")
def forge() -> EnclaveForge:
    return EnclaveForge()


def forged_with(forge: EnclaveForge, pcrs: dict[int, bytes]) -> bytes:
    """A session document with other registers."""

    def edit(plan: Blueprint) -> None:
        plan.set("public_key", example.PUBLIC_KEY)
        plan.set("user_data", key_config_digest(KEY_CONFIG))
        plan.set("pcrs", pcrs)

    return forge.forged(edit)


def session_of(forge: EnclaveForge, raw: bytes) -> Session:
    return Session(examine_archived(raw, accepting(RELEASE), root=forge.root), raw)


@pytest.fixture(scope="module")
def session(forge: EnclaveForge) -> Session:
    user_data = key_config_digest(KEY_CONFIG)
    return session_of(forge, forge.genuine(user_data=user_data, public_key=example.PUBLIC_KEY))


def test_a_receipt_that_fits_its_document_passes(session: Session) -> None:
    session.check(session.receipt())


def test_it_passes_in_the_live_session_as_well(forge: EnclaveForge, session: Session) -> None:
    live = forge.verify(session.raw, user_data=key_config_digest(KEY_CONFIG))
    Session(live, session.raw).check(session.receipt())


def test_another_document_of_the_same_enclave_and_session_key_is_refused(
    forge: EnclaveForge, session: Session
) -> None:
    user_data = key_config_digest(KEY_CONFIG)
    other = forge.genuine(user_data=user_data, public_key=example.PUBLIC_KEY, nonce=bytes(32))
    assert session_of(forge, other).refused(session.receipt()) == "document-mismatch"


def test_a_document_that_was_encoded_again_is_another(forge: EnclaveForge, session: Session) -> None:
    """A tag in front changes no claim, but the receipt names bytes."""
    assert session_of(forge, b"\xd2" + session.raw).refused(session.receipt()) == "document-mismatch"


@pytest.mark.parametrize("key", [None, b"", bytes(31), b"x" * 33, b"\1" + bytes(31)], ids=repr)
def test_a_document_without_a_receipt_key_is_refused(forge: EnclaveForge, key: bytes | None) -> None:
    raw = forge.genuine(user_data=key_config_digest(KEY_CONFIG), public_key=key)
    other = session_of(forge, raw)
    assert other.refused(other.receipt()) == "no-receipt-key"


def test_a_receipt_of_another_key_is_refused(forge: EnclaveForge) -> None:
    key = bytes.fromhex("197f6b23e16c8532c6abc838facd5ea789be0c76b2920334039bfa8b3d368d61")
    other = session_of(forge, forge.genuine(user_data=key_config_digest(KEY_CONFIG), public_key=key))
    assert other.refused(other.receipt()) == "receipt-signature"


@pytest.mark.parametrize("name", REGISTERS)
def test_another_register_is_refused(session: Session, name: str) -> None:
    changed = measured(**{**REGISTERS, name: b"\xff" * 48})
    assert session.refused(session.receipt(changed)) == "receipt-pcrs"


def test_a_register_that_the_document_lacks_is_refused(forge: EnclaveForge) -> None:
    raw = forged_with(forge, {index: PCRS[index] for index in (0, 1, 2)})
    other = Session(examine_archived(raw, None, root=forge.root), raw)
    assert other.refused(other.receipt()) == "receipt-pcrs"


def test_a_receipt_need_not_have_every_register_of_the_document(session: Session) -> None:
    session.check(session.receipt(measured(**{**REGISTERS, "pcr8": None})))


def test_a_receipt_of_another_platform_is_said_to_be_one(session: Session) -> None:
    registers = {**REGISTERS, "pcr8": None, "measurement_type": "tdx-mrtd-rtmr"}
    assert session.refused(session.receipt(measured(**registers))) == "not-nitro"


@pytest.mark.parametrize("nonce", [bytes(32), NONCE[:31], NONCE + b"\0"])
def test_the_nonce_of_another_session_is_refused(session: Session, nonce: bytes) -> None:
    assert session.refused(session.receipt({Claim.EAT_NONCE: nonce})) == "receipt-nonce"


def test_no_nonce_is_refused(session: Session) -> None:
    assert session.refused(session.receipt(without=Claim.EAT_NONCE)) == "receipt-nonce"


def test_no_nonce_in_both_is_refused(forge: EnclaveForge) -> None:
    raw = forge.genuine(nonce=None, user_data=key_config_digest(KEY_CONFIG), public_key=example.PUBLIC_KEY)
    other = session_of(forge, raw)
    assert other.refused(other.receipt(without=Claim.EAT_NONCE)) == "receipt-nonce"


def test_the_key_configuration_of_another_session_is_refused(session: Session) -> None:
    other = encode_key_config({SuiteId.X25519: bytes(32)}, CARD, b"\1" * 16)
    assert session.refused(session.receipt(), other) == "receipt-key-config"


def test_a_key_configuration_that_cannot_be_read_is_refused_although_attested(forge: EnclaveForge) -> None:
    raw = forge.genuine(user_data=key_config_digest(b"x"), public_key=example.PUBLIC_KEY)
    other = session_of(forge, raw)
    assert other.refused(other.receipt(), b"x") == "receipt-key-config"


@pytest.mark.parametrize(
    "changes", [{Claim.MODEL_ID: "another"}, {Claim.MODEL_HASH: b"\xac" * 32}], ids=["id", "hash"]
)
def test_another_model_than_the_attested_card_s_is_refused(
    session: Session, changes: dict[Claim, object]
) -> None:
    assert session.refused(session.receipt(changes)) == "receipt-model"


def with_model_register(forge: EnclaveForge, register: bytes) -> Session:
    return session_of(forge, forged_with(forge, {**PCRS, 16: register}))


def test_a_document_with_the_model_s_register_must_have_the_card_s(forge: EnclaveForge) -> None:
    right = with_model_register(forge, model_register(CARD.to_json()))
    right.check(right.receipt())
    wrong = with_model_register(forge, model_register(replace(CARD, notice="Another.").to_json()))
    assert wrong.refused(wrong.receipt()) == "receipt-model"


@pytest.mark.parametrize("seconds", [-119, 0, 3 * 3600, 3 * 3600 + 119])
def test_a_time_for_which_the_document_vouches_passes(session: Session, seconds: int) -> None:
    not_after = session.document.chain[-1].not_after
    start = session.document.timestamp if seconds <= 0 else not_after - timedelta(hours=3)
    at = int((start + timedelta(seconds=seconds)).timestamp())
    session.check(session.receipt({Claim.IAT: at}))


def test_a_time_before_the_document_is_refused(session: Session) -> None:
    at = int(session.document.timestamp.timestamp()) - 121
    assert session.refused(session.receipt({Claim.IAT: at})) == "receipt-time"


@pytest.mark.parametrize("late", [121, 253_402_300_799 - int(NOW.timestamp()) - 4 * 3600])
def test_a_time_after_the_leaf_is_refused(session: Session, late: int) -> None:
    at = int(session.document.chain[-1].not_after.timestamp()) + late
    assert session.refused(session.receipt({Claim.IAT: at})) == "receipt-time"


@pytest.mark.parametrize(
    ("trust", "mode", "is_refused"),
    [
        (Trust.NITRO, "production", False),
        (Trust.NITRO, "evaluation", True),
        (Trust.DEBUG, "production", True),
        (Trust.DEBUG, "evaluation", False),
        (Trust.EMULATED, "production", False),
        (Trust.EMULATED, "evaluation", False),
        (Trust.SIMULATED, "production", False),
        (Trust.SIMULATED, "evaluation", False),
    ],
)
def test_the_mode_must_be_one_that_the_trust_allows(
    session: Session, trust: Trust, mode: str, is_refused: bool
) -> None:
    assert isinstance(session.document, ArchivedDocument)
    other = Session(replace(session.document, trust=trust), session.raw)
    receipt = session.receipt({Claim.SECURITY_MODE: mode})
    if is_refused:
        assert other.refused(receipt) == "receipt-mode"
    else:
        other.check(receipt)


def test_the_first_broken_rule_gives_the_code(session: Session) -> None:
    everything: dict[Claim, object] = {
        Claim.ATTESTATION_DOC_HASH: bytes(32),
        Claim.EAT_NONCE: bytes(32),
        Claim.MODEL_ID: "another",
        Claim.IAT: 1,
    }
    order = ["document-mismatch", "receipt-nonce", "receipt-model", "receipt-time"]
    for code in order:
        assert session.refused(session.receipt(everything)) == code
        everything.pop(next(iter(everything)))
    session.check(session.receipt(everything))


def test_a_receipt_signed_by_another_key_over_the_same_claims_is_refused(session: Session) -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    claims = {int(str(label)): value for label, value in example_claims().items()}
    claims |= {int(label): value for label, value in session.claims().items()}
    payload = cbor2.dumps(claims, canonical=True)
    session.check(with_payload(payload))
    assert session.refused(with_payload(payload, key)) == "receipt-signature"
