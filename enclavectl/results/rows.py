"""The lines of a results file, as JSON Lines or CSV: one for each picture, each complete in itself.

Sans-I/O: values in, bytes out, and back. A line says which release of which enclave answered, so that lines
of several sessions and runs can stand in one file.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from enclavectl.client.exchange import VerifiedEnclave
from enclavectl.errors import EnclaveError, UsageError
from enclavectl.protocol.answers import PARTS_PER_BILLION
from enclavectl.results.diagnosis import Result

RESULT_SCHEMA = "enclavectl.result/1"
# A line has at most 64 labels with their names, a path of 4 KiB, and a message with that path.
MAX_LINE_BYTES = 256 * 1024
_SHA256 = re.compile(r"[0-9a-f]{64}")
# Excel, LibreOffice and Google Sheets take a cell that begins with one of these for a formula (OWASP, "CSV
# Injection"). The apostrophe is among them so that the escape can be undone.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "'")
_COLUMNS = (
    *("image", "sha256", "label", "name", "probability", "receipted", "warnings", "error", "message"),
    *("trust", "enclave", "release", "model", "model_sha256"),
)
_LABEL_PREFIX = "p_"


class RowError(ValueError):
    """A line is not one that enclavectl wrote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What the next run must know of a line. ``error`` is the code of a refusal; None for an answer."""

    image: str
    sha256: str | None
    error: str | None
    model_sha256: str


class RowFormat(Protocol):
    """How results become lines, and how lines are found again."""

    def header(self, labels: Sequence[str]) -> bytes:
        """Return the file's first line for a model's label codes; empty where there is none."""

    def encode(self, result: Result, enclave: VerifiedEnclave, *, top: int | None) -> bytes:
        """Return the line of a result, with its line end."""

    def is_whole(self, line: bytes) -> bool:
        """Return whether the bytes up to a line end are a whole line, or a part of one."""

    def is_cut_line(self, rest: bytes) -> bool:
        """Return whether the bytes behind the last whole line may be one line that was cut."""

    def parse(self, line: bytes) -> Row:
        """Parse a line. Raises: RowError."""

    def is_start(self, data: bytes) -> bool:
        """Return whether ``data`` may be the beginning of a file of this form that was cut."""


def format_of(path: Path) -> RowFormat:
    """Return the format that a file's name asks for.

    Raises:
        UsageError: it ends in neither ``.jsonl`` nor ``.csv``.
    """
    match path.suffix.lower():
        case ".jsonl":
            return JsonLines()
        case ".csv":
            return Csv()
    raise UsageError(
        f"--results {path}: expected a name that ends in .jsonl or .csv", hint="such as results.csv"
    )


class JsonLines:
    """One ``enclavectl.result/1`` object a line, in ASCII."""

    def header(self, labels: Sequence[str]) -> bytes:  # noqa: ARG002 - of the interface
        """Return nothing: each line names its members."""
        return b""

    def encode(self, result: Result, enclave: VerifiedEnclave, *, top: int | None) -> bytes:
        """Return the line of a result."""
        value = result.to_json(enclave.label_names, top=top)
        del value["session"]  # of the command that wrote the line; "enclave" says more
        return json.dumps({"schema": RESULT_SCHEMA, **value, "enclave": _origin(enclave)}).encode() + b"\n"

    def is_whole(self, line: bytes) -> bool:  # noqa: ARG002 - of the interface
        """Return True: JSON of one line has no line end in it."""
        return True

    def is_cut_line(self, rest: bytes) -> bool:  # noqa: ARG002 - of the interface
        """Return True: there is no line end in it."""
        return True

    def parse(self, line: bytes) -> Row:
        """Parse a line.

        Raises:
            RowError: it is none of ours.
        """
        # Not the strict reader: names of files need not be Unicode, and keep their bytes as lone surrogates.
        try:
            value = json.loads(line)
            error, origin = value.get("error"), value["enclave"]
            image, sha256, model = value["image"], value["sha256"], origin["model_sha256"]
            code = None if error is None else error["code"]
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as exc:
            raise RowError("expected a result as JSON") from exc
        is_read = isinstance(image, str) and isinstance(sha256, str | None) and isinstance(code, str | None)
        if value.get("schema") != RESULT_SCHEMA or not is_read or not isinstance(model, str):
            raise RowError(f"expected an object of {RESULT_SCHEMA}")
        return Row(image=image, sha256=sha256, error=code, model_sha256=model)

    def is_start(self, data: bytes) -> bool:
        """Return whether the data is the beginning of such a line."""
        expected = f'{{"schema": "{RESULT_SCHEMA}"'.encode()
        return data.startswith(expected) or expected.startswith(data)


class Csv:
    """A header and a row a picture (RFC 4180, but with LF), with a column for each label's probability.

    A cell that a spreadsheet would take for a formula has an apostrophe before it.
    """

    def __init__(self) -> None:
        """Begin with a file whose labels are not known yet."""
        self._labels: tuple[str, ...] = ()

    def header(self, labels: Sequence[str]) -> bytes:
        """Return the line with the names of the columns."""
        self._labels = tuple(labels)
        return _csv_line([*_COLUMNS, *(_LABEL_PREFIX + code for code in labels)])

    def encode(self, result: Result, enclave: VerifiedEnclave, *, top: int | None) -> bytes:
        """Return the row of a result; a label that is not among the ``top`` has an empty cell."""
        names, origin = enclave.label_names, _origin(enclave)
        cells: dict[str, object] = {"image": result.image, "sha256": result.sha256}
        shares: dict[str, float] = {}
        if result.outcome is None or result.outcome.probabilities_ppb is None:
            error = result.error or EnclaveError("no answer")
            cells |= {"error": error.code, "message": error.message}
        else:
            parts = result.outcome.probabilities_ppb
            ranked = sorted(parts, key=parts.__getitem__, reverse=True)
            shares = {code: parts[code] / PARTS_PER_BILLION for code in ranked[:top]}
            best = ranked[0]
            cells |= {"label": best, "name": names.get(best, best), "probability": shares[best]}
            cells["receipted"] = "yes" if result.is_receipted else "no"
            cells["warnings"] = " ".join(code for code, _ in result.warnings)
        cells |= {"trust": origin["trust"], "enclave": origin["module_id"], "release": origin["release"]}
        cells |= {"model": origin["model_id"], "model_sha256": origin["model_sha256"]}
        row = [cells.get(name) for name in _COLUMNS] + [shares.get(code) for code in self._labels]
        return _csv_line(["" if cell is None else str(cell) for cell in row])

    def is_whole(self, line: bytes) -> bool:
        """Return whether every quotation mark is closed: a name may have line ends."""
        return line.count(b'"') % 2 == 0

    def is_cut_line(self, rest: bytes) -> bool:
        """Return whether no row is in it: behind a quotation mark that somebody added, all rows are."""
        return not any(map(self._is_row, rest.split(b"\n")[1:-1]))

    def _is_row(self, line: bytes) -> bool:
        try:
            self.parse(line)
        except RowError:
            return False
        return True

    def parse(self, line: bytes) -> Row:
        """Parse a row.

        Raises:
            RowError: it is none of ours.
        """
        try:
            [cells] = csv.reader(io.StringIO(line.decode(errors="surrogateescape"), newline=""), strict=True)
        except (csv.Error, ValueError) as exc:
            raise RowError(f"expected one row of CSV ({exc})") from exc
        if len(cells) <= len(_COLUMNS):
            raise RowError(f"expected more than {len(_COLUMNS)} columns, found {len(cells)}")
        found = dict(zip(_COLUMNS, map(_without_escape, cells), strict=False))
        if _SHA256.fullmatch(found["model_sha256"]) is None:
            raise RowError("expected the SHA-256 of a model")
        return Row(
            image=found["image"],
            sha256=found["sha256"] or None,
            error=found["error"] or None,
            model_sha256=found["model_sha256"],
        )

    def is_start(self, data: bytes) -> bool:
        """Return whether the data is the beginning of our header."""
        expected = ",".join(_COLUMNS).encode() + b","
        return data.startswith(expected) or expected.startswith(data)


def split_lines(format_: RowFormat, file: BinaryIO) -> Iterator[tuple[bytes, bool]]:
    """Yield each line, and whether it has its end; only the last one may lack it.

    Raises:
        RowError: a line is longer than any that enclavectl writes, or what is behind the last one is no line.
    """
    line = b""
    while piece := file.readline(MAX_LINE_BYTES + 1):
        line += piece
        if len(line) > MAX_LINE_BYTES:
            raise RowError(f"expected lines of at most {MAX_LINE_BYTES} bytes")
        if line.endswith(b"\n") and format_.is_whole(line):
            yield line, True
            line = b""
    if line and not format_.is_cut_line(line):
        raise RowError("expected one row of CSV, found a quotation mark that hides the rows after it")
    if line:
        yield line, False


def _origin(enclave: VerifiedEnclave) -> dict[str, object]:
    document, card = enclave.document, enclave.card
    return {
        "trust": str(document.trust),
        "module_id": document.module_id,
        "release": document.release,
        "model_id": card.model_id,
        "model_sha256": card.sha256,
    }


def _csv_line(cells: Sequence[str]) -> bytes:
    # A file's name need not be Unicode; its bytes are kept.
    return (",".join(map(_cell, cells)) + "\n").encode(errors="surrogateescape")


def _cell(text: str) -> str:
    # Not csv.writer, which leaves a lone CR without quotation marks and so cuts the row in two.
    text = f"'{text}" if text.startswith(_FORMULA) else text
    # Spreadsheets of many countries part cells at semicolons, and a part may be a formula.
    needs_quotes = any(character in text for character in ',;"\t\r\n')
    return '"' + text.replace('"', '""') + '"' if needs_quotes else text


def _without_escape(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA) else cell
