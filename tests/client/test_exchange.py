from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from enclave_payload.card import ModelCard, model_register
from enclave_payload.contents import (
    SALT_BYTES,
    Delivery,
    Outcome,
    Request,
    Timings,
    encode_key_config,
    parse_request,
)
from enclave_payload.media import MediaType
from enclave_payload.messages import parse_sealed, request_id
from enclave_payload.seal import EnclaveKeys, SuiteId, generate_keys, request_info
from enclave_payload.wire import FrameReader, FrameType
from enclavectl.backends.local.pki import DevelopmentRoot
from enclavectl.client.exchange import (
    Expectation,
    VerifiedEnclave,
    new_challenge,
    new_request,
    seal_picture,
    verify_evidence,
)
from enclavectl.client.pictures import Picture
from enclavectl.errors import AttestationError
from enclavectl.protocol.evidence import Challenge, Evidence
from enclavectl.protocol.requests import sealed_frame
from tests.in_process import CARD, MODULE_ID, PCRS, attest, expect, new_root

PICTURE = Picture("a.png", MediaType.PNG, b"\x89PNG\r\n\x1a\n and the rest")
OUTCOME = Outcome(
    model_id=CARD.model_id,
    model_sha256=CARD.sha256,
    timings=Timings(queue_us=1, decode_us=2, inference_us=3),
    probabilities_ppb={"dark": 1, "light": 999_999_999},
)


def verified(public_keys: dict[SuiteId, bytes]) -> VerifiedEnclave:
    """An enclave that attested to ``public_keys``, through the real verifier."""
    return verified_config(encode_key_config(public_keys, CARD, bytes(SALT_BYTES)))


def verified_config(key_config: bytes) -> VerifiedEnclave:
    root = new_root()
    challenge = new_challenge()
    document = attest(root, challenge.nonce, key_config)
    evidence = Evidence(document, key_config)
    return verify_evidence(challenge, evidence, expect(root), datetime.now(UTC))


@pytest.fixture(scope="module")
def keys() -> EnclaveKeys:
    return generate_keys()


@pytest.fixture(scope="module")
def enclave(keys: EnclaveKeys) -> VerifiedEnclave:
    return verified(dict(keys.public))


def test_the_verified_enclave_carries_what_was_attested(enclave: VerifiedEnclave, keys: EnclaveKeys) -> None:
    assert enclave.card == CARD
    assert dict(enclave.config.public_keys) == dict(keys.public)
    assert enclave.document.trust == "simulated"
    assert enclave.suite() is SuiteId.MLKEM768_X25519


@pytest.mark.parametrize("suite", list(SuiteId))
@pytest.mark.parametrize("delivery", list(Delivery))
def test_a_picture_sealed_with_either_suite_is_what_the_enclave_opens(
    keys: EnclaveKeys, suite: SuiteId, delivery: Delivery
) -> None:
    enclave = verified({suite: keys.public[suite]})
    pending = new_request(enclave, 7, PICTURE)
    reader = FrameReader({FrameType.SEALED: 10_000})
    reader.feed(sealed_frame(seal_picture(enclave, pending, PICTURE, delivery)))
    frame = reader.next_frame()
    assert frame is not None
    sealed = parse_sealed(frame.body)
    assert (sealed.counter, sealed.suite) == (7, suite)
    assert PICTURE.data not in bytes(frame.body)
    info = request_info(suite, request_id(enclave.session_id, 7), enclave.transcript)
    assert parse_request(keys.open(suite, sealed.ciphertext, info)) == Request(
        picture=PICTURE.data,
        media_type=MediaType.PNG,
        reply_key=pending.reply_key,
        salt=pending.salt,
        delivery=delivery,
    )


def test_the_session_s_name_follows_from_the_nonce_so_that_nobody_else_can_choose_it(
    keys: EnclaveKeys,
) -> None:
    """Everything but the client's nonce is repeated, as a relay can repeat it."""
    root, key_config = new_root(), encode_key_config(keys.public, CARD, bytes(SALT_BYTES))
    sessions = set()
    for _ in range(5):
        challenge = new_challenge()
        document = attest(root, challenge.nonce, key_config)
        evidence = Evidence(document, key_config)
        sessions.add(verify_evidence(challenge, evidence, expect(root), datetime.now(UTC)).session_id)
    assert len(sessions) == 5


def pinned_evidence(
    keys: EnclaveKeys, root: DevelopmentRoot, challenge: Challenge, pinned: ModelCard | None
) -> Evidence:
    """Of an enclave that says that it has ``CARD``, and has pinned something."""
    key_config = encode_key_config(keys.public, CARD, bytes(SALT_BYTES))
    return Evidence(attest(root, challenge.nonce, key_config, pinned=pinned), key_config)


def test_a_card_that_is_not_the_measured_one_is_refused(keys: EnclaveKeys) -> None:
    """By one letter of the notice, and with a policy that pins no model."""
    root, challenge, now = new_root(), new_challenge(), datetime.now(UTC)
    honest = pinned_evidence(keys, root, challenge, CARD)
    assert verify_evidence(challenge, honest, expect(root), now).card == CARD
    other = replace(CARD, notice=CARD.notice + "!")
    with pytest.raises(AttestationError, match="PCR16: expected ") as caught:
        verify_evidence(challenge, pinned_evidence(keys, root, challenge, other), expect(root), now)
    assert caught.value.code == "model-register"
    assert model_register(CARD.to_json()).hex()[:16] in caught.value.message
    assert model_register(other.to_json()).hex()[:16] in caught.value.message


def test_a_model_is_pinned_where_the_release_says_so(keys: EnclaveKeys) -> None:
    root, challenge, now = new_root(), new_challenge(), datetime.now(UTC)
    evidence = pinned_evidence(keys, root, challenge, CARD)
    without = verify_evidence(challenge, evidence, expect(root), now)
    assert not without.document.model_pinned
    pinning = expect(root, {**PCRS, 16: model_register(CARD.to_json())})
    assert verify_evidence(challenge, evidence, pinning, now).document.model_pinned


def test_an_image_that_pins_no_model_passes_a_policy_that_asks_for_none(keys: EnclaveKeys) -> None:
    root, challenge, now = new_root(), new_challenge(), datetime.now(UTC)
    evidence = pinned_evidence(keys, root, challenge, None)
    found = verify_evidence(challenge, evidence, expect(root), now)
    assert 16 not in found.document.pcrs
    assert not found.document.model_pinned
    pinning = expect(root, {**PCRS, 16: model_register(CARD.to_json())})
    with pytest.raises(AttestationError) as caught:
        verify_evidence(challenge, evidence, pinning, now)
    assert caught.value.code == "pcr-missing"


def judged(expectation: Expectation, root: DevelopmentRoot, keys: EnclaveKeys) -> VerifiedEnclave:
    challenge = new_challenge()
    key_config = encode_key_config(keys.public, CARD, bytes(SALT_BYTES))
    document = attest(root, challenge.nonce, key_config)
    return verify_evidence(challenge, Evidence(document, key_config), expectation, datetime.now(UTC))


def test_another_enclave_of_the_same_image_is_not_the_one_that_is_meant(keys: EnclaveKeys) -> None:
    root = new_root()
    assert judged(replace(expect(root), module_id=MODULE_ID), root, keys).document.module_id == MODULE_ID
    other = f"{MODULE_ID[:-1]}0"
    with pytest.raises(AttestationError, match=f"expected {other}, found {MODULE_ID}") as caught:
        judged(replace(expect(root), module_id=other), root, keys)
    assert caught.value.code == "other-enclave"


@pytest.mark.parametrize(
    "wanted",
    [
        replace(CARD, sha256="cd" * 32),
        replace(CARD, labels=(CARD.labels[0], replace(CARD.labels[1], name="Harmless"))),
        replace(CARD, notice="A diagnosis."),
    ],
)
def test_the_attested_card_must_be_that_of_the_model_that_is_meant(
    keys: EnclaveKeys, wanted: ModelCard
) -> None:
    root = new_root()
    assert judged(replace(expect(root), card=CARD), root, keys).card == CARD
    with pytest.raises(AttestationError, match="found brightness with abababab") as caught:
        judged(replace(expect(root), card=wanted), root, keys)
    assert caught.value.code == "other-model"


def test_every_request_has_an_id_and_a_key_of_its_own(enclave: VerifiedEnclave) -> None:
    requests = [new_request(enclave, counter, PICTURE) for counter in range(20)]
    assert len({one.request_id for one in requests}) == 20
    assert len({one.reply_key for one in requests} | {one.salt for one in requests}) == 40


def test_a_pending_answer_does_not_show_its_key(enclave: VerifiedEnclave) -> None:
    pending = new_request(enclave, 1, PICTURE)
    assert pending.reply_key.hex() not in repr(pending)
    assert repr(pending.reply_key) not in repr(pending)


@pytest.mark.parametrize("suite", list(SuiteId))
@pytest.mark.parametrize("key", [b"", b"short", bytes(31), bytes(5000)])
def test_an_attested_key_that_is_no_key_is_an_attestation_error(suite: SuiteId, key: bytes) -> None:
    enclave = verified({suite: key})
    with pytest.raises(AttestationError, match="the attested public key is no key") as info:
        seal_picture(enclave, new_request(enclave, 0, PICTURE), PICTURE, Delivery.HERE)
    assert info.value.code == "key-config"


@pytest.mark.parametrize("config", [b"\xa0", b"garbage", b"\x00" * 100])
def test_an_attested_configuration_that_is_none_is_an_attestation_error(config: bytes) -> None:
    with pytest.raises(AttestationError, match="attested, but not of protocol version 1") as info:
        verified_config(config)
    assert info.value.code == "key-config"
