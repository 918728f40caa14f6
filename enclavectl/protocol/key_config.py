"""The client's reader of the key configuration, to which the attestation document commits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from enclave_payload.card import MODEL_PCR, CardError, ModelCard, model_register
from enclave_payload.contents import SALT_BYTES, ContentError, key_config_digest
from enclave_payload.messages import MAX_KEY_CONFIG_BYTES, PROTOCOL_VERSION
from enclave_payload.seal import SuiteId
from enclavectl.protocol.card import check_card
from enclavectl.protocol.cbor import Value
from enclavectl.protocol.fields import read_fields

__all__ = [
    "MAX_KEY_CONFIG_BYTES",
    "MODEL_PCR",
    "KeyConfig",
    "ModelCard",
    "key_config_digest",
    "model_register",
    "parse_key_config",
]

_FIELDS = frozenset({"version", "keys", "card", "salt"})


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyConfig:
    """The suites that an enclave offers, with their public keys, and the card of its model."""

    public_keys: Mapping[SuiteId, bytes]
    card: ModelCard


def parse_key_config(data: bytes) -> KeyConfig:
    """Read the key configuration. Verifiers hash the received bytes and never encode them again.

    Raises:
        ContentError: the bytes are not that map, a value is out of bounds, or the card breaks a rule.
    """
    fields = read_fields(data, _FIELDS, max_bytes=MAX_KEY_CONFIG_BYTES)
    version, card, salt = fields["version"], fields["card"], fields["salt"]
    # `type() is int`, because True is an int in Python and is not one in CBOR.
    if type(version) is not int or version != PROTOCOL_VERSION:
        raise ContentError("version")
    if not isinstance(salt, bytes) or len(salt) != SALT_BYTES:
        raise ContentError("salt")
    if not isinstance(card, bytes):
        raise ContentError("card")
    try:
        return KeyConfig(public_keys=_public_keys(fields["keys"]), card=check_card(card))
    except CardError as exc:
        raise ContentError(str(exc)) from exc


def _public_keys(value: Value) -> dict[SuiteId, bytes]:
    if not isinstance(value, dict) or not value:
        raise ContentError("keys")
    public_keys = {}
    for suite, key in value.items():
        if suite not in set(SuiteId) or not isinstance(key, bytes):
            raise ContentError("keys")
        public_keys[SuiteId(int(suite))] = key
    return public_keys
