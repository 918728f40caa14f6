"""The simulated hypervisor's Nitro Secure Module: the NSM protocol and documents in AWS's form.

Behind a development root in place of AWS's, everything is as an enclave meets it: requests and
answers in CBOR, sixteen locked registers from the start, error names, limits, and documents whose
bytes differ from AWS's only in names and keys. Protocol:
https://github.com/aws/aws-nitro-enclaves-nsm-api/blob/main/src/api/mod.rs; what answers a malformed
request follows QEMU's hw/virtio/virtio-nsm.c.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import sha384
from typing import TypeAlias

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA384

from enclave_payload import cbor
from enclave_payload.nsm import MAX_REQUEST_BYTES
from enclavectl.backends.local.pki import (
    LEAF_LIFETIME,
    REISSUE_BEFORE,
    DevelopmentRoot,
    Identity,
    issue_intermediate,
    issue_leaf,
)
from enclavectl.errors import UsageError

MAX_MODULE_ID_CHARACTERS = 39  # i-<17 hex>-enc<16 hex>, AWS's form; a CN has room for 64
RANDOM_BYTES = 256

_PCRS = 32
_LOCKED_AT_BOOT = 16
_PCR_BYTES = 48
_SCALAR_BYTES = 48
_PROTECTED = bytes.fromhex("a1013822")  # {1: -35}, ES384
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Clock: TypeAlias = Callable[[], datetime]
_Answer: TypeAlias = "str | dict[str, object]"
_Arguments: TypeAlias = Mapping[int | str, cbor.Value]


class NsmError(StrEnum):
    """The names of NSM's errors that this one can answer with."""

    INVALID_INDEX = "InvalidIndex"
    READ_ONLY_INDEX = "ReadOnlyIndex"
    INVALID_OPERATION = "InvalidOperation"
    INPUT_TOO_LARGE = "InputTooLarge"


class _Refused(Exception):
    def __init__(self, error: NsmError) -> None:
        self.error = error


class SimulatedNsm:
    """The NSM of one enclave. ``handle`` may be called from several threads; calls take turns.

    ``pcrs`` are what was measured at launch, of PCR0 to PCR15; the others are zero. Without PCR0 to
    PCR2 the enclave is a debug one, as with AWS. ``clock`` gives times with a time zone. ``leaf_lifetime`` is
    how long the certificate of its documents is valid.

    Raises:
        UsageError: ``module_id`` or ``pcrs`` could not be those of an enclave.
    """

    def __init__(
        self,
        root: DevelopmentRoot,
        module_id: str,
        pcrs: Mapping[int, bytes],
        clock: Clock,
        *,
        leaf_lifetime: timedelta = LEAF_LIFETIME,
    ) -> None:
        if not 1 <= len(module_id) <= MAX_MODULE_ID_CHARACTERS or not module_id.isascii():
            raise UsageError(f"module id: expected 1 to {MAX_MODULE_ID_CHARACTERS} ASCII characters")
        for index, value in pcrs.items():
            if not 0 <= index < _LOCKED_AT_BOOT or len(value) != _PCR_BYTES:
                raise UsageError(
                    f"PCR{index}: expected {_PCR_BYTES} bytes for an index below {_LOCKED_AT_BOOT}"
                )
        self._root = root
        self._module_id = module_id
        self._pcrs = [pcrs.get(index, bytes(_PCR_BYTES)) for index in range(_PCRS)]
        self._locked = [index < _LOCKED_AT_BOOT for index in range(_PCRS)]
        self._clock = clock
        self._leaf_lifetime = leaf_lifetime
        self._turn = threading.Lock()
        self._intermediate, self._leaf = self._issue(clock())

    def handle(self, request: bytes) -> bytes:
        """Return the answer to one request, of at most 12,288 bytes. Bad requests get an ``Error`` answer."""
        with self._turn:
            try:
                answer = self._answer(request)
            except _Refused as exc:
                answer = {"Error": str(exc.error)}
        return cbor2.dumps(answer)

    def _answer(self, request: bytes) -> _Answer:
        if len(request) > MAX_REQUEST_BYTES:
            raise _Refused(NsmError.INPUT_TOO_LARGE)
        try:
            value = cbor.decode(request, max_bytes=MAX_REQUEST_BYTES)
        except cbor.CborError:
            raise _Refused(NsmError.INVALID_OPERATION) from None
        match value:
            case "DescribeNSM":
                return {"DescribeNSM": self._description()}
            case "GetRandom":
                return {"GetRandom": {"random": secrets.token_bytes(RANDOM_BYTES)}}
            case dict() if len(value) == 1:
                [(command, arguments)] = value.items()
                if isinstance(arguments, dict):
                    return self._command(command, arguments)
        raise _Refused(NsmError.INVALID_OPERATION)

    def _command(self, command: int | str, arguments: _Arguments) -> _Answer:
        match command:
            case "DescribePCR":
                index = self._index(arguments)
                return {"DescribePCR": {"lock": self._locked[index], "data": self._pcrs[index]}}
            case "ExtendPCR":
                return {"ExtendPCR": {"data": self._extend(arguments)}}
            case "LockPCR":
                self._locked[self._unlocked_index(arguments)] = True
                return "LockPCR"
            case "LockPCRs":
                self._lock_range(arguments)
                return "LockPCRs"
            case "Attestation":
                return {"Attestation": {"document": self._document(arguments)}}
        raise _Refused(NsmError.INVALID_OPERATION)

    def _description(self) -> dict[str, object]:
        return {
            "version_major": 1,
            "version_minor": 0,
            "version_patch": 0,
            "module_id": self._module_id,
            "max_pcrs": _PCRS,
            "locked_pcrs": [index for index, locked in enumerate(self._locked) if locked],
            "digest": "SHA384",
        }

    def _index(self, arguments: _Arguments) -> int:
        index = _number(arguments, "index")
        if index >= _PCRS:
            raise _Refused(NsmError.INVALID_INDEX)
        return index

    def _unlocked_index(self, arguments: _Arguments) -> int:
        index = self._index(arguments)
        if self._locked[index]:
            raise _Refused(NsmError.READ_ONLY_INDEX)
        return index

    def _extend(self, arguments: _Arguments) -> bytes:
        data = arguments.get("data")
        if not isinstance(data, bytes):
            raise _Refused(NsmError.INVALID_OPERATION)
        index = self._unlocked_index(arguments)
        self._pcrs[index] = sha384(self._pcrs[index] + data).digest()
        return self._pcrs[index]

    def _lock_range(self, arguments: _Arguments) -> None:
        count = _number(arguments, "range")
        if count > _PCRS:
            raise _Refused(NsmError.INVALID_INDEX)
        self._locked[:count] = [True] * count

    def _document(self, arguments: _Arguments) -> bytes:
        """Return a signed document in AWS's form: indefinite map, AWS's order, null for what is absent."""
        now = self._clock()
        leaf, intermediate = self._current(now)
        fields = {
            "module_id": self._module_id,
            "digest": "SHA384",
            "timestamp": (now - _EPOCH) // timedelta(milliseconds=1),
            "pcrs": {index: pcr for index, pcr in enumerate(self._pcrs) if self._locked[index]},
            "certificate": leaf.certificate_der,
            "cabundle": [self._root.certificate_der, intermediate.certificate_der],
            # Empty byte strings are signed as they come, and lengths are not checked: so does AWS.
            "public_key": _bytes_or_null(arguments, "public_key"),
            "user_data": _bytes_or_null(arguments, "user_data"),
            "nonce": _bytes_or_null(arguments, "nonce"),
        }
        pairs = (cbor2.dumps(name) + cbor2.dumps(value) for name, value in fields.items())
        payload = b"\xbf" + b"".join(pairs) + b"\xff"
        return cbor2.dumps([_PROTECTED, {}, payload, _sign(leaf.key, payload)])

    def _current(self, now: datetime) -> tuple[Identity, Identity]:
        """Return the leaf and its issuer; new ones when the leaf is near its end, or not yet valid."""
        certificate = self._leaf.certificate
        left = certificate.not_valid_after_utc - now
        if left < min(REISSUE_BEFORE, self._leaf_lifetime / 2) or now < certificate.not_valid_before_utc:
            self._intermediate, self._leaf = self._issue(now)
        return self._leaf, self._intermediate

    def _issue(self, now: datetime) -> tuple[Identity, Identity]:
        intermediate = issue_intermediate(self._root, self._module_id, now)
        return intermediate, issue_leaf(intermediate, self._module_id, now, self._leaf_lifetime)


def _sign(key: ec.EllipticCurvePrivateKey, payload: bytes) -> bytes:
    """Return the COSE signature: r and s, big-endian, side by side (RFC 9053 section 2.1)."""
    to_be_signed = cbor2.dumps(["Signature1", _PROTECTED, b"", payload])
    r, s = utils.decode_dss_signature(key.sign(to_be_signed, ec.ECDSA(SHA384())))
    return r.to_bytes(_SCALAR_BYTES) + s.to_bytes(_SCALAR_BYTES)


def _number(arguments: _Arguments, name: str) -> int:
    value = arguments.get(name)
    if type(value) is not int or value < 0:
        raise _Refused(NsmError.INVALID_OPERATION)
    return value


def _bytes_or_null(arguments: _Arguments, name: str) -> bytes | None:
    value = arguments.get(name)
    if value is not None and not isinstance(value, bytes):
        raise _Refused(NsmError.INVALID_OPERATION)
    return value
