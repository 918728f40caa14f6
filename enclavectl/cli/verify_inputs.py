"""From the files and options of ``verify`` to the case that is judged."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from enclavectl.attestation import Policy, Release, Root, Trust, aws_nitro_root, parse_policy, root_for
from enclavectl.attestation.times import parse_moment
from enclavectl.attestation.trust import read_root
from enclavectl.attestation.verify import MIN_NONCE_BYTES
from enclavectl.cli.policy_arguments import read_policy_text
from enclavectl.errors import UsageError
from enclavectl.evidence.file import (
    MAX_BATCH_BYTES,
    MAX_EVIDENCE_FILE_BYTES,
    EvidenceCode,
    EvidenceError,
)
from enclavectl.evidence.reading import Subject, is_batch, read_receipts, read_subject
from enclavectl.evidence.verification import Case, PolicySource, Waiver
from enclavectl.files import open_regular, read_bounded, sha256_of

# As the largest picture that an enclave takes.
_MAX_PICTURE_BYTES = 16 * 1024 * 1024
_NONCE = re.compile(r"(?:0[xX])?((?:[0-9a-fA-F]{2})+)")
_SHOWN = 60  # characters of a value that is none: recognizable, and one line


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyChoice:
    """Which of the four ways to say what is enough was chosen; none of them leaves the evidence unjudged."""

    policy: Path | None
    lock: Path | None
    is_waived: bool
    is_the_provers: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFiles:
    """The files and options of one ``verify``, as they were typed."""

    file: Path
    document: Path | None
    picture: Path | None
    root: Path | None
    policy: PolicyChoice
    nonce: str | None
    at: str


def read_case(files: CaseFiles) -> Case | EvidenceError:
    """Read what is to be judged; return the error of a file that is evidence, but cannot be read.

    Raises:
        UsageError: there is no document at all, or an option or a file cannot be used.
    """
    try:
        return _case(files)
    except EvidenceError as error:
        return error


def _case(files: CaseFiles) -> Case:
    at, is_now = _time(files.at)
    nonce = _nonce(files.nonce)
    subject = _subject(files)
    if subject.document is None:
        raise UsageError(
            f"{files.file}: expected --document as well: a receipt counts only with its session's document",
            hint="enclavectl verify ANSWER.air --document EVIDENCE.json --policy POLICY.yaml",
            code="no-document",
        )
    picture = None
    if files.picture is not None:
        picture = read_bounded(files.picture, _MAX_PICTURE_BYTES, what="picture")
    given = None if files.root is None else read_root(files.root)
    policy = _policy(files.policy, subject, given or aws_nitro_root())
    # Only a policy of the verifier's own may say that nobody needs to sign.
    own = policy.policy if policy.source is PolicySource.FILE and isinstance(policy.policy, Policy) else None
    return Case(
        document=subject.document,
        root=root_for(own, given),
        policy=policy.policy,
        at=at,
        is_now=is_now,
        nonce=nonce,
        evidence=subject.evidence,
        receipts=subject.receipts,
        picture=picture,
        policy_source=policy.source,
        policy_sha256=policy.sha256,
    )


def _subject(files: CaseFiles) -> Subject:
    data = read_evidence(files.file)
    if files.document is None:
        return read_subject(data, name=str(files.file))
    other = read_subject(read_evidence(files.document), name=str(files.document))
    if other.document is None:
        raise UsageError(
            f"--document {files.document}: expected a document or an evidence file, found receipts",
            hint="name the evidence file that was kept with them",
            code="no-document",
        )
    # What stands beside a document is a receipt, whatever its bytes look like. The evidence file may hold
    # its statements. The receipt commits to them, so it does not matter which file they come from.
    kept = {one.receipt: one for one in other.receipts}
    receipts = read_receipts(data, name=str(files.file))
    return replace(other, receipts=tuple(one.completed_by(kept.get(one.receipt, one)) for one in receipts))


def read_evidence(path: Path) -> bytes:
    """Read a file of evidence, whose size is a defect of the evidence and not of the command line.

    The receipts of a batch may take more than other evidence.

    Raises:
        UsageError: there is no such file, or it cannot be read.
        EvidenceError: it is too long.
    """
    hint = "enclavectl attest NAME keeps an enclave's, and enclavectl diagnose --evidence FILE a session's"
    with open_regular(path, what="evidence", hint_if_missing=hint) as file:
        try:
            data = file.read(MAX_EVIDENCE_FILE_BYTES + 1)
            limit = MAX_BATCH_BYTES if is_batch(data) else MAX_EVIDENCE_FILE_BYTES
            data += file.read(max(limit + 1 - len(data), 0))
        except OSError as exc:
            raise UsageError(f"{path}: cannot read this evidence ({exc.strerror})") from exc
    if len(data) > limit:
        raise EvidenceError(EvidenceCode.FILE, f"{path}: expected evidence of at most {limit} bytes")
    return data


def _time(text: str) -> tuple[datetime | Literal[Waiver.DOCUMENT_TIME], bool]:
    """Return the time of judgement, and whether it is this machine's."""
    if text == "now":
        return datetime.now(UTC), True
    if text == "document":
        return Waiver.DOCUMENT_TIME, False
    try:
        return parse_moment(text), False
    except ValueError as exc:
        raise UsageError(
            f"--at {text}: expected now, document, a date, or a time with its zone",
            hint="such as --at 2026-11-24T12:00:00Z",
        ) from exc


def _nonce(text: str | None) -> bytes | Literal[Waiver.NO_NONCE]:
    if text is None:
        return Waiver.NO_NONCE
    found = _NONCE.fullmatch(text)
    if found is None or len(found[1]) < 2 * MIN_NONCE_BYTES:
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
        raise UsageError(
            f"--nonce: expected at least {MIN_NONCE_BYTES} bytes in hex, found {shown!r}",
            hint="give it as you drew it, in hex; an evidence file has it in base64",
        )
    return bytes.fromhex(found[1])


@dataclass(frozen=True, slots=True)
class _ChosenPolicy:
    """What is enough, where that was written, and the hash of the file."""

    policy: Policy | Literal[Waiver.NO_POLICY] | None
    source: PolicySource | None = None
    sha256: str | None = None


def _policy(choice: PolicyChoice, subject: Subject, root: Root) -> _ChosenPolicy:
    if choice.policy is not None:
        text = read_policy_text(choice.policy)
        policy = parse_policy(text, source=str(choice.policy))
        return _ChosenPolicy(policy, PolicySource.FILE, sha256_of([text.encode()]))
    if choice.lock is not None:
        policy, sha256 = policy_of_lock(choice.lock, root.trust)
        return _ChosenPolicy(policy, PolicySource.LOCK, sha256)
    if choice.is_the_provers:
        evidence = subject.evidence
        if evidence is None or evidence.policy is None:
            raise UsageError("--policy-from-evidence: expected an evidence file with a policy, found none")
        try:
            policy = parse_policy(evidence.policy, source="the evidence file's policy")
        except UsageError as exc:
            # It is no file of the command line's: whoever made the evidence wrote it.
            raise EvidenceError(EvidenceCode.POLICY, exc.message) from exc
        return _ChosenPolicy(policy, PolicySource.EVIDENCE, evidence.policy_sha256)
    return _ChosenPolicy(Waiver.NO_POLICY if choice.is_waived else None)


def policy_of_lock(path: Path, trust: Trust) -> tuple[Policy, str]:
    """Return the policy that accepts exactly the image of a lock, under a root of this ``trust``.

    The other value is the SHA-256 of the lock's file.

    The lock says which code is meant, and the root whose signature counts: a development root gives no more
    than ``simulated`` documents, whatever the lock is.

    Raises:
        UsageError: the file is no lock, or its registers measure nothing.
    """
    # Locks come with the readers of image files, which other command lines do not need.
    from enclavectl.artifacts.lock import LOCK_OPTION_HINT, read_lock_file  # noqa: PLC0415 - see above

    found = read_lock_file(path, hint_if_missing=LOCK_OPTION_HINT)
    pcrs = {index: value for index, value in found.lock.registers(str(path)).items() if any(value)}
    release = Release(name=f"the image of {path.name}", pcrs=pcrs)
    return Policy(accept=frozenset({trust}), releases=(release,)), found.sha256
