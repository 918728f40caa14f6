"""The receipts that an enclave signs: the byte-exact form, what they say, and of what they say it."""

from __future__ import annotations

import hashlib
import hmac
import pickle
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from enclave_payload import receipt as receipt_module
from enclave_payload.card import MAX_ANSWER_LABELS, PARTS_PER_BILLION
from enclave_payload.cbor import encode
from enclave_payload.contents import Delivery, Outcome, Request, Timings, encode_answer
from enclave_payload.limits import Limits
from enclave_payload.media import MediaType
from enclave_payload.messages import ANSWER_CIPHERTEXT_BYTES, ANSWER_PLAINTEXT_BYTES
from enclave_payload.nsm import NsmError
from enclave_payload.receipt import (
    Claim,
    ReceiptSigner,
    answer_salt,
    answer_statement,
    request_statement,
    sign_claims,
)
from enclave_payload.session import AttestedSession
from enclave_payload.verdict import Problem
from enclavectl.evidence import Receipt, parse_receipt
from enclavectl.evidence.air import check_signature
from tests.evidence import example
from tests.evidence.forged import example_claims
from tests.payload.cards import CARD
from tests.payload.serving import (
    NONCE,
    REGISTERS,
    SALT,
    SIGNER,
    listening,
    opened_content,
    picture_of,
    serving,
)
from tests.payload.test_contents import largest_card

SESSION = AttestedSession(bytes(range(32)), hashlib.sha256(b"document").digest())
REQUEST = Request(picture=b"picture", media_type=MediaType.PNG, reply_key=bytes(32), salt=bytes(range(32)))
OUTCOME = Outcome(
    model_id="m",
    model_sha256="ab" * 32,
    timings=Timings(queue_us=1, decode_us=2, inference_us=3001),
    probabilities_ppb={"a": PARTS_PER_BILLION},
)


def signer(
    registers: Mapping[int, bytes] | None = None, *, is_device: bool = True, is_locked: bool = True
) -> ReceiptSigner:
    known = {0: b"\1" * 48, 1: b"\2" * 48, 2: b"\3" * 48} if registers is None else registers
    return ReceiptSigner(lambda index: (is_locked, known.get(index, bytes(48))), is_device=is_device)


def signed(
    by: ReceiptSigner,
    request: Request = REQUEST,
    outcome: Outcome = OUTCOME,
    session: AttestedSession = SESSION,
) -> Receipt:
    card = replace(CARD, model_id=outcome.model_id, sha256=outcome.model_sha256)
    receipt = parse_receipt(by.sign(by.draft(session, request, card), outcome, outcome.to_cbor()))
    check_signature(receipt, by.public_key)
    return receipt


def test_the_same_claims_give_the_bytes_that_another_implementation_signed() -> None:
    claims = {Claim(int(str(key))): value for key, value in example_claims().items()}
    assert sign_claims(example.KEY, claims) == example.RECEIPT  # type: ignore[arg-type]
    assert hashlib.sha256(example.RECEIPT).hexdigest().startswith("45802ca31957dc54")


def test_negative_keys_and_text_keys_are_sorted_by_their_bytes() -> None:
    """By RFC 8949 section 4.2.1: 1, 24, -1, -25, "a", "b", "aa"; and as another library sorts them."""
    keys: list[int | str] = [1, 24, 256, -1, -25, -257, -65537, "a", "b", "aa"]
    value: dict[int | str, int] = dict.fromkeys(reversed(keys), 0)
    assert list(cbor2.loads(encode(value))) == keys
    assert encode({int(claim): 0 for claim in reversed(Claim)}) == cbor2.dumps(
        {int(claim): 0 for claim in Claim}, canonical=True
    )


def test_a_receipt_says_what_was_asked_answered_and_attested() -> None:
    before = int(time.time())
    receipt = signed(signer())
    assert (receipt.iss, receipt.policy_version) == ("enclavectl", "enclavectl protocol 1")
    assert before <= receipt.iat <= time.time()
    assert receipt.eat_nonce == SESSION.nonce
    assert receipt.attestation_doc_hash == SESSION.document_sha256
    assert (receipt.model_id, receipt.model_hash.hex(), receipt.model_version) == ("m", "ab" * 32, "1")
    assert receipt.model_hash_scheme == "sha256-single"
    asked = request_statement(REQUEST.salt, hashlib.sha256(b"picture").digest(), "image/png")
    assert receipt.request_hash == hashlib.sha256(asked).digest()
    answered = answer_statement(answer_salt(REQUEST.salt), OUTCOME.to_cbor())
    assert receipt.response_hash == hashlib.sha256(answered).digest()
    assert receipt.execution_time_ms == 4  # 3,001 microseconds, rounded up
    assert receipt.memory_peak_mb > 0


def test_no_two_receipts_are_equal_and_they_are_numbered_from_one_in_any_thread() -> None:
    one, session = signer(), AttestedSession(bytes(32), bytes(32))
    found: list[Receipt] = []

    def sign() -> None:
        found.extend(signed(one, session=session) for _ in range(25))

    threads = [threading.Thread(target=sign) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(receipt.sequence_number for receipt in found) == list(range(1, 101))
    assert len({receipt.cti for receipt in found}) == 100


def test_every_boot_has_a_key_of_its_own() -> None:
    assert signer().public_key != signer().public_key
    assert len(signer().public_key) == 32


def test_the_key_shows_in_no_repr_and_nothing_serializes_a_key() -> None:
    assert repr(signer()).startswith("<enclave_payload.receipt.ReceiptSigner object at 0x")
    with pytest.raises(TypeError):
        pickle.dumps(signer())
    folder = Path(receipt_module.__file__).parent
    assert not [path.name for path in folder.glob("*.py") if "private_bytes" in path.read_text()]


@pytest.mark.parametrize(
    ("registers", "is_device", "mode"),
    [
        ({0: b"\1" * 48}, True, "production"),
        ({0: b"\1" * 48}, False, "evaluation"),  # the local backend
        ({3: b"\1" * 48, 4: b"\1" * 48}, True, "evaluation"),  # debug mode leaves PCR3 and PCR4
        ({}, False, "evaluation"),
    ],
)
def test_only_a_measured_enclave_with_a_real_nsm_says_production(
    registers: dict[int, bytes], is_device: bool, mode: str
) -> None:
    assert signed(signer(registers, is_device=is_device)).security_mode == mode


def test_registers_that_are_zero_are_left_out_unless_the_format_wants_them() -> None:
    assert dict(signed(signer({})).pcrs) == dict.fromkeys((0, 1, 2), bytes(48))
    registers = {index: bytes([index + 1]) * 48 for index in (0, 1, 2, 3, 4, 8)}
    assert dict(signed(signer({**registers, 5: b"\5" * 48, 16: b"\6" * 48})).pcrs) == registers


def test_an_nsm_that_describes_nothing_ends_the_boot() -> None:
    def refuse(index: int) -> tuple[bool, bytes]:
        raise NsmError(f"PCR{index}")

    with pytest.raises(NsmError):
        ReceiptSigner(refuse, is_device=True)


def test_the_largest_answer_with_its_receipt_fits() -> None:
    """64 labels with the longest codes, all registers, and the largest numbers."""
    card = replace(largest_card(), labels=largest_card().labels[:MAX_ANSWER_LABELS])
    outcome = Outcome(
        model_id=card.model_id,
        model_sha256="ab" * 32,
        timings=Timings(queue_us=2**64 - 1, decode_us=2**64 - 1, inference_us=2**64 - 1),
        probabilities_ppb={label.code: PARTS_PER_BILLION for label in card.labels},
    )
    registers = {index: bytes([index + 1]) * 48 for index in (0, 1, 2, 3, 4, 8)}
    encoded = outcome.to_cbor()
    by = signer(registers)
    receipt = by.sign(by.draft(SESSION, REQUEST, card), outcome, encoded)
    assert len(card.labels) == 64
    assert len(receipt) <= 900
    assert len(encode_answer(encoded, receipt)) <= ANSWER_PLAINTEXT_BYTES - 4


def test_an_answer_of_a_server_carries_a_receipt_of_its_session(tmp_path: Path) -> None:
    with serving(tmp_path) as server, server.connect() as peer:
        peer.challenge()
        peer.ask(7)
        answer = peer.next_answer()
        content = opened_content(answer)
    assert len(answer.ciphertext) == ANSWER_CIPHERTEXT_BYTES
    assert content.receipt is not None
    receipt = parse_receipt(content.receipt)
    public_key = peer.evidence.document[-32:]
    Ed25519PublicKey.from_public_bytes(public_key)
    assert public_key == SIGNER.public_key
    check_signature(receipt, public_key)
    assert receipt.eat_nonce == NONCE
    assert receipt.attestation_doc_hash == hashlib.sha256(peer.evidence.document).digest()
    assert dict(receipt.pcrs) == REGISTERS
    picture = hashlib.sha256(picture_of((255, 0, 0))).digest()
    asked = request_statement(SALT, picture, "image/png")
    assert receipt.request_hash == hashlib.sha256(asked).digest()
    salt = hmac.digest(SALT, b"enclavectl answer salt v1", "sha256")
    answered = cbor2.dumps({"salt": salt, "outcome": content.outcome}, canonical=True)
    assert receipt.response_hash == hashlib.sha256(answered).digest()


def test_a_problem_gets_no_receipt_and_an_answer_of_the_same_size(tmp_path: Path) -> None:
    with serving(tmp_path) as server, server.connect() as peer:
        peer.challenge()
        peer.send(peer.request_frame(0, b"no picture"))
        refused = peer.next_answer()
        peer.ask(1)
        answered = peer.next_answer()
    assert opened_content(refused).receipt is None
    assert opened_content(answered).receipt is not None
    assert len(refused.ciphertext) == len(answered.ciphertext)


def test_each_session_counts_its_own_receipts_whichever_worker_signs(tmp_path: Path) -> None:
    receipts = []
    with serving(tmp_path, workers=2) as server:
        for _ in range(3):
            with server.connect() as peer:
                peer.challenge()
                for counter in range(4):
                    peer.ask(counter)
                for _ in range(4):
                    content = opened_content(peer.next_answer())
                    assert content.receipt is not None
                    receipts.append(parse_receipt(content.receipt))
    documents = {receipt.attestation_doc_hash for receipt in receipts}
    assert len(documents) == 3
    for document in documents:
        own = sorted(one.sequence_number for one in receipts if one.attestation_doc_hash == document)
        assert own == [1, 2, 3, 4]


def test_what_goes_out_has_the_receipt_of_the_session_that_asked(tmp_path: Path) -> None:
    with listening(tmp_path) as accept, serving(tmp_path) as server, accept() as parent:
        parent.challenge()
        with server.connect() as peer:
            peer.challenge()
            peer.ask(3, delivery=Delivery.OUT)
            peer.next_answer()
            content = opened_content(parent.next_answer())
    assert content.receipt is not None
    document = hashlib.sha256(peer.evidence.document).digest()
    assert parse_receipt(content.receipt).attestation_doc_hash == document


def test_an_answer_for_which_the_outbox_has_no_room_uses_up_no_number(tmp_path: Path) -> None:
    limits = Limits(outbox_answers_per_session=1)
    with serving(tmp_path, limits=limits) as server, server.connect() as peer:
        peer.challenge()
        numbers = []
        for counter, delivery in enumerate((Delivery.HERE, Delivery.OUT, Delivery.OUT, Delivery.HERE)):
            peer.ask(counter, delivery=delivery)
            answer = peer.next_answer()
            if delivery is Delivery.HERE:
                content = opened_content(answer)
                assert content.receipt is not None
                numbers.append(parse_receipt(content.receipt).sequence_number)
            elif counter == 2:
                assert cbor2.loads(opened_content(answer).outcome)["problem"] == Problem.OUTBOX_FULL
    assert numbers[1] == numbers[0] + 2
