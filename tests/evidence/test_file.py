"""The evidence file: what is written is read, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from enclavectl.errors import AttestationError, UsageError
from enclavectl.evidence.examination import examine
from enclavectl.evidence.file import (
    MAX_BATCH_RECEIPTS,
    MAX_EVIDENCE_FILE_BYTES,
    MAX_RECEIPTS,
    EvidenceCode,
    EvidenceError,
    EvidenceFile,
    KeptReceipt,
    parse_evidence_file,
    parse_receipt_line,
    receipt_line,
)
from enclavectl.evidence.reading import RECEIPT_MAGIC, read_receipts, read_subject
from tests.evidence import example
from tests.evidence.sessions import archived_case, base64_of, edited, session_evidence
from tests.forge import EnclaveForge
from tests.schemas.validation import checked

RECEIPT = KeptReceipt(receipt=RECEIPT_MAGIC + b"rest", request_statement=b"asked", answer_statement=b"told")


@pytest.fixture(scope="module")
def evidence() -> EvidenceFile:
    return session_evidence(EnclaveForge())


def code_of(data: bytes) -> str:
    with pytest.raises(EvidenceError) as caught:
        parse_evidence_file(data)
    assert caught.value.hint
    return caught.value.code


def test_a_file_is_read_as_it_was_written(evidence: EvidenceFile) -> None:
    whole = replace(evidence, receipts=(RECEIPT,), lock_sha256="ab" * 32)
    assert parse_evidence_file(whole.to_bytes()) == whole
    checked(json.loads(whole.to_bytes()))


def test_a_file_never_names_the_folder_of_the_root(evidence: EvidenceFile) -> None:
    assert b"/" not in json.loads(evidence.to_bytes())["root"]["name"].encode()


MEMBERS = [*json.loads(session_evidence(EnclaveForge()).to_bytes())]


@pytest.mark.parametrize("key", MEMBERS)
def test_a_member_that_was_cut_is_missed(evidence: EvidenceFile, key: str) -> None:
    assert code_of(edited(evidence, lambda members: members.pop(key))) == EvidenceCode.FILE
    if key != "content_sha256":
        assert code_of(edited(evidence, lambda m: m.pop(key), rehash=True)) == EvidenceCode.FILE


@pytest.mark.parametrize("key", MEMBERS)
def test_a_member_that_stands_twice_is_refused(evidence: EvidenceFile, key: str) -> None:
    text = evidence.to_bytes().decode().rstrip().removesuffix("}").rstrip()
    value = json.dumps(json.loads(evidence.to_bytes())[key])
    assert code_of(f'{text},\n  "{key}": {value}\n}}'.encode()) == EvidenceCode.FILE


@pytest.mark.parametrize("key", [key for key in MEMBERS if key != "schema"])
def test_a_member_of_another_type_is_refused(evidence: EvidenceFile, key: str) -> None:
    for value in (7, True, [7], {"a": 1}, "", "\n"):

        def retype(members: dict[str, Any], value: object = value) -> None:
            members[key] = value

        assert code_of(edited(evidence, retype, rehash=key != "content_sha256")) in {
            EvidenceCode.FILE,
            EvidenceCode.POLICY,
        }


@pytest.mark.parametrize("key", [key for key in MEMBERS if key not in {"schema", "content_sha256"}])
def test_a_member_of_another_session_is_found(evidence: EvidenceFile, key: str) -> None:
    """By the content's hash, whatever the member; test_verification.py has a forger who makes a new hash."""
    other = {
        **json.loads(session_evidence(EnclaveForge(), nonce=bytes(32)).to_bytes()),
        "requested_at": "2020-01-01T00:00:00.000+00:00",
        "lock_sha256": "cd" * 32,
        "policy_sha256": "cd" * 32,
        "policy": "accept: [nitro]",
        "receipts": [RECEIPT.to_json()],
        "tool": "other 1.0",
        "key_config": base64_of(b"other"),
        "root": {"name": "forge", "sha256": "cd" * 32},
    }

    def swap(members: dict[str, Any]) -> None:
        assert members[key] != other[key]
        members[key] = other[key]

    assert code_of(edited(evidence, swap)) == EvidenceCode.FILE


def test_one_bit_changed_anywhere_is_refused(evidence: EvidenceFile) -> None:
    data, random = evidence.to_bytes(), Random(7)
    forge = EnclaveForge()

    def judge(changed: bytes) -> None:
        """Only the first byte's bits can make other than JSON of it; that is no document of anybody."""
        subject = read_subject(changed, name="evidence.json")
        assert subject.evidence is None
        assert subject.document is not None
        examine(replace(archived_case(forge, evidence), document=subject.document, evidence=None)).require()

    for _ in range(400):
        position, bit = random.randrange(len(data)), random.randrange(8)
        changed = bytearray(data)
        changed[position] ^= 1 << bit
        with pytest.raises(AttestationError) as caught:
            judge(bytes(changed))
        assert caught.value.exit_code == 4


@pytest.mark.parametrize("size", [MAX_EVIDENCE_FILE_BYTES + 1])
def test_a_file_over_its_limit_is_refused(size: int) -> None:
    assert code_of(b"{" + b" " * size) == EvidenceCode.FILE


@pytest.mark.parametrize("cut", [1, 100, 2000, -1, -2])
def test_a_file_that_was_cut_short_is_refused(evidence: EvidenceFile, cut: int) -> None:
    assert code_of(evidence.to_bytes().rstrip()[:cut]) == EvidenceCode.FILE


def test_too_many_receipts_are_refused(evidence: EvidenceFile) -> None:
    assert code_of(replace(evidence, receipts=(RECEIPT,) * 65).to_bytes()) == EvidenceCode.FILE


def test_a_line_is_read_as_it_was_written() -> None:
    line = receipt_line(RECEIPT, 3)
    assert line.count(b"\n") == 1
    assert parse_receipt_line(line) == RECEIPT
    checked(json.loads(line))
    for broken in (line[:-3], line.replace(b'"index": 3', b'"index": -1'), b"{}", line + b" x"):
        with pytest.raises(EvidenceError):
            parse_receipt_line(broken)


def test_a_document_is_read_in_each_of_its_spellings(evidence: EvidenceFile) -> None:
    raw = evidence.document
    wrapped = "\n".join(base64_of(raw)[at : at + 64] for at in range(0, len(base64_of(raw)), 64))
    spellings = (
        raw,
        raw.hex().encode(),
        raw.hex().upper().encode() + b"\n",
        base64_of(raw).encode(),
        wrapped.encode(),
    )
    for data in spellings:
        assert read_subject(data, name="d").document == raw
    assert read_subject(evidence.to_bytes(), name="d").evidence == evidence


@pytest.mark.parametrize(
    "text", [b"hello", b"abc", base64_of(b"ab")[:-1].encode(), b"QQ==QQ==", b"[1]", b"QR=="]
)
def test_text_that_is_no_spelling_of_bytes_is_refused(text: bytes) -> None:
    with pytest.raises(EvidenceError) as caught:
        read_subject(text, name="d")
    assert caught.value.code == EvidenceCode.ENCODING


@pytest.mark.parametrize("nothing", [b"", b" \n\t\r\n"])
def test_an_empty_file_is_no_document_at_all(nothing: bytes) -> None:
    with pytest.raises(UsageError, match="found nothing") as caught:
        read_subject(nothing, name="d")
    assert caught.value.exit_code == 2


def test_receipts_come_alone_or_in_lines() -> None:
    assert read_subject(RECEIPT.receipt, name="a.air").receipts == (KeptReceipt(receipt=RECEIPT.receipt),)
    lines = receipt_line(RECEIPT, 0) + receipt_line(RECEIPT, 1)
    assert read_subject(lines, name="r.jsonl").receipts == (RECEIPT, RECEIPT)
    assert read_receipts(lines, name="r.jsonl") == (RECEIPT, RECEIPT)
    assert read_receipts(b"anything", name="a.air") == (KeptReceipt(receipt=b"anything"),)


def test_a_batch_has_more_receipts_than_an_evidence_file_holds() -> None:
    lines = receipt_line(RECEIPT, 0) * (MAX_RECEIPTS + 1)
    assert len(read_receipts(lines, name="r.jsonl")) == MAX_RECEIPTS + 1
    assert len(read_subject(lines, name="r.jsonl").receipts) == MAX_RECEIPTS + 1
    with pytest.raises(EvidenceError, match="at most 65536 lines, found 65537") as caught:
        read_receipts(b"{\n" * (MAX_BATCH_RECEIPTS + 1), name="r.jsonl")
    assert "split" in str(caught.value.hint)


def test_the_line_of_a_batch_that_is_no_receipt_is_named() -> None:
    lines = receipt_line(RECEIPT, 0) + receipt_line(RECEIPT, 1) + b"{}\n"
    with pytest.raises(EvidenceError, match="receipts, line 3: schema"):
        read_receipts(lines, name="r.jsonl")


def test_an_evidence_file_in_the_place_of_receipts_is_told(evidence: EvidenceFile) -> None:
    with pytest.raises(EvidenceError, match="beside --document, found an evidence file") as caught:
        read_receipts(evidence.to_bytes(), name="e.json")
    assert "leave --document out" in str(caught.value.hint)


@pytest.mark.parametrize("version", [2, 10])
def test_a_file_of_a_later_version_is_not_called_damaged(evidence: EvidenceFile, version: int) -> None:
    later = edited(evidence, lambda m: m.update(schema=f"enclavectl.evidence/{version}", more=1), rehash=True)
    line = receipt_line(RECEIPT, 0).replace(b"enclavectl.receipt/1", f"enclavectl.receipt/{version}".encode())
    for data, where in (
        (later, "evidence file"),
        (line, "receipts, line 1"),
        (line + line, "receipts, line 1"),
    ):
        said = f"{where}: schema: expected enclavectl.*/1, found 'enclavectl.*/{version}'"
        with pytest.raises(EvidenceError, match=said) as caught:
            read_subject(data, name="e")
        assert caught.value.code == EvidenceCode.FILE
        assert "of a newer enclavectl" in str(caught.value.hint)
    with pytest.raises(EvidenceError, match="receipts, line 1: schema: expected") as caught:
        read_receipts(line, name="r.jsonl")
    assert "of a newer enclavectl" in str(caught.value.hint)


@pytest.mark.parametrize("schema", ["enclavectl.evidence/0", "enclavectl.lock/2", "evidence", 2, None])
def test_what_is_no_later_version_is_damaged_or_changed(evidence: EvidenceFile, schema: object) -> None:
    with pytest.raises(EvidenceError) as caught:
        parse_evidence_file(edited(evidence, lambda m: m.update(schema=schema), rehash=True))
    assert "damaged or changed" in str(caught.value.hint)


@pytest.mark.parametrize("spell", [bytes.hex, lambda data: f"0x{data.hex()}\n", base64_of])
def test_a_receipt_that_is_spelled_as_text_is_told_so(spell: Callable[[bytes], str]) -> None:
    """Not that QEMU signs nothing, which is what its envelope looks like to the reader of documents."""
    for read in (read_subject, read_receipts):
        with pytest.raises(EvidenceError, match="expected a receipt in binary, found one in hex") as caught:
            read(spell(example.RECEIPT).encode(), name="r")
        assert caught.value.code == EvidenceCode.ENCODING
        assert "answer.air" in str(caught.value.hint)
