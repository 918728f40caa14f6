"""``enclavectl receipt``: look at a signed receipt, and take the parts of evidence apart."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import typer

from enclavectl.cli.invocation import screen_for
from enclavectl.cli.options import Output, OutputFormat
from enclavectl.cli.verify_inputs import read_evidence
from enclavectl.errors import HostError, UsageError
from enclavectl.evidence import Receipt, ReceiptError, parse_receipt
from enclavectl.evidence.air import MAX_RECEIPT_BYTES
from enclavectl.evidence.codes import ReceiptCode
from enclavectl.evidence.keeping import check_new
from enclavectl.evidence.reading import Subject, holds_receipts, read_subject
from enclavectl.files import open_regular
from enclavectl.new_files import write_new

SHOW_SCHEMA = "enclavectl.receipt-show/1"
EXTRACT_SCHEMA = "enclavectl.receipt-extract/1"

ReceiptPath = Annotated[Path, typer.Argument(metavar="FILE", help="A signed receipt: NAME.air.")]

KeptPath = Annotated[
    Path, typer.Argument(metavar="FILE", help="An evidence file, or a batch's NAME.receipts.jsonl.")
]
Folder = Annotated[
    Path, typer.Option("--to", metavar="FOLDER", help="Where the files go; made if it is missing.")
]


def show(file: ReceiptPath, output: Output = OutputFormat.TEXT) -> None:
    """Decode a signed receipt, without judging it.

    Prints every claim. Nothing is verified: anybody can write a receipt. enclavectl verify holds one to the
    document that vouches for its key. Exit code 4 if the file does not follow the format.

    Examples:
      enclavectl receipt show answer.air                all its claims
      enclavectl receipt show answer.air --output json  for programs
    """
    screen = screen_for(output)
    receipt = _read(file)
    value = _to_json(receipt)
    if screen.as_json:
        screen.result({"schema": SHOW_SCHEMA, **value})
        return
    screen.note("nothing was verified: enclavectl verify FILE --document EVIDENCE judges it")
    pcrs = {f"PCR{index}": register.hex() for index, register in receipt.pcrs.items()}
    facts = {name: "none" if one is None else str(one) for name, one in value.items() if name != "pcrs"}
    screen.facts([*facts.items(), *pcrs.items()])


def _read(file: Path) -> Receipt:
    """Read a receipt; say what to do with a file that has receipts in it.

    Raises:
        UsageError: there is no such file, it is empty, or cannot be read.
        ReceiptError: it is no receipt.
    """
    hint = "enclavectl receipt extract EVIDENCE --to FOLDER writes the receipts of an evidence file"
    with open_regular(file, what="receipt", hint_if_missing=hint) as opened:
        try:
            data = opened.read(MAX_RECEIPT_BYTES + 1)
        except OSError as exc:
            raise UsageError(f"{file}: cannot read this receipt ({exc.strerror})") from exc
    if not data:
        raise UsageError(f"{file}: expected a receipt, found nothing")
    try:
        return _parse(data, file)
    except ReceiptError as error:
        if holds_receipts(data):
            error.hint = f"enclavectl receipt extract '{file}' --to FOLDER writes its receipts to files"
        raise


def _parse(data: bytes, file: Path) -> Receipt:
    """Read the first bytes of a file as a receipt. Raises: ReceiptError, also where there are more bytes."""
    if len(data) > MAX_RECEIPT_BYTES:
        raise ReceiptError(
            ReceiptCode.RECEIPT_SIZE,
            f"{file}: expected a receipt of at most {MAX_RECEIPT_BYTES} bytes, found more",
        )
    return parse_receipt(data)


def extract(file: KeptPath, to: Folder, output: Output = OutputFormat.TEXT) -> None:
    """Write the parts of an evidence file to files.

    An evidence file gives document.bin and key-config.bin. Each receipt gives answer-N.air and, where they
    were kept, its statements: answer-N.request.cbor and answer-N.outcome.cbor, whose SHA-256 the receipt has.
    Nothing is verified, and no file is written over. Exit code 4 if the file cannot be read as evidence.

    Examples:
      enclavectl receipt extract evidence.json --to parts         document, receipt
      enclavectl receipt extract e.receipts.jsonl --to answers    one .air each
    """
    screen = screen_for(output)
    subject = read_subject(read_evidence(file), name=str(file))
    if subject.evidence is None and not subject.receipts:
        raise UsageError(
            f"{file}: expected an evidence file or receipts, found a bare document",
            hint="a document is one part already: enclavectl verify judges it",
        )
    parts = _parts(subject)
    try:
        to.mkdir(mode=0o700, exist_ok=True)
    except OSError as exc:
        raise HostError(f"--to {to}: cannot make this folder ({exc.strerror})") from exc
    for name in parts:
        check_new("--to", to / name)
    _write_all({to / name: part for name, part in parts.items()})
    if screen.as_json:
        files = [{"file": str(to / name), "sha256": sha256(part).hexdigest()} for name, part in parts.items()]
        screen.result({"schema": EXTRACT_SCHEMA, "files": files})
        return
    screen.note("nothing was verified: enclavectl verify judges evidence")
    screen.facts([(str(to / name), f"{len(part)} bytes") for name, part in parts.items()])


def _write_all(parts: Mapping[Path, bytes]) -> None:
    """Write every file or none: half of them would be in the way of the next try.

    Raises:
        HostError: the file system refused.
    """
    with ExitStack() as undo:
        for path, part in parts.items():
            write_new(path, [part])
            undo.callback(path.unlink, missing_ok=True)
        undo.pop_all()


def _parts(subject: Subject) -> dict[str, bytes]:
    """Return the parts by the names of their files."""
    parts: dict[str, bytes] = {}
    if subject.evidence is not None:
        parts = {"document.bin": subject.evidence.document, "key-config.bin": subject.evidence.key_config}
    for number, kept in enumerate(subject.receipts, start=1):
        parts[f"answer-{number}.air"] = kept.receipt
        if kept.request_statement is not None:
            parts[f"answer-{number}.request.cbor"] = kept.request_statement
        if kept.answer_statement is not None:
            parts[f"answer-{number}.outcome.cbor"] = kept.answer_statement
    return parts


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
