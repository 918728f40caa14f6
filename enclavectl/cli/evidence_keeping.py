"""``--evidence``: what diagnose, send and listen keep of their sessions and of their answers' receipts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from enclavectl.attestation import render_policy
from enclavectl.attestation.emulated import unproven_claims
from enclavectl.cli.counting import counted
from enclavectl.cli.policy_arguments import read_policy_text
from enclavectl.cli.screen import Screen
from enclavectl.client.exchange import Expectation
from enclavectl.errors import UsageError
from enclavectl.evidence import EvidenceFile, KeptReceipt, Receipted, RootName
from enclavectl.evidence.file import receipt_line
from enclavectl.evidence.keeping import (
    append_line,
    check_new,
    receipts_path,
    session_path,
    write_evidence,
)
from enclavectl.protocol.evidence import Evidence

# A document with its keys and a small card.
_LEAST_BYTES = 1 << 14
_STATEMENTS_NOTE = (
    "--include-statements: the evidence will hold the answers, and whoever has it can test whether a picture "
    "that they know was the one; keep it as you keep the pictures"
)


def prepare_keeper(
    screen: Screen, path: Path | None, *, include_statements: bool, policy: Path | None, is_single: bool
) -> EvidenceKeeper | None:
    """Check that evidence can be kept, before anything is sent; None if it was not asked for.

    ``policy`` is the file that the session's enclave is held to, if there is one. ``is_single`` says that one
    answer is expected: its receipt then goes into the evidence file.

    Raises:
        UsageError: a file is there already, or cannot be written.
    """
    if path is None:
        if include_statements:
            raise UsageError("--include-statements: expected --evidence FILE as well")
        return None
    # The second session's too: hours later it is too late to say that its name is taken, or too long.
    for number in (0, 1):  # the path itself first: of a folder no second name can be made
        one = session_path(path, number)
        check_new("--evidence", one, _LEAST_BYTES)
        check_new("--evidence", receipts_path(one))
    text = None if policy is None else read_policy_text(policy)
    if include_statements:
        screen.note(_STATEMENTS_NOTE)
    return EvidenceKeeper(
        path=path, include_statements=include_statements, policy_text=text, is_single=is_single
    )


@dataclass(slots=True, kw_only=True)
class EvidenceKeeper:
    """Keeps one evidence file a session, and the receipts of several answers as lines in a file beside it.

    The second session's file is ``FILE-2``, and so on.
    """

    path: Path
    include_statements: bool
    policy_text: str | None
    is_single: bool
    _sessions: list[EvidenceFile] = field(default_factory=list, init=False)
    _numbers: dict[bytes, int] = field(default_factory=dict, init=False)
    _receipts: dict[int, int] = field(default_factory=dict, init=False)

    @property
    def first_paths(self) -> tuple[Path, Path]:
        """The files of the first session's evidence and of its receipts."""
        return self.path, receipts_path(self.path)

    def session(
        self,
        evidence: Evidence,
        requested_at: datetime,
        expectation: Expectation,
        *,
        lock_sha256: str | None,
    ) -> int:
        """Keep a session's evidence, and return its number; a session that is kept already has its old one.

        ``lock_sha256`` is of the lock that the enclave's image was launched with, None if that is not known.

        Raises:
            HostError: the file system refused.
        """
        known = self._numbers.get(sha256(evidence.document).digest())
        if known is not None:
            return known
        text = render_policy(expectation.policy) if self.policy_text is None else self.policy_text
        nonce = unproven_claims(evidence.document).nonce
        kept = EvidenceFile(
            document=evidence.document,
            key_config=evidence.key_config,
            nonce=nonce or b"",
            requested_at=requested_at,
            root=RootName.of(expectation.root),
            lock_sha256=lock_sha256,
            policy=text,
            policy_sha256=sha256(text.encode()).hexdigest(),
        )
        number = len(self._sessions)
        # First of all: what could not be written is not kept, and ``finish`` must not say so.
        if not self.is_single:
            write_evidence(self._path(number), kept)
        self._numbers[sha256(evidence.document).digest()] = number
        self._sessions.append(kept)
        return number

    def receipt(self, session: int, receipted: Receipted | None, index: int) -> None:
        """Keep the receipt of the answer at ``index``; an answer without one has nothing to keep.

        Raises:
            HostError: the file system refused.
        """
        if receipted is None:
            return
        kept = KeptReceipt(receipt=receipted.receipt)
        if self.include_statements:
            kept = replace(
                kept,
                request_statement=receipted.request_statement,
                answer_statement=receipted.answer_statement,
            )
        count = self._receipts.get(session, 0)
        if self.is_single:
            found = self._sessions[session]
            self._sessions[session] = replace(found, receipts=(*found.receipts, kept))
        else:
            append_line(receipts_path(self._path(session)), receipt_line(kept, index), is_first=count == 0)
        self._receipts[session] = count + 1

    def finish(self, screen: Screen) -> None:
        """Write what waits for its receipt, and say where everything is.

        Raises:
            HostError: the file system refused.
        """
        for number, kept in enumerate(self._sessions):
            path = self._path(number)
            if self.is_single:
                write_evidence(path, kept)
            count = self._receipts.get(number, 0)
            beside = (
                f", {counted(count, 'receipt')} in {receipts_path(path)}"
                if count and not self.is_single
                else ""
            )
            screen.note(f"evidence kept in {path}{beside}")
        self._sessions.clear()

    def _path(self, number: int) -> Path:
        return session_path(self.path, number)
