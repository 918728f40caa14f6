"""The public vectors of AIR version 1, which are not part of this repository.

By Cyntrisec, https://github.com/cyntrisec/EphemeralML, commit c6885fc, spec/v1/vectors, CC BY 4.0.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypedDict

import pytest

from enclavectl.evidence import ReceiptError, parse_receipt
from enclavectl.evidence.air import check_signature

FOLDER = Path("/work/shared/vectors/air-v1")
VECTORS = {path.stem: path for path in sorted(FOLDER.rglob("*.json"))}
# What is refused by the reader or by the key. The others are valid receipts that a verifier's own policy
# refuses: each has one value that its policy does not expect.
CODES = {
    "v1-wrong-key": "receipt-signature",
    "v1-wrong-alg": "receipt-algorithm",
    "v1-zero-model-hash": "claim-zero",
    "v1-bad-measurement-length": "receipt-measurements",
}
POLICY = {"v1-nonce-mismatch", "v1-model-hash-mismatch", "v1-platform-mismatch", "v1-stale-iat"}
VALID = {"v1-nitro-no-nonce": 598, "v1-tdx-with-nonce": 608}

pytestmark = pytest.mark.skipif(not VECTORS, reason=f"the vectors are not at {FOLDER}")


class Vector(TypedDict, total=False):
    receipt_hex: str
    public_key_hex: str
    wrong_public_key_hex: str
    payload_hex: str
    claims: dict[str, object]
    verify_policy: dict[str, object]


def vector(name: str) -> Vector:
    value: Vector = json.loads(VECTORS[name].read_text())
    return value


def test_all_ten_are_here() -> None:
    assert VECTORS.keys() == CODES.keys() | POLICY | VALID.keys()


@pytest.mark.parametrize("name", VALID)
def test_a_valid_one_is_read_claim_by_claim(name: str) -> None:
    known = vector(name)
    data = bytes.fromhex(known["receipt_hex"])
    assert len(data) == VALID[name]
    receipt = parse_receipt(data)
    check_signature(receipt, bytes.fromhex(known["public_key_hex"]))
    assert receipt.payload.hex() == known["payload_hex"]
    for claim, value in known["claims"].items():
        if claim == "enclave_measurements":
            assert isinstance(value, dict)
            assert receipt.measurement_type == value.pop("measurement_type")
            found = {f"pcr{index}_hex": register.hex() for index, register in receipt.pcrs.items()}
            assert found == {register: text for register, text in value.items() if text is not None}
        elif claim.endswith("_hex"):
            found_bytes = getattr(receipt, claim.removesuffix("_hex"))
            assert (None if found_bytes is None else found_bytes.hex()) == value
        else:
            assert getattr(receipt, claim) == value


@pytest.mark.parametrize(("name", "code"), CODES.items())
def test_an_invalid_one_is_refused_with_its_code(name: str, code: str) -> None:
    known = vector(name)
    key = known.get("public_key_hex") or known["wrong_public_key_hex"]
    with pytest.raises(ReceiptError) as caught:
        check_signature(parse_receipt(bytes.fromhex(known["receipt_hex"])), bytes.fromhex(key))
    assert caught.value.code == code


@pytest.mark.parametrize("name", sorted(POLICY))
def test_one_that_only_a_policy_refuses_is_a_valid_receipt(name: str) -> None:
    known = vector(name)
    receipt = parse_receipt(bytes.fromhex(known["receipt_hex"]))
    check_signature(receipt, bytes.fromhex(known["public_key_hex"]))
    assert known["verify_policy"]
