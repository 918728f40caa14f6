"""Evidence with one bit flipped proves nothing: what a relay changes is noticed before a picture is sent."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import pytest

from enclave_payload.contents import SALT_BYTES, encode_key_config
from enclave_payload.seal import generate_keys
from enclavectl.client.exchange import new_challenge, verify_evidence
from enclavectl.errors import AttestationError
from enclavectl.net.frames import WireError
from enclavectl.protocol.evidence import Evidence, parse_evidence
from tests.in_process import CARD, attest, expect, new_root

# One bit of each byte of the document, and of every eighth byte of the key configuration, which is hashed as
# a whole. ENCLAVECTL_EVERY_BIT=1 tries every bit, which takes over a minute.
IS_WHOLE = bool(os.environ.get("ENCLAVECTL_EVERY_BIT"))


@pytest.mark.parametrize("bit", range(8) if IS_WHOLE else [None])
def test_no_flipped_bit_of_the_evidence_is_overlooked(bit: int | None) -> None:
    root = new_root()
    expectation, challenge, now = expect(root), new_challenge(), datetime.now(UTC)
    config = encode_key_config(generate_keys().public, CARD, os.urandom(SALT_BYTES))
    document = attest(root, challenge.nonce, config)
    body = Evidence(document, config).to_body()
    verify_evidence(challenge, parse_evidence(body), expectation, now)
    overlooked = []
    end = 2 + len(document)
    for index in range(len(body)) if IS_WHOLE else [*range(end), *range(end, len(body), 8)]:
        flipped = bytearray(body)
        flipped[index] ^= 1 << (index % 8 if bit is None else bit)
        try:
            verify_evidence(challenge, parse_evidence(bytes(flipped)), expectation, now)
        except (AttestationError, WireError):
            continue
        overlooked.append(index)
    assert overlooked == []
