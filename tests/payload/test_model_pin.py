"""The model's register at boot: every way in which pinning can fail ends the process before a key exists."""

from __future__ import annotations

import socket
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha384
from pathlib import Path

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_payload.card import MODEL_PCR, model_commitment, model_register
from enclave_payload.key_holder import pin_model
from enclave_payload.nsm import Nsm, NsmError
from enclave_payload.zygote import _load
from enclavectl.attestation.cose import parse_cose
from enclavectl.attestation.document import parse_claims
from enclavectl.backends.local.nsm import SimulatedNsm
from tests.in_process import MODULE_ID, PCRS, new_root
from tests.payload.cards import CARD

ROOT = new_root()
COMMITMENT, REGISTER = model_commitment(CARD.to_json()), model_register(CARD.to_json())
OPEN = {"DescribePCR": {"lock": False, "data": bytes(48)}}
EXTENDED = {"ExtendPCR": {"data": REGISTER}}
PINNED = {"DescribePCR": {"lock": True, "data": REGISTER}}
SOUND: list[object] = [OPEN, EXTENDED, "LockPCRs", PINNED]


def fresh() -> SimulatedNsm:
    return SimulatedNsm(ROOT, MODULE_ID, PCRS, lambda: datetime.now(UTC))


def ask(nsm: SimulatedNsm, request: object) -> object:
    return cbor2.loads(nsm.handle(cbor2.dumps(request)))


def saying(responses: list[object], requests: list[bytes] | None = None) -> Callable[[bytes], bytes]:
    """An NSM that gives these responses, one after the other, and then refuses."""
    left = iter(responses)

    def transact(request: bytes) -> bytes:
        if requests is not None:
            requests.append(request)
        return cbor2.dumps(next(left, {"Error": "InvalidOperation"}))

    return transact


def refusal(transact: Callable[[bytes], bytes]) -> str:
    """The one line with which the process ends."""
    with pytest.raises(SystemExit) as caught:
        pin_model(Nsm(transact), CARD)
    assert isinstance(caught.value.code, str), "text: the interpreter prints it and exits with 1"
    assert "\n" not in caught.value.code
    prefix = "enclave_payload: the model cannot be pinned: "
    assert caught.value.code.startswith(prefix)
    return caught.value.code.removeprefix(prefix)


def test_documents_have_the_register_and_nobody_can_move_it() -> None:
    nsm = fresh()
    pin_model(Nsm(nsm.handle), CARD)
    document = Nsm(nsm.handle).attest(nonce=b"n", user_data=b"u", public_key=b"k")
    pcrs = parse_claims(parse_cose(document).payload).pcrs
    assert pcrs[MODEL_PCR] == REGISTER
    assert set(pcrs) == set(range(32)), "all are locked"
    assert {pcrs[index] for index in range(17, 32)} == {bytes(48)}
    for index in range(16, 32):
        assert ask(nsm, {"ExtendPCR": {"index": index, "data": b"x"}}) == {"Error": "ReadOnlyIndex"}


def test_the_requests_are_those_of_nsm_api_in_this_order() -> None:
    requests: list[bytes] = []
    pin_model(Nsm(saying(SOUND, requests)), CARD)
    describe = bytes.fromhex("a1 6b4465736372696265504352 a1 65696e646578 10")
    extend = bytes.fromhex("a1 69457874656e64504352 a2 6464617461 5830") + COMMITMENT
    assert requests == [
        describe,
        extend + bytes.fromhex("65696e646578 10"),
        bytes.fromhex("a1 684c6f636b50435273 a1 6572616e6765 1820"),
        describe,
    ]


def test_a_locked_register_is_not_taken_for_the_models() -> None:
    nsm = fresh()
    ask(nsm, {"LockPCR": {"index": MODEL_PCR}})
    assert refusal(nsm.handle) == "PCR16: expected it open and zero, but something has used it before"


def test_a_register_that_was_extended_is_not_extended_again() -> None:
    nsm = fresh()
    ask(nsm, {"ExtendPCR": {"index": MODEL_PCR, "data": b"x"}})
    before = ask(nsm, {"DescribePCR": {"index": MODEL_PCR}})
    assert refusal(nsm.handle) == "PCR16: expected it open and zero, but something has used it before"
    assert ask(nsm, {"DescribePCR": {"index": MODEL_PCR}}) == before


def test_another_model_that_was_pinned_before_ends_the_start() -> None:
    nsm = fresh()
    Nsm(nsm.handle).pin(MODEL_PCR, b"other", sha384(bytes(48) + b"other").digest())
    assert "used it before" in refusal(nsm.handle)


@pytest.mark.parametrize(
    ("step", "response", "line"),
    [
        (0, {"DescribePCR": {"lock": True, "data": bytes(48)}}, "PCR16: expected it open and zero"),
        (0, {"DescribePCR": {"lock": False, "data": bytes(47)}}, "DescribePCR: the response does not"),
        (0, {"DescribePCR": {"lock": False, "data": REGISTER}}, "PCR16: expected it open and zero"),
        (0, {"DescribePCR": {"lock": 0, "data": bytes(48)}}, "DescribePCR: the response does not"),
        (0, {"DescribePCR": {"data": bytes(48)}}, "DescribePCR: the response does not"),
        (0, {"DescribePCR": {"lock": False, "data": "0" * 48}}, "DescribePCR: the response does not"),
        (0, "DescribePCR", "DescribePCR: the response does not"),
        (0, {"Error": "InvalidIndex"}, "DescribePCR: the NSM says InvalidIndex"),
        (1, {"ExtendPCR": {"data": bytes(48)}}, "PCR16: the NSM extended it to another value"),
        (1, {"ExtendPCR": {"data": COMMITMENT}}, "PCR16: the NSM extended it to another value"),
        (1, {"ExtendPCR": {"data": None}}, "PCR16: the NSM extended it to another value"),
        (1, {"ExtendPCR": {}}, "ExtendPCR: the response has no data"),
        (1, {"Error": "ReadOnlyIndex"}, "ExtendPCR: the NSM says ReadOnlyIndex"),
        (2, {"Error": "InvalidOperation"}, "LockPCRs: the NSM says InvalidOperation"),
        (2, "LockPCR", "LockPCRs: the response does not say"),
        (2, {"LockPCRs": None}, "LockPCRs: the response does not say"),
        (2, None, "LockPCRs: the response does not say"),
        (3, {"DescribePCR": {"lock": False, "data": REGISTER}}, "PCR16: expected it locked"),
        (3, {"DescribePCR": {"lock": True, "data": COMMITMENT}}, "PCR16: expected it locked"),
        (3, OPEN, "PCR16: expected it locked"),
        (3, {"Error": "InternalError"}, "DescribePCR: the NSM says InternalError"),
    ],
)
def test_an_nsm_that_says_something_else_ends_the_start(step: int, response: object, line: str) -> None:
    said = refusal(saying([*SOUND[:step], response, *SOUND[step + 1 :]]))
    assert said.startswith(line), said
    assert REGISTER.hex()[:16] not in said


def test_nothing_is_asked_for_after_a_wrong_answer() -> None:
    for step in range(4):
        requests: list[bytes] = []
        refusal(saying([*SOUND[:step], {"Error": "InternalError"}, *SOUND[step + 1 :]], requests))
        assert len(requests) == step + 1


@given(st.lists(st.binary(max_size=80), min_size=4, max_size=4), st.integers(0, 3))
def test_no_garbage_pins(garbage: list[bytes], step: int) -> None:
    """From ``step`` on the NSM answers garbage."""
    answers = iter([*map(cbor2.dumps, SOUND[:step]), *garbage])
    with pytest.raises(NsmError):
        Nsm(lambda _: next(answers)).pin(MODEL_PCR, COMMITMENT, REGISTER)


def test_no_weights_are_parsed_before_the_key_holder_says_so(tmp_path: Path) -> None:
    """Its end is told from its word: there is no model in the folder, which reading would report."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        ours.close()
        assert _load(tmp_path, theirs) is None
