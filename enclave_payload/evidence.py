"""The enclave's answer to a challenge: keys, card and a fresh salt, and the NSM's document over them."""

from __future__ import annotations

import os
from typing import NamedTuple

from enclave_payload.card import ModelCard
from enclave_payload.contents import SALT_BYTES, encode_key_config, key_config_digest
from enclave_payload.nsm import Attester
from enclave_payload.receipt import ReceiptSigner
from enclave_payload.seal import EnclaveKeys
from enclave_payload.session import EnclaveSession


class EvidenceParts(NamedTuple):
    """What evidence is made of."""

    keys: EnclaveKeys
    signer: ReceiptSigner
    attester: Attester
    card: ModelCard

    def answer(self, session: EnclaveSession, nonce: bytes) -> bytes:
        """Return the evidence frame that opens ``session``.

        Raises:
            NsmError: there is no document.
        """
        key_config = encode_key_config(self.keys.public, self.card, os.urandom(SALT_BYTES))
        document = self.attester.attest(
            nonce=nonce, user_data=key_config_digest(key_config), public_key=self.signer.public_key
        )
        return session.evidence(document, key_config)
