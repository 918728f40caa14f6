"""The answer of KMS: both of its forms are read, and every other is one and the same error."""

import random

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from enclave_payload.cms import MAX_CMS_BYTES, NotForUsError, open_cms
from tests.payload.kms_answers import kms_answer, kms_answer_of

KEY = rsa.generate_private_key(65537, 2048)
OTHER = rsa.generate_private_key(65537, 2048)
SECRET = bytes(range(32))


def test_the_answer_has_the_size_of_the_real_one_and_opens() -> None:
    answer = kms_answer(KEY.public_key(), SECRET)
    assert len(answer) == 493
    assert open_cms(answer, KEY) == SECRET


def test_the_primitive_form_of_the_content_opens_too() -> None:
    answer = kms_answer(KEY.public_key(), b"sixteen bytes.", is_primitive=True)
    assert open_cms(answer, KEY) == b"sixteen bytes."


def refused(answer: bytes) -> str:
    with pytest.raises(NotForUsError) as caught:
        open_cms(answer, KEY)
    return repr(caught.value)


def test_padding_structure_and_key_cannot_be_told_apart() -> None:
    """No oracle: whatever is wrong, there is one error without a word in it."""
    good = kms_answer(KEY.public_key(), SECRET)
    wrong = [
        kms_answer(OTHER.public_key(), SECRET),
        kms_answer_of(KEY.public_key(), bytes(47) + b"\x11"),
        kms_answer_of(KEY.public_key(), bytes(47) + b"\0"),
        kms_answer_of(KEY.public_key(), b""),
        good[:-1],
        good + b"\0",
        good[:2] + good[4:],
        b"",
        b"\x30\x80" * 3000,
        bytes(MAX_CMS_BYTES + 1),
    ]
    assert {refused(answer) for answer in wrong} == {"NotForUsError()"}


def test_no_mutation_makes_another_error() -> None:
    good = bytearray(kms_answer(KEY.public_key(), SECRET))
    source = random.Random(16)
    for _ in range(400):
        mutated = bytearray(good)
        for _ in range(source.choice((1, 1, 2, 8))):
            mutated[source.randrange(len(mutated))] = source.randrange(256)
        try:
            opened = open_cms(bytes(mutated), KEY)
        except NotForUsError:
            continue
        # The recipient's identifier is read over; CBC without a MAC lets other bits through.
        assert len(opened) <= 48


def test_deep_nesting_is_refused_and_costs_little() -> None:
    refused(b"\x30\x80" * 500 + b"\0\0" * 500)
    refused(b"\x30\x82\xff\xff")
    refused(b"\x30\x84\0\0\0\x02\x05\0")
    refused(b"\x1f\x01\x00")
    refused(b"\x04\x80\x00\x00")
