"""Pictures to a verified enclave, answers to the screen and the report: what `diagnose` does with a target.

A module of its own because of when it is loaded: while a local enclave boots.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from enclavectl.backends.base import Backend
from enclavectl.cli.answer_view import AnswerDrawing, draw_evidence
from enclavectl.cli.evidence_keeping import EvidenceKeeper
from enclavectl.cli.expiry import note_expiry
from enclavectl.cli.invocation import Invocation
from enclavectl.cli.screen import error_value
from enclavectl.cli.signals import holding_interrupts_back
from enclavectl.client.batch import MAX_LOSSES, Reply, classify
from enclavectl.client.exchange import VerifiedEnclave
from enclavectl.client.folders import Collection
from enclavectl.client.pictures import PictureSource
from enclavectl.client.reconnection import MAX_CONNECTIONS, Reconnections
from enclavectl.client.session import Client
from enclavectl.errors import (
    AttestationError,
    EnclavectlError,
    EnclaveError,
    EnclaveLost,
    Interrupted,
    PictureRefused,
)
from enclavectl.net.address import is_network
from enclavectl.results.diagnosis import Diagnosis, Result, to_result
from enclavectl.targets.session import explain_boot_failure, open_session
from enclavectl.targets.target import Target

if TYPE_CHECKING:
    from enclavectl.results.report import ReportWriter

# Fewer pictures are answered before a person could read a progress line.
_PROGRESS_FROM = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Pictures by name and as they are read, the enclave that gets them, and where the report goes.

    ``backend`` runs the target; None for one elsewhere. ``find_target`` finds, or starts, the enclave to use
    where the first is lost.
    """

    pictures: Collection
    source: PictureSource
    target: Target
    backend: Backend | None
    report: Path | None
    keeper: EvidenceKeeper | None
    find_target: Callable[[], Target]


def show_refused(
    invocation: Invocation, source: PictureSource, pictures: Collection, *, backend: str, is_kept: bool
) -> None:
    """Show why every picture was refused, where not one can be sent: no enclave is asked.

    ``is_kept`` says that a report or evidence was asked for.
    """
    screen = invocation.screen
    replies = [
        Reply(index=index, error=error)
        for index, error in enumerate(source)
        if isinstance(error, PictureRefused)
    ]
    results = [to_result(pictures.names[reply.index], reply) for reply in replies]
    diagnosis = Diagnosis(
        backend=backend,
        enclave=None,
        pictures=len(pictures.names),
        results=results,
        left_out=pictures.left_out,
    )
    if is_kept:
        screen.note("neither report nor evidence is written: no enclave was asked")
    if screen.as_json:
        screen.result(diagnosis.to_json())
        return
    screen.load()
    AnswerDrawing(screen, None, invocation.config.diagnose.top).draw_ready(dict(enumerate(results)))
    draw_evidence(screen, diagnosis)


def answer_pictures(invocation: Invocation, batch: Batch) -> bool:
    """Connect, verify, send, and show the answers in order; return whether one is missing.

    Answers are shown even if the batch was interrupted, and before the report is finished.

    Raises:
        AttestationError: the evidence was refused; no picture was sent.
        EnclaveError: the enclave was lost or broke the protocol.
        HostError: the disk did not take the report.
        Interrupted: not every picture has a result.
    """
    try:
        with ExitStack() as stack:
            if batch.backend is not None and batch.target.running is not None:
                stack.enter_context(explain_boot_failure(batch.backend, batch.target.running))
            sessions = _Sessions(invocation, batch, stack)
            diagnosis, writer = _ask(invocation, batch, sessions)
    except BaseException:
        if batch.keeper is not None:
            batch.keeper.finish(invocation.screen)
        raise
    ending = _ending(diagnosis, sessions.failure)
    if invocation.screen.as_json:
        error = {} if ending is None else {"error": error_value(ending)}
        invocation.screen.result({**diagnosis.to_json(top=invocation.asked_top), **error})
    else:
        draw_evidence(invocation.screen, diagnosis)
    with _after_answer():
        if batch.keeper is not None:
            batch.keeper.finish(invocation.screen)
        if writer is not None:
            invocation.screen.note(f"report written to {writer.finish(diagnosis.later_evidence)}")
    if ending is not None:
        raise ending
    return diagnosis.has_errors


class _Sessions:
    """The sessions of one command: the first, another one after each loss of the enclave, and renewals."""

    def __init__(self, invocation: Invocation, batch: Batch, stack: ExitStack) -> None:
        """Prepare the sessions; ``stack`` ends them."""
        self._screen = invocation.screen
        self._timeout_s = invocation.config.diagnose.timeout_s
        self._batch = batch
        self._stack = stack
        self._expectation = batch.target.expectation
        self.enclaves: list[VerifiedEnclave] = []
        self.reconnections = Reconnections()
        # A wrong receipt, or evidence that is refused at a renewal, ends the batch; the answers before count.
        self.failure: AttestationError | None = None

    def open(self, target: Target) -> Client:
        """Connect and verify."""
        client = self._stack.enter_context(
            open_session(target, self._screen, timeout_s=self._timeout_s, reconnections=self.reconnections)
        )
        client.on_renewal = self._renewed
        self._expectation = target.expectation
        self._keep(client.enclave)
        if target.running is not None and (warning := target.running.warning()) is not None:
            self._screen.note(warning)
        return client

    def _renewed(self, client: Client) -> None:
        """Take note of a session that began because the certificate of the one before is ending."""
        ending = self.enclaves[-1].document.chain[-1].not_after
        self._keep(client.enclave)
        self._screen.note(
            f"a document vouches for receipts until {ending:%H:%M:%S} UTC, so a new session began; "
            "its evidence is verified"
        )

    def _keep(self, enclave: VerifiedEnclave) -> None:
        self.enclaves.append(enclave)
        if self._batch.keeper is not None:
            demanded = self._expectation
            self._batch.keeper.session(enclave.evidence, enclave.requested_at, demanded.policy, demanded.root)
        note_expiry(self._screen, enclave.document)

    @property
    def max_losses(self) -> int:
        """How often a picture may be under way in a session that is lost."""
        return 1 + MAX_CONNECTIONS if is_network(self._batch.target.address) else MAX_LOSSES

    def renew(self, error: EnclaveError) -> Client | None:
        """Connect to an enclave in place of the lost one, and verify it; None, and a note, if that fails."""
        is_remote = is_network(self._batch.target.address)
        pause_s = self.reconnections.next_pause_s() if is_remote else 0.0
        if pause_s is None or (not is_remote and not isinstance(error, EnclaveLost)):
            return None
        self._screen.note(f"{error.message}; going on with another enclave for the pictures that remain")
        time.sleep(pause_s)
        try:
            client = self.open(self._batch.find_target())
        except EnclavectlError as failure:
            self._screen.note(f"there is no other enclave: {failure.message}")
            return None
        if client.enclave.card != self.enclaves[0].card:
            self._screen.note("the other enclave has another model, so it gets no picture")
            self.enclaves.pop()
            return None
        return client


class _Taking:
    """What becomes of each reply: a result, a line on the screen, a card of the report, a kept receipt."""

    def __init__(self, invocation: Invocation, batch: Batch, sessions: _Sessions) -> None:
        """Begin with the first session's enclave, which ``sessions`` has."""
        self._screen = invocation.screen
        self._batch = batch
        self._sessions = sessions
        self.enclave = sessions.enclaves[0]
        self.writer = _report_writer(batch, self.enclave)
        self._drawing = (
            None
            if self._screen.as_json
            else AnswerDrawing(self._screen, self.enclave, invocation.config.diagnose.top)
        )
        self.results: dict[int, Result] = {}

    def take(self, reply: Reply) -> None:
        """Keep and show one reply."""
        names = self._batch.pictures.names
        if reply.outcome is not None:
            self._sessions.reconnections.answered()
        result = to_result(names[reply.index], reply)
        self.results[reply.index] = result
        if self._batch.keeper is not None:
            self._batch.keeper.receipt(reply.session, reply.receipted, reply.index)
        if self.writer is not None:
            self.writer.add(reply.index, result.to_json(self.enclave.label_names), reply.picture)
        if self._drawing is not None:
            self._drawing.draw_ready(self.results)
        if len(names) >= _PROGRESS_FROM:
            self._screen.count("diagnosing", len(self.results), len(names), "pictures")

    def end(self) -> None:
        """Show what waits for a picture that has no result."""
        self._screen.end_count()
        if self._drawing is not None:
            self._drawing.draw_rest(self.results)


def _ask(invocation: Invocation, batch: Batch, sessions: _Sessions) -> tuple[Diagnosis, ReportWriter | None]:
    settings = invocation.config.diagnose
    if not invocation.screen.as_json:
        invocation.screen.load()
    client = sessions.open(batch.target)
    taking = _Taking(invocation, batch, sessions)
    replies = classify(
        client,
        batch.source,
        timeout_s=settings.timeout_s,
        in_flight=settings.in_flight,
        renew=sessions.renew,
        max_losses=sessions.max_losses,
    )
    try:
        with suppress(KeyboardInterrupt):  # Ctrl-C ends the batch with the answers so far
            for reply in replies:
                with holding_interrupts_back():
                    taking.take(reply)
    except AttestationError as error:
        if not taking.results:
            raise
        sessions.failure = error
    taking.end()
    return Diagnosis(
        backend=batch.target.backend,
        enclave=taking.enclave,
        later_enclaves=sessions.enclaves[1:],
        pictures=len(batch.pictures.names),
        results=[taking.results[index] for index in sorted(taking.results)],
        left_out=batch.pictures.left_out,
    ), taking.writer


def _ending(diagnosis: Diagnosis, failure: AttestationError | None) -> EnclavectlError | None:
    """Return what to end with, once the answer is out, if not every picture has a result."""
    if failure is None and diagnosis.is_complete:
        return None
    done, total = len(diagnosis.results), diagnosis.pictures
    error = failure or Interrupted(f"interrupted: {done} of {total} pictures have a result")
    error.after_answer = True
    return error


def _report_writer(batch: Batch, enclave: VerifiedEnclave) -> ReportWriter | None:
    if batch.report is None:
        return None
    # Reports import Pillow, and few command lines ask for a report.
    from enclavectl.results.report import ReportHead, ReportWriter  # noqa: PLC0415 - see above

    total = len(batch.pictures.names)
    head = Diagnosis(backend=batch.target.backend, enclave=enclave, pictures=total).head_json()
    return ReportWriter(batch.report, total, ReportHead(diagnosis=head, label_names=enclave.label_names))


@contextmanager
def _after_answer() -> Iterator[None]:
    """Mark an error of the block as one after the command's JSON object."""
    try:
        yield
    except EnclavectlError as error:
        error.after_answer = True
        raise
