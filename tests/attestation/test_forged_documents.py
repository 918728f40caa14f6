"""Forged documents: one attack per rule on the envelope, the payload, the policy and the session."""

from __future__ import annotations

from collections.abc import Callable

import cbor2
import pytest

from enclavectl.attestation import AttestationCode
from enclavectl.errors import AttestationError
from tests.forge import NOW, PCRS, Blueprint, EnclaveForge, Raw, encode

Code = AttestationCode
Edit = Callable[[Blueprint], object]


def pcrs_with(*pairs: tuple[object, object]) -> Raw:
    return Raw(bytes((0xA0 | len(pairs),)) + b"".join(encode(key) + encode(value) for key, value in pairs))


def alg_only_unprotected(plan: Blueprint) -> None:
    plan.protected = b"\xa0"
    plan.unprotected = {1: -35}


FORGERIES: dict[str, tuple[Edit, Code]] = {
    # Envelope
    "alg -7": (lambda p: setattr(p, "protected", bytes.fromhex("a10126")), Code.COSE_ALGORITHM),
    "alg as text": (lambda p: setattr(p, "protected", cbor2.dumps({1: "ES384"})), Code.COSE_ALGORITHM),
    "alg twice": (lambda p: setattr(p, "protected", bytes.fromhex("a2013822013822")), Code.COSE_ALGORITHM),
    "alg and kid": (lambda p: setattr(p, "protected", cbor2.dumps({1: -35, 4: b"k"})), Code.COSE_ALGORITHM),
    "alg and crit": (lambda p: setattr(p, "protected", cbor2.dumps({1: -35, 2: [1]})), Code.COSE_ALGORITHM),
    "no alg": (lambda p: setattr(p, "protected", b""), Code.COSE_ALGORITHM),
    "alg only unprotected": (alg_only_unprotected, Code.COSE_STRUCTURE),
    "alg as map": (lambda p: setattr(p, "protected", {1: -35}), Code.COSE_STRUCTURE),
    "unprotected kid": (lambda p: setattr(p, "unprotected", {4: b"k"}), Code.COSE_STRUCTURE),
    "unprotected list": (lambda p: setattr(p, "unprotected", []), Code.COSE_STRUCTURE),
    "signed header differs": (lambda p: setattr(p, "signed_protected", b"\xa1\x01\x26"), Code.SIGNATURE),
    # Payload
    "no module_id": (lambda p: p.drop("module_id"), Code.FIELD),
    "empty module_id": (lambda p: p.set("module_id", ""), Code.FIELD),
    "module_id bytes": (lambda p: p.set("module_id", b"i-1"), Code.FIELD),
    "module_id with escape": (lambda p: p.set("module_id", "i-1\x1b[2J"), Code.FIELD),
    "no digest": (lambda p: p.drop("digest"), Code.FIELD),
    "digest SHA512": (lambda p: p.set("digest", "SHA512"), Code.FIELD),
    "no timestamp": (lambda p: p.drop("timestamp"), Code.FIELD),
    "timestamp 0": (lambda p: p.set("timestamp", 0), Code.FIELD),
    "timestamp true": (lambda p: p.set("timestamp", True), Code.FIELD),
    "timestamp negative": (lambda p: p.set("timestamp", -1), Code.FIELD),
    "timestamp 2^63": (lambda p: p.set("timestamp", 1 << 63), Code.FIELD),
    "timestamp 2^64": (lambda p: p.set("timestamp", 1 << 64), Code.CBOR),
    "timestamp float": (lambda p: p.set("timestamp", NOW.timestamp() * 1000), Code.CBOR),
    "no pcrs": (lambda p: p.drop("pcrs"), Code.FIELD),
    "empty pcrs": (lambda p: p.set("pcrs", {}), Code.FIELD),
    "33 pcrs": (lambda p: p.set("pcrs", dict.fromkeys(range(33), bytes(48))), Code.FIELD),
    "pcr 32": (lambda p: p.set("pcrs", PCRS | {32: bytes(48)}), Code.FIELD),
    "pcr -1": (lambda p: p.set("pcrs", PCRS | {-1: bytes(48)}), Code.FIELD),
    "pcr as text": (lambda p: p.set("pcrs", {"0": PCRS[0]}), Code.FIELD),
    "pcr of 32 bytes": (lambda p: p.set("pcrs", PCRS | {3: bytes(32)}), Code.FIELD),
    "pcr empty": (lambda p: p.set("pcrs", PCRS | {3: b""}), Code.FIELD),
    "pcrs array": (lambda p: p.set("pcrs", list(PCRS.values())), Code.FIELD),
    "pcr twice": (lambda p: p.set("pcrs", pcrs_with((0, bytes(48)), *PCRS.items())), Code.CBOR),
    "pcr 0 and false": (lambda p: p.set("pcrs", pcrs_with((0, bytes(48)), (False, PCRS[0]))), Code.CBOR),
    "pcr 1 and true": (lambda p: p.set("pcrs", pcrs_with((True, bytes(48)), *PCRS.items())), Code.CBOR),
    "pcr 0 and 0.0": (lambda p: p.set("pcrs", pcrs_with((0.0, bytes(48)), *PCRS.items())), Code.CBOR),
    "pcr 0 in two widths": (
        lambda p: p.set("pcrs", pcrs_with((Raw(b"\x18\x00"), bytes(48)), *PCRS.items())), Code.CBOR),
    "no certificate": (lambda p: p.drop("certificate"), Code.FIELD),
    "empty certificate": (lambda p: p.set("certificate", b""), Code.FIELD),
    "certificate of 1025 bytes": (lambda p: p.set("certificate", bytes(1025)), Code.FIELD),
    "certificate null": (lambda p: p.set("certificate", Raw(b"\xf6")), Code.FIELD),
    "no cabundle": (lambda p: p.drop("cabundle"), Code.FIELD),
    "empty cabundle": (lambda p: p.set("cabundle", []), Code.FIELD),
    "cabundle as bytes": (lambda p: p.set("cabundle", p.root), Code.FIELD),
    "cabundle null": (lambda p: p.set("cabundle", Raw(b"\xf6")), Code.FIELD),
    "pcrs null": (lambda p: p.set("pcrs", Raw(b"\xf6")), Code.FIELD),
    "cabundle as map": (lambda p: p.set("cabundle", {0: p.root}), Code.FIELD),
    "cabundle of text": (lambda p: p.set("cabundle", ["root"]), Code.FIELD),
    "cabundle of 11": (lambda p: p.set("cabundle", [bytes(9)] * 11), Code.FIELD),
    "empty certificate in cabundle": (lambda p: p.set("cabundle", [p.root, b""]), Code.FIELD),
    "public_key of 1025 bytes": (lambda p: p.set("public_key", bytes(1025)), Code.FIELD),
    "public_key text": (lambda p: p.set("public_key", "key"), Code.FIELD),
    "user_data of 1025 bytes": (lambda p: p.set("user_data", bytes(1025)), Code.FIELD),
    "nonce of 1025 bytes": (lambda p: p.set("nonce", bytes(1025)), Code.FIELD),
    "nonce false": (lambda p: p.set("nonce", False), Code.FIELD),
    "unknown field": (lambda p: p.fields.append(("extra", 1)), Code.UNKNOWN_FIELD),
    "integer field": (lambda p: p.fields.append((1, 1)), Code.UNKNOWN_FIELD),
    "nonce twice": (lambda p: p.fields.append(("nonce", b"n" * 32)), Code.CBOR),
    "nitrotpm": (lambda p: p.fields.append(("nitrotpm_pcrs", PCRS)), Code.NITROTPM),
    "nitrotpm in place of pcrs": (
        lambda p: setattr(p, "fields", [("nitrotpm_pcrs" if k == "pcrs" else k, v) for k, v in p.fields]),
        Code.NITROTPM),
    # Policy
    "debug": (lambda p: p.set("pcrs", dict.fromkeys(range(3), bytes(48)) | {4: b"\4" * 48}), Code.DEBUG_MODE),
    "pcr0 differs": (lambda p: p.set("pcrs", PCRS | {0: b"\xee" * 48}), Code.PCR_MISMATCH),
    "pcr0 zero alone": (lambda p: p.set("pcrs", PCRS | {0: bytes(48)}), Code.PCR_MISMATCH),
    "pcr8 differs": (lambda p: p.set("pcrs", PCRS | {8: bytes(48)}), Code.PCR_MISMATCH),
    "pcr8 missing": (lambda p: p.set("pcrs", {i: PCRS[i] for i in (0, 1, 2)}), Code.PCR_MISSING),
    "pcr0 missing": (lambda p: p.set("pcrs", {i: PCRS[i] for i in (1, 2, 8)}), Code.PCR_MISSING),
    # Session
    "another nonce": (lambda p: p.set("nonce", b"n" * 32), Code.NONCE),
    "nonce cut": (lambda p: p.set("nonce", bytes(range(31))), Code.NONCE),
    "nonce null": (lambda p: p.set("nonce", Raw(b"\xf6")), Code.NONCE),
    "nonce left out": (lambda p: p.drop("nonce"), Code.NONCE),
    "nonce empty": (lambda p: p.set("nonce", b""), Code.NONCE),
    "another user_data": (lambda p: p.set("user_data", b"u" * 48), Code.USER_DATA),
    "user_data null": (lambda p: p.set("user_data", Raw(b"\xf6")), Code.USER_DATA),
    "user_data empty": (lambda p: p.set("user_data", b""), Code.USER_DATA),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGERIES)
def test_forgery(forge: EnclaveForge, name: str) -> None:
    edit, code = FORGERIES[name]
    with pytest.raises(AttestationError) as caught:
        forge.verify(forge.forged(edit))
    assert caught.value.code == code, caught.value.message
    assert caught.value.hint
    assert "QEMU" not in caught.value.hint, "nothing here is QEMU's"


BYTE_EDITS: dict[str, tuple[Callable[[bytes], bytes], Code]] = {
    "nothing": (lambda _: b"", Code.SIZE),
    "32769 bytes": (lambda d: d + bytes(32769 - len(d)), Code.SIZE),
    "trailing byte": (lambda d: d + b"\0", Code.CBOR),
    "cut": (lambda d: d[:-1], Code.CBOR),
    "tag 17": (lambda d: b"\xd1" + d, Code.CBOR),
    "tag 18 twice": (lambda d: b"\xd2\xd2" + d, Code.CBOR),
    "self-described tag": (lambda d: b"\xd9\xd9\xf7" + d, Code.CBOR),
    "array of three": (lambda d: b"\x83" + d[1:-98], Code.COSE_STRUCTURE),
    "array of five": (lambda d: b"\x85" + d[1:] + b"\0", Code.COSE_STRUCTURE),
    "not an array": (lambda _: b"\xa0", Code.COSE_STRUCTURE),
    "null": (lambda _: b"\xf6", Code.COSE_STRUCTURE),
    "payload null": (lambda d: d[:7] + b"\xf6" + d[-98:], Code.COSE_STRUCTURE),
    "payload empty": (lambda d: d[:7] + b"\x40" + d[-98:], Code.COSE_STRUCTURE),
    "payload of 16385 bytes": (
        lambda d: d[:7] + b"\x59\x40\x01" + bytes(16385) + d[-98:], Code.COSE_STRUCTURE),
    "payload is noise": (lambda d: d[:7] + b"\x42\xff\xff" + d[-98:], Code.CBOR),
    "payload is a list": (lambda d: d[:7] + b"\x41\x80" + d[-98:], Code.FIELD),
    "payload tagged": (lambda d: d[:7] + b"\x42\xc6\xa0" + d[-98:], Code.CBOR),
    "signature of 64 bytes": (lambda d: d[:-98] + b"\x58\x40" + bytes(64), Code.COSE_STRUCTURE),
    "signature of 97 bytes": (lambda d: d[:-98] + b"\x58\x61" + d[-96:] + b"\0", Code.COSE_STRUCTURE),
    "signature null": (lambda d: d[:-98] + b"\xf6", Code.COSE_STRUCTURE),
    "signature zero": (lambda d: d[:-96] + bytes(96), Code.SIGNATURE),
    "r zero": (lambda d: d[:-96] + bytes(48) + d[-48:], Code.SIGNATURE),
    "s above the order": (lambda d: d[:-48] + b"\xff" * 48, Code.SIGNATURE),
    "r and s swapped": (lambda d: d[:-96] + d[-48:] + d[-96:-48], Code.SIGNATURE),
    "a payload bit": (lambda d: d.replace(b"\x10" * 48, b"\x10" * 47 + b"\x11"), Code.SIGNATURE),
}  # fmt: skip


@pytest.mark.parametrize("name", BYTE_EDITS)
def test_edited_bytes(forge: EnclaveForge, name: str) -> None:
    edit, code = BYTE_EDITS[name]
    document = forge.genuine()
    assert forge.verify(document).release == "1.0"
    with pytest.raises(AttestationError) as caught:
        forge.verify(edit(document))
    assert caught.value.code == code, caught.value.message


@pytest.mark.parametrize("scalars", [bytes(96), b"\0" * 48 + b"\1" * 48, b"\1" * 48 + b"\xff" * 48])
def test_scalars_out_of_range_are_named(forge: EnclaveForge, scalars: bytes) -> None:
    """OpenSSL refuses them too; a verifier should not have to rely on that (CVE-2022-21449)."""
    with pytest.raises(AttestationError, match="group order"):
        forge.verify(forge.genuine()[:-96] + scalars)
