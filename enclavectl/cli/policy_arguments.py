"""Arguments of the commands below ``policy``, and the values that they name."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from enclavectl.attestation import Policy, parse_policy
from enclavectl.attestation.document import PCR_BYTES, PCR_COUNT, Claims
from enclavectl.attestation.emulated import unproven_claims
from enclavectl.attestation.policy_file import MAX_POLICY_BYTES, decode_policy
from enclavectl.attestation.times import EXPECTED, parse_time
from enclavectl.errors import UsageError
from enclavectl.files import read_bounded

_REGISTER = re.compile(rf"(?:PCR)?([0-9]{{1,2}})=([0-9A-Fa-f]{{{2 * PCR_BYTES}}})")
_HINT = "enclavectl policy new writes one; enclavectl describe NAME --policy-file as well"

PolicyPath = Annotated[Path, typer.Argument(metavar="POLICY", help="A policy file.")]
At = Annotated[
    str,
    typer.Option(
        "--at", metavar="TIME", help="The time to judge: now, a date, or a time in UTC (...T12:00:00Z)."
    ),
]


def read_policy_text(path: Path) -> str:
    """Read the text of a policy file.

    Raises:
        UsageError: it cannot be read, or is no text.
    """
    data = read_bounded(path, MAX_POLICY_BYTES, what="policy", hint_if_missing=_HINT)
    return decode_policy(data, source=str(path))


def read_policy(path: Path) -> Policy:
    """Read a policy file.

    Raises:
        UsageError: it cannot be read, or is no policy.
    """
    return parse_policy(read_policy_text(path), source=str(path))


def read_claims(path: Path) -> Claims:
    """Read a document (binary, hex or base64), or that of an evidence file, without verifying it.

    Raises:
        UsageError: it cannot be read, or has no document.
        AttestationError: it is no evidence file, or no enclave's document.
    """
    # Evidence files need the protocol's readers, which few commands about policies do.
    from enclavectl.evidence.file import MAX_EVIDENCE_FILE_BYTES  # noqa: PLC0415 - see above
    from enclavectl.evidence.reading import read_subject  # noqa: PLC0415 - see above

    hint = "enclavectl attest NAME keeps one in evidence.json"
    data = read_bounded(path, MAX_EVIDENCE_FILE_BYTES, what="document", hint_if_missing=hint)
    document = read_subject(data, name=str(path)).document
    if document is None:
        raise UsageError(
            f"{path}: expected a document or an evidence file, found receipts",
            hint="name the evidence file that was kept with them",
        )
    return unproven_claims(document)


def moment(option: str, text: str, *, words: str = "now") -> datetime:
    """Read the value of an option that takes a time; ``now`` is this machine's, to the second.

    ``words`` are all that the option takes in place of a time, for the error.

    Raises:
        UsageError: it is no time.
    """
    if text == "now":
        return datetime.now(UTC).replace(microsecond=0)
    try:
        return parse_time(text)
    except ValueError as exc:
        raise UsageError(f"{option}: expected {words}, {EXPECTED}; found {text!r:.60}") from exc


def optional_moment(option: str, text: str | None) -> datetime | None:
    """Read the value of an option that takes a time and may be absent.

    Raises:
        UsageError: it is no time.
    """
    return None if text is None else moment(option, text)


def parse_registers(values: list[str]) -> dict[int, bytes]:
    """Read the values of ``--pcr``: N=HEX.

    Raises:
        UsageError: a value has another form, or a register is given twice.
    """
    found: dict[int, bytes] = {}
    for value in values:
        match = _REGISTER.fullmatch(value)
        if match is None or int(match[1]) >= PCR_COUNT:
            raise UsageError(
                f"--pcr: expected N=HEX, N from 0 to {PCR_COUNT - 1} and {2 * PCR_BYTES} hex digits, "
                f"found {value!r:.60}",
                hint="such as --pcr 8=... with what enclavectl eif pcrs FILE prints",
            )
        index = int(match[1])
        if index in found:
            raise UsageError(f"--pcr: PCR{index} is given twice")
        found[index] = bytes.fromhex(match[2])
    return found
