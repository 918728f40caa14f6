"""``enclavectl receipt``: look at a signed receipt."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Annotated

import typer

from enclavectl.cli.invocation import screen_for
from enclavectl.cli.options import Output, OutputFormat
from enclavectl.errors import UsageError
from enclavectl.evidence import Receipt, parse_receipt
from enclavectl.evidence.air import MAX_RECEIPT_BYTES
from enclavectl.files import read_bounded

SHOW_SCHEMA = "enclavectl.receipt-show/1"

ReceiptPath = Annotated[Path, typer.Argument(metavar="FILE", help="A signed receipt: NAME.air.")]


def show(file: ReceiptPath, output: Output = OutputFormat.TEXT) -> None:
    """Decode a signed receipt, without judging it.

    Prints every claim. Nothing is verified: anybody can write a receipt. enclavectl verify holds one to the
    document that vouches for its key. Exit code 4 if the file does not follow the format.

    Examples:
      enclavectl receipt show answer.air                all its claims
      enclavectl receipt show answer.air --output json  for programs
    """
    screen = screen_for(output)
    data = read_bounded(file, MAX_RECEIPT_BYTES, what="receipt")
    if not data:
        raise UsageError(f"{file}: expected a receipt, found nothing")
    receipt = parse_receipt(data)
    value = _to_json(receipt)
    if screen.as_json:
        screen.result({"schema": SHOW_SCHEMA, **value})
        return
    screen.note("nothing was verified: enclavectl verify FILE --document EVIDENCE judges it")
    pcrs = {f"PCR{index}": register.hex() for index, register in receipt.pcrs.items()}
    facts = {name: "none" if one is None else str(one) for name, one in value.items() if name != "pcrs"}
    screen.facts([*facts.items(), *pcrs.items()])


def _to_json(receipt: Receipt) -> dict[str, object]:
    return {
        "sha256": sha256(receipt.raw).hexdigest(),
        "issuer": receipt.iss,
        "signed": receipt.issued_at.isoformat(),
        "id": receipt.cti.hex(),
        "nonce": None if receipt.eat_nonce is None else receipt.eat_nonce.hex(),
        "profile": receipt.eat_profile,
        "model_id": receipt.model_id,
        "model_version": receipt.model_version,
        "model_sha256": receipt.model_hash.hex(),
        "model_hash_scheme": receipt.model_hash_scheme,
        "request_sha256": receipt.request_hash.hex(),
        "response_sha256": receipt.response_hash.hex(),
        "document_sha256": receipt.attestation_doc_hash.hex(),
        "measurement_type": receipt.measurement_type,
        "pcrs": {str(index): register.hex() for index, register in receipt.pcrs.items()},
        "policy_version": receipt.policy_version,
        "sequence_number": receipt.sequence_number,
        "execution_time_ms": receipt.execution_time_ms,
        "memory_peak_mb": receipt.memory_peak_mb,
        "security_mode": str(receipt.security_mode),
    }
