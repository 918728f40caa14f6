"""The payload of an attestation document: nine fields and their limits.

This module returns claims. Only ``verify`` turns claims into facts.
Rules: https://github.com/aws/aws-nitro-enclaves-nsm-api/blob/main/docs/attestation_process.md;
comments mark where that text and the documents that AWS signs disagree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

from enclavectl.attestation import cbor
from enclavectl.attestation.codes import AttestationCode, refused
from enclavectl.attestation.cose import MAX_PAYLOAD_BYTES
from enclavectl.errors import AttestationError

PCR_BYTES = 48
PCR_COUNT = 32
MAX_CERTIFICATE_BYTES = 1024
# AWS's text gives 512 in one place and 1024 in another for user_data and nonce (its issue 52); it has
# signed 746 bytes of user_data, so 512 would refuse real documents.
MAX_OPTIONAL_BYTES = 1024
# Certificates. AWS writes four; RFC 5280 chains of other clouds stay below ten. Each one costs a signature
# check.
MAX_CABUNDLE = 10

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MILLISECOND = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1)
_OPTIONAL = frozenset({"public_key", "user_data", "nonce"})
_MANDATORY = frozenset({"module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """The unverified content of a document: the author of the bytes chose every value."""

    module_id: str
    timestamp: datetime
    pcrs: Mapping[int, bytes]
    certificate: bytes
    cabundle: tuple[bytes, ...]
    public_key: bytes | None
    user_data: bytes | None
    nonce: bytes | None

    @property
    def is_debug(self) -> bool:
        """True if the enclave runs in debug mode: PCR0, PCR1 and PCR2 are all zero.

        Other registers do not count: a debug enclave still has its instance in PCR4 and its IAM role in PCR3.
        """
        return is_debug(self.pcrs)


def is_debug(pcrs: Mapping[int, bytes]) -> bool:
    """Return whether these are the registers of an enclave in debug mode."""
    return all(pcrs.get(index) == bytes(PCR_BYTES) for index in (0, 1, 2))


def parse_claims(payload: bytes) -> Claims:
    """Read the claims of a payload, and check the type and the limit of every field.

    Raises:
        AttestationError: ``cbor``, ``nitrotpm``, ``unknown-field`` or ``field``.
    """
    try:
        fields = cbor.decode(payload, max_bytes=MAX_PAYLOAD_BYTES)
    except cbor.CborError as exc:
        raise refused(AttestationCode.CBOR, f"payload: {exc}") from exc
    if not isinstance(fields, dict):
        raise _field("payload", "a map", fields)
    _check_names(fields)
    if fields["digest"] != "SHA384":
        raise _field("digest", "SHA384", fields["digest"])
    module_id = fields["module_id"]
    if not isinstance(module_id, str) or not 1 <= len(module_id) <= 256 or not module_id.isprintable():
        raise _field("module_id", "1 to 256 printable characters", module_id)
    return Claims(
        module_id=module_id,
        timestamp=_timestamp(fields["timestamp"]),
        pcrs=_pcrs(fields["pcrs"]),
        certificate=_bytes(fields["certificate"], "certificate", 1, MAX_CERTIFICATE_BYTES),
        cabundle=_cabundle(fields["cabundle"]),
        # The NSM signs an empty public_key if a request has b"" in place of null. No key has zero bytes, so
        # it counts as absent.
        public_key=_optional(fields, "public_key") or None,
        user_data=_optional(fields, "user_data"),
        nonce=_optional(fields, "nonce"),
    )


def _check_names(fields: Mapping[int | str, cbor.Value]) -> None:
    # NitroTPM documents come from the same root and the same instance certificates. Only the payload
    # distinguishes them from an enclave's, so this check comes first.
    if "nitrotpm_pcrs" in fields:
        raise refused(
            AttestationCode.NITROTPM,
            "document: expected a Nitro Enclave's, found a NitroTPM (EC2 instance) one",
        )
    unknown = fields.keys() - _MANDATORY - _OPTIONAL
    if unknown:
        names = ", ".join(sorted(f"{name!r:.40}" for name in unknown)[:5])
        raise refused(AttestationCode.UNKNOWN_FIELD, f"payload: {names} is no field of this document format")
    missing = _MANDATORY - fields.keys()
    if missing:
        raise refused(AttestationCode.FIELD, f"payload: missing {', '.join(sorted(missing))}")


def _timestamp(value: cbor.Value) -> datetime:
    if type(value) is not int or not 0 < value <= _LAST_MILLISECOND:
        raise _field("timestamp", f"1 to {_LAST_MILLISECOND} ms since 1970", value)
    return _EPOCH + timedelta(milliseconds=value)


def _pcrs(value: cbor.Value) -> Mapping[int, bytes]:
    if not isinstance(value, dict) or not 1 <= len(value) <= PCR_COUNT:
        raise _field("pcrs", f"a map of 1 to {PCR_COUNT} registers", value)
    pcrs: dict[int, bytes] = {}
    for index, register in value.items():
        if type(index) is not int or not 0 <= index < PCR_COUNT:
            raise _field("pcrs", f"indexes 0 to {PCR_COUNT - 1}", index)
        # AWS's text also allows 32 and 64 bytes, for digests that it does not use.
        pcrs[index] = _bytes(register, f"PCR{index}", PCR_BYTES, PCR_BYTES)
    return MappingProxyType(pcrs)


def _cabundle(value: cbor.Value) -> tuple[bytes, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_CABUNDLE:
        raise _field("cabundle", f"1 to {MAX_CABUNDLE} certificates", value)
    return tuple(
        _bytes(item, f"cabundle[{index}]", 1, MAX_CERTIFICATE_BYTES) for index, item in enumerate(value)
    )


def _optional(fields: Mapping[int | str, cbor.Value], name: str) -> bytes | None:
    # AWS writes null for absent fields, although its text says that no field may be null.
    value = fields.get(name)
    return None if value is None else _bytes(value, name, 0, MAX_OPTIONAL_BYTES)


def _bytes(value: cbor.Value, name: str, least: int, most: int) -> bytes:
    if not isinstance(value, bytes) or not least <= len(value) <= most:
        raise _field(name, f"{least} to {most} bytes" if least != most else f"{least} bytes", value)
    return value


def _field(name: str, expected: str, found: cbor.Value) -> AttestationError:
    if isinstance(found, bytes | list | dict):
        text = f"{len(found)} " + {bytes: "bytes", list: "items", dict: "pairs"}[type(found)]
    else:
        text = f"{found!r:.60}"
    return refused(AttestationCode.FIELD, f"{name}: expected {expected}, found {text}")
