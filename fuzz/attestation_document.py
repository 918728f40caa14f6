"""Invariant: any bytes are refused with AttestationError, or are this session's genuine document.

Bytes also go straight to the inner parsers, which a signature would otherwise keep them from.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import cbor2

from enclavectl.attestation import Policy, Release, Trust, TrustRoot, verify
from enclavectl.attestation.chain import walk_chain
from enclavectl.attestation.cose import parse_cose
from enclavectl.attestation.document import parse_claims
from enclavectl.backends.local.nsm import SimulatedNsm
from enclavectl.backends.local.pki import DevelopmentRoot
from enclavectl.errors import AttestationError

_NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
_NONCE = bytes(32)
_USER_DATA = bytes(48)
_PCRS = {index: bytes([index + 1]) * 48 for index in range(3)}
_ROOT = DevelopmentRoot.create(_NOW - timedelta(days=1))
_TRUST_ROOT = TrustRoot(certificate_der=_ROOT.certificate_der, trust=Trust.SIMULATED, name="fuzz")
_POLICY = Policy(accept=frozenset({Trust.SIMULATED}), releases=(Release(name="fuzz", pcrs=_PCRS),))


def _document(pcrs: dict[int, bytes]) -> bytes:
    nsm = SimulatedNsm(_ROOT, "i-0123456789abcdef0-enc0123456789abcdef", pcrs, lambda: _NOW)
    request = {"Attestation": {"nonce": _NONCE, "user_data": _USER_DATA, "public_key": None}}
    document = cbor2.loads(nsm.handle(cbor2.dumps(request)))["Attestation"]["document"]
    assert isinstance(document, bytes)
    return document


_GENUINE = _document(_PCRS)
_ENVELOPE = parse_cose(_GENUINE)
_CLAIMS = parse_claims(_ENVELOPE.payload)

SEEDS: list[bytes] = [
    _GENUINE,
    _document({}),
    b"\xd2" + _GENUINE,
    _ENVELOPE.payload,
    _CLAIMS.certificate,
    *_CLAIMS.cabundle,
    b"",
]


def one(data: bytes) -> None:
    now = _NOW + timedelta(seconds=1)
    with suppress(AttestationError):
        verified = verify(data, _POLICY, root=_TRUST_ROOT, nonce=_NONCE, user_data=_USER_DATA, now=now)
        # Only the envelope is malleable: a tag in front, the form of its heads, and s for n - s.
        assert parse_cose(data).payload == _ENVELOPE.payload
        assert verified.release == "fuzz"
    with suppress(AttestationError):
        parse_claims(data)
    with suppress(AttestationError):
        walk_chain(_CLAIMS.cabundle, data, _TRUST_ROOT)
        assert data == _CLAIMS.certificate
    with suppress(AttestationError):
        walk_chain((_CLAIMS.cabundle[0], data), _CLAIMS.certificate, _TRUST_ROOT)
        assert data == _CLAIMS.cabundle[1]
