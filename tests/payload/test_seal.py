import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_payload.media import MAX_PICTURE_BYTES
from enclave_payload.messages import (
    ANSWER_CIPHERTEXT_BYTES,
    ANSWER_PLAINTEXT_BYTES,
    MAX_CIPHERTEXT_BYTES,
    AnswerKind,
)
from enclave_payload.seal import SealError, SuiteId, generate_keys, pad, request_info, seal_answer, unpad
from enclavectl.protocol.padding import padme
from enclavectl.protocol.sealing import open_answer, seal_request

KEYS = generate_keys()
INFO = request_info(1, bytes(24), bytes(48))
BOTH = pytest.mark.parametrize("suite", list(SuiteId))
# enc of X25519; with ML-KEM-768's ciphertext before it; and the tag of AES-256-GCM.
ENC_BYTES = {SuiteId.X25519: 32, SuiteId.MLKEM768_X25519: 1088 + 32}
REPLY_KEY = bytes(range(32))
REQUEST_ID = bytes(range(24))


@BOTH
@pytest.mark.parametrize("content", [b"", b"x", bytes(1000), b"picture" * 9999])
def test_what_was_sealed_opens(suite: SuiteId, content: bytes) -> None:
    ciphertext = seal_request(suite, KEYS.public[suite], [content], INFO)
    assert len(ciphertext) == ENC_BYTES[suite] + padme(len(content) + 4) + 16
    assert KEYS.open(suite, ciphertext, INFO) == content


@BOTH
def test_the_parts_of_a_request_are_joined(suite: SuiteId) -> None:
    ciphertext = seal_request(suite, KEYS.public[suite], [b"one", b"", b"two"], INFO)
    assert bytes(KEYS.open(suite, ciphertext, INFO)) == b"onetwo"
    assert bytes(KEYS.open(suite, memoryview(ciphertext), INFO)) == b"onetwo"


@BOTH
def test_the_same_content_is_never_sealed_to_the_same_bytes(suite: SuiteId) -> None:
    assert len({seal_request(suite, KEYS.public[suite], [b"x"], INFO) for _ in range(4)}) == 4


@BOTH
def test_another_enclave_cannot_open(suite: SuiteId) -> None:
    ciphertext = seal_request(suite, KEYS.public[suite], [b"x"], INFO)
    with pytest.raises(SealError):
        generate_keys().open(suite, ciphertext, INFO)


@pytest.mark.parametrize("suite", [0, 3, 65535, SuiteId.X25519])
def test_another_suite_does_not_open(suite: int) -> None:
    ciphertext = seal_request(SuiteId.MLKEM768_X25519, KEYS.public[SuiteId.MLKEM768_X25519], [b"x"], INFO)
    with pytest.raises(SealError):
        KEYS.open(suite, ciphertext, INFO)


@BOTH
@pytest.mark.parametrize(
    "info",
    [
        pytest.param(b"", id="none"),
        pytest.param(request_info(2, bytes(24), bytes(48)), id="another suite"),
        pytest.param(request_info(1, b"\1" + bytes(23), bytes(48)), id="another session"),
        pytest.param(request_info(1, bytes(23) + b"\1", bytes(48)), id="another request"),
        pytest.param(request_info(1, bytes(24), bytes(47) + b"\1"), id="another transcript"),
    ],
)
def test_a_request_opens_only_where_it_was_sealed_for(suite: SuiteId, info: bytes) -> None:
    ciphertext = seal_request(suite, KEYS.public[suite], [b"x"], INFO)
    with pytest.raises(SealError):
        KEYS.open(suite, ciphertext, info)


@BOTH
def test_a_request_with_one_flipped_bit_does_not_open(suite: SuiteId) -> None:
    ciphertext = seal_request(suite, KEYS.public[suite], [b"x"], INFO)
    for place in {*range(0, len(ciphertext), 37), len(ciphertext) - 1}:
        changed = bytearray(ciphertext)
        changed[place] ^= 1
        with pytest.raises(SealError):
            KEYS.open(suite, bytes(changed), INFO)


@BOTH
def test_a_request_of_another_length_does_not_open(suite: SuiteId) -> None:
    ciphertext = seal_request(suite, KEYS.public[suite], [b"x"], INFO)
    cuts = {0, 1, ENC_BYTES[suite] - 1, ENC_BYTES[suite], ENC_BYTES[suite] + 15, len(ciphertext) - 1}
    for data in (ciphertext + b"\0", *(ciphertext[:cut] for cut in cuts)):
        with pytest.raises(SealError):
            KEYS.open(suite, data, INFO)


@BOTH
@pytest.mark.parametrize("fill", [b"\0", b"\xff"])
def test_an_encapsulated_key_of_small_order_does_not_open(suite: SuiteId, fill: bytes) -> None:
    with pytest.raises(SealError):
        KEYS.open(suite, fill * (ENC_BYTES[suite] + 100), INFO)


@BOTH
def test_nothing_is_sealed_to_bytes_that_are_no_key(suite: SuiteId) -> None:
    size = len(KEYS.public[suite])
    # Zeros are a valid ML-KEM key and an X25519 point of small order; the others have a wrong length.
    for wrong in (bytes(size), b"", KEYS.public[suite][:-1], KEYS.public[suite] + b"\0", bytes(1184)):
        with pytest.raises(SealError):
            seal_request(suite, wrong, [b"x"], INFO)


def test_public_keys_have_the_sizes_of_the_protocol() -> None:
    assert {suite: len(key) for suite, key in KEYS.public.items()} == {
        SuiteId.MLKEM768_X25519: 1216,
        SuiteId.X25519: 32,
    }


def test_no_two_enclaves_share_a_key() -> None:
    keys = [key for enclave in (KEYS, generate_keys()) for key in enclave.public.values()]
    assert len(set(keys)) == 4
    assert KEYS.public[SuiteId.MLKEM768_X25519][1184:] != KEYS.public[SuiteId.X25519]


@given(st.binary(max_size=ANSWER_PLAINTEXT_BYTES - 4), st.sampled_from(AnswerKind))
def test_every_answer_has_one_size_and_opens(content: bytes, kind: AnswerKind) -> None:
    ciphertext = seal_answer(REPLY_KEY, REQUEST_ID, kind, content)
    assert len(ciphertext) == ANSWER_CIPHERTEXT_BYTES
    assert open_answer(REPLY_KEY, REQUEST_ID, kind, ciphertext) == content


def test_an_answer_that_is_too_long_is_a_bug_and_never_cut() -> None:
    with pytest.raises(ValueError, match="4093 bytes do not fit into 4096"):
        seal_answer(REPLY_KEY, REQUEST_ID, AnswerKind.FINAL, bytes(ANSWER_PLAINTEXT_BYTES - 3))


def test_an_answer_opens_only_with_its_key_for_its_request_and_as_its_kind() -> None:
    final, receipt = AnswerKind.FINAL, AnswerKind.RECEIPT
    ciphertext = seal_answer(REPLY_KEY, REQUEST_ID, final, b"mel")
    for key, this_id, kind in (
        (bytes(32), REQUEST_ID, final),
        (REPLY_KEY, bytes(24), final),
        (REPLY_KEY, REQUEST_ID, receipt),
    ):
        with pytest.raises(SealError):
            open_answer(key, this_id, kind, ciphertext)
    for changed in (b"", ciphertext[:-1], ciphertext + b"\0", b"\0" * len(ciphertext)):
        with pytest.raises(SealError):
            open_answer(REPLY_KEY, REQUEST_ID, final, changed)


def test_the_kinds_of_an_answer_never_share_a_nonce() -> None:
    # Under one key and nonce, GCM would give away the difference of the two plaintexts.
    one, two = (seal_answer(REPLY_KEY, REQUEST_ID, kind, b"same") for kind in AnswerKind)
    assert one[:64] != two[:64]


def test_the_largest_picture_still_fits_into_a_request() -> None:
    assert padme(MAX_PICTURE_BYTES + 1024 + 4) + 1088 + 32 + 16 <= MAX_CIPHERTEXT_BYTES


@given(st.binary(max_size=99), st.integers(0, 99))
def test_padding_comes_off(content: bytes, more: int) -> None:
    padded = pad(len(content) + 4 + more, content)
    assert len(padded) == len(content) + 4 + more
    assert unpad(padded) == content


@given(st.binary(max_size=40))
def test_any_bytes_are_the_one_padding_of_their_content_or_an_error(data: bytes) -> None:
    try:
        content = unpad(data)
    except SealError:
        return
    assert pad(len(data), bytes(content)) == data


@pytest.mark.parametrize(
    "false", ["", "00", "000000", "00000001", "ffffffff00", "00000000 01", "00000001 aa 00 01"]
)
def test_false_padding_is_refused(false: str) -> None:
    with pytest.raises(SealError):
        unpad(bytes.fromhex(false))
