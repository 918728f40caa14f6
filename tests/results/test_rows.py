"""Lines of a results file: what is written can be read, and no cell is a formula."""

from __future__ import annotations

import csv
import io
import json
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_payload.contents import SALT_BYTES, Outcome, Timings, encode_key_config
from enclave_payload.seal import generate_keys
from enclave_payload.verdict import Problem
from enclavectl.client.exchange import VerifiedEnclave, new_challenge, verify_evidence
from enclavectl.errors import UsageError
from enclavectl.protocol.evidence import Evidence
from enclavectl.results.diagnosis import Result, refusal
from enclavectl.results.rows import (
    MAX_LINE_BYTES,
    Csv,
    JsonLines,
    RowError,
    RowFormat,
    format_of,
    split_lines,
)
from tests.in_process import CARD, attest, expect, new_root
from tests.schemas.validation import checked

OUTCOME = Outcome(
    model_id=CARD.model_id,
    model_sha256=CARD.sha256,
    timings=Timings(queue_us=1, decode_us=2, inference_us=3),
    probabilities_ppb={"dark": 250_000_000, "light": 750_000_000},
)
SHA256 = "ab" * 32
LABELS = ["dark", "light"]
FORMATS = pytest.mark.parametrize("kind", [JsonLines, Csv])
# What the bytes of a file's name become: no NUL, and bytes that are not UTF-8 as lone surrogates.
NAMES = st.binary(min_size=1, max_size=30).map(
    lambda data: data.replace(b"\0", b"").decode(errors="surrogateescape")
)


def make_enclave() -> VerifiedEnclave:
    root, challenge = new_root(), new_challenge()
    config = encode_key_config(generate_keys().public, CARD, bytes(SALT_BYTES))
    document = attest(root, challenge.nonce, config)
    return verify_evidence(challenge, Evidence(document, config), expect(root), datetime.now(UTC))


ENCLAVE = make_enclave()


def encoded(kind: type[RowFormat], result: Result, *, top: int | None = None) -> bytes:
    form = kind()
    form.header(LABELS)
    return form.encode(result, ENCLAVE, top=top)


@FORMATS
@given(name=NAMES)
def test_a_line_is_read_back_whatever_the_picture_is_called(kind: type[RowFormat], name: str) -> None:
    line = encoded(kind, Result(image=name, sha256=SHA256, outcome=OUTCOME))
    row = kind().parse(line)
    assert (row.image, row.sha256, row.error, row.model_sha256) == (name, SHA256, None, CARD.sha256)


@FORMATS
@given(names=st.lists(NAMES, min_size=1, max_size=5), cut=st.integers(0, 400))
def test_lines_are_found_and_a_cut_one_is_the_last(kind: type[RowFormat], names: list[str], cut: int) -> None:
    lines = [encoded(kind, Result(image=name, sha256=SHA256, outcome=OUTCOME)) for name in names]
    data = b"".join(lines)
    data = data[: max(len(data) - cut, 0)]
    found = list(split_lines(kind(), io.BytesIO(data)))
    assert b"".join(line for line, _ in found) == data
    whole = [line for line, has_end in found if has_end]
    assert whole == lines[: len(whole)]
    assert len(found) - len(whole) <= 1


@FORMATS
def test_a_refusal_has_its_code(kind: type[RowFormat]) -> None:
    error = refusal("a.png", Problem.UNREADABLE)
    row = kind().parse(encoded(kind, Result(image="a.png", sha256=None, error=error)))
    assert (row.sha256, row.error) == (None, "unreadable")


def test_a_json_line_follows_its_schema() -> None:
    for result in (
        Result(image="a.png", sha256=SHA256, outcome=OUTCOME, is_receipted=True),
        Result(image="a.png", sha256=None, error=refusal("a.png", Problem.EMPTY)),
    ):
        checked(json.loads(encoded(JsonLines, result)))


@given(name=NAMES)
def test_no_cell_of_a_table_begins_like_a_formula(name: str) -> None:
    line = encoded(Csv, Result(image=name, sha256=SHA256, error=refusal(name, Problem.EMPTY)))
    [cells] = csv.reader(io.StringIO(line.decode(errors="surrogateescape"), newline=""))
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_no_part_of_a_name_is_a_cell_of_its_own(separator: str) -> None:
    """Spreadsheets of many countries part cells at semicolons."""
    line = encoded(Csv, Result(image=f"a{separator}=1+1", sha256=SHA256, outcome=OUTCOME))
    [cells] = csv.reader([line.decode()], delimiter=separator)
    assert not [cell for cell in cells if cell.startswith("=")]


def test_a_table_has_a_column_for_each_label() -> None:
    form = Csv()
    text = form.header(LABELS) + encoded(Csv, Result(image="a.png", sha256=SHA256, outcome=OUTCOME), top=1)
    [row] = csv.DictReader(io.StringIO(text.decode()))
    assert (row["label"], row["probability"], row["p_light"], row["p_dark"]) == ("light", "0.75", "0.75", "")


@FORMATS
@pytest.mark.parametrize(
    "line",
    [
        b"\n", b"{}\n", b"[]\n", b'"', b"a,b\n", b"," * 20 + b"\n", b'{"schema": "enclavectl.result/1"}\n',
        b'{"schema": "enclavectl.result/2", "image": "a", "sha256": null, "enclave": {"model_sha256": ""}}\n',
        b"[" * 100_000 + b"\n",
    ],
)  # fmt: skip
def test_other_lines_are_refused(kind: type[RowFormat], line: bytes) -> None:
    with pytest.raises(RowError):
        kind().parse(line)


@FORMATS
@given(st.binary(max_size=200))
def test_any_bytes_are_a_row_or_refused(kind: type[RowFormat], data: bytes) -> None:
    with suppress(RowError):
        assert isinstance(kind().parse(data).image, str)


@FORMATS
@pytest.mark.parametrize(("size", "is_refused"), [(MAX_LINE_BYTES, False), (MAX_LINE_BYTES + 1, True)])
def test_a_line_has_a_bound(kind: type[RowFormat], size: int, is_refused: bool) -> None:
    data = io.BytesIO(b"x" * (size - 1) + b"\n")
    if is_refused:
        with pytest.raises(RowError):
            list(split_lines(kind(), data))
    else:
        assert len(list(split_lines(kind(), data))) == 1


def test_the_name_of_the_file_says_its_form(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp()
    assert isinstance(format_of(folder / "a.CSV"), Csv)
    assert isinstance(format_of(folder / "a.jsonl"), JsonLines)
    with pytest.raises(UsageError, match="expected a name that ends in"):
        format_of(folder / "a.xlsx")
