"""Pictures to a verified enclave, answers to the screen and the report: what `diagnose` does with a target.

A module of its own because of when it is loaded: while a local enclave boots.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from enclavectl.backends.base import Backend
from enclavectl.cli.closed_output import reason_of, says_full
from enclavectl.cli.expiry import note_expiry
from enclavectl.cli.invocation import Invocation
from enclavectl.cli.result_outputs import DrawnOutput, JsonOutput, KeptOutput, ResultOutput
from enclavectl.cli.signals import gating_interrupts, holding_interrupts_back
from enclavectl.client.batch import Losses, Reply, classify
from enclavectl.client.exchange import VerifiedEnclave
from enclavectl.client.folders import Collection
from enclavectl.client.pictures import PictureSource
from enclavectl.client.reconnection import MAX_CONNECTIONS, Reconnections
from enclavectl.client.session import Client
from enclavectl.errors import (
    EnclavectlError,
    EnclaveError,
    EnclaveLost,
    Interrupted,
    OutputClosed,
    OutputFull,
    PictureRefused,
)
from enclavectl.net.address import is_network
from enclavectl.results.diagnosis import Diagnosis, Totals, to_result
from enclavectl.targets.session import explain_boot_failure, open_session
from enclavectl.targets.target import Target

if TYPE_CHECKING:
    from enclavectl.cli.evidence_keeping import EvidenceKeeper
    from enclavectl.results.report import ReportWriter
    from enclavectl.results.results_file import ResultsFile

# Fewer pictures are answered before a person could read a progress line.
_PROGRESS_FROM = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Pictures by name and as they are read, the enclave that gets them, and where report and results go.

    ``backend`` runs the target; None for one elsewhere. ``find_target`` finds, or starts, the enclave to use
    where the first is lost.
    """

    pictures: Collection
    source: PictureSource
    target: Target
    backend: Backend | None
    report: Path | None
    keeper: EvidenceKeeper | None
    results: ResultsFile | None
    find_target: Callable[[], Target]


def show_unsent(
    invocation: Invocation,
    source: PictureSource,
    pictures: Collection,
    *,
    backend: str,
    is_kept: bool,
    results: ResultsFile | None,
) -> bool:
    """Show the results where not one picture can be sent; return whether an answer is missing.

    Each was refused, or has its result in the file already: no enclave is asked. ``is_kept`` says that a
    report or evidence was asked for.
    """
    screen = invocation.screen
    totals = Totals(pictures=len(pictures.names))
    diagnosis = Diagnosis(
        backend=backend,
        enclave=None,
        totals=totals,
        left_out=pictures.left_out,
        results_file=None if results is None else str(results.path),
    )
    if is_kept:
        screen.note("neither report nor evidence is written: no enclave was asked")
    if not screen.as_json:
        screen.load()
    output = _output(invocation, diagnosis, lists=True)
    for index, error in enumerate(source):
        if isinstance(error, PictureRefused):
            result = to_result(pictures.names[index], Reply(index=index, error=error))
            totals.count(result)
            output.add(index, result)
    _count_found(totals, results)
    output.end(diagnosis, None)
    return totals.refused > 0


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
    try:
        with _after_answer():
            if batch.keeper is not None:
                batch.keeper.finish(invocation.screen)
            if writer is not None:
                with holding_interrupts_back():  # pages get their names one after the other
                    invocation.screen.note(f"report written to {writer.finish(diagnosis.later_evidence)}")
    finally:
        if writer is not None:
            writer.discard()
    if sessions.failure is not None:
        raise sessions.failure
    return diagnosis.totals.refused > 0


class _Sessions:
    """The sessions of one command: the first, another one after each loss of the enclave, and renewals."""

    def __init__(self, invocation: Invocation, batch: Batch, stack: ExitStack) -> None:
        """Prepare the sessions; ``stack`` ends them."""
        self._screen = invocation.screen
        self._timeout_s = invocation.config.diagnose.timeout_s
        self._batch = batch
        self._stack = stack
        self._target = batch.target
        self.enclaves: list[VerifiedEnclave] = []
        self.reconnections = Reconnections()
        # Why not every picture has a result; the answers before it are as good as any.
        self.failure: EnclavectlError | None = None

    def open(self, target: Target) -> Client:
        """Connect and verify."""
        client = self._stack.enter_context(
            open_session(target, self._screen, timeout_s=self._timeout_s, reconnections=self.reconnections)
        )
        client.on_renewal = self._renewed
        self._target = target
        self._keep(client.enclave)
        if target.running is not None and (warning := target.running.warning()) is not None:
            self._screen.note(warning)
        return client

    def _renewed(self, client: Client) -> None:
        """Take note of a session that began because the certificate of the one before is ending."""
        ending = self.enclaves[-1].document.ends
        self._keep(client.enclave)
        self._screen.note(
            f"a document vouches for receipts until {ending:%H:%M:%S} UTC, so a new session began; "
            "its evidence is verified"
        )

    def _keep(self, enclave: VerifiedEnclave) -> None:
        self.enclaves.append(enclave)
        if self._batch.keeper is not None:
            self._batch.keeper.session(
                enclave.evidence,
                enclave.requested_at,
                self._target.expectation,
                lock_sha256=self._target.lock_sha256,
            )
        note_expiry(self._screen, enclave.document)

    @property
    def losses(self) -> Losses:
        """How the batch takes losses: results in a file wait there for the next command."""
        losses = Losses(are_raised=self._batch.results is not None)
        is_remote = is_network(self._batch.target.address)
        return replace(losses, per_picture=1 + MAX_CONNECTIONS) if is_remote else losses

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
    """What becomes of each reply: a result, a line in a file, a card of the report, a kept receipt."""

    def __init__(self, invocation: Invocation, batch: Batch, sessions: _Sessions) -> None:
        """Begin with the first session's enclave, which ``sessions`` has.

        Raises:
            OutputClosed, OutputFull: the line of trust cannot be written, and nothing else keeps the answers.
        """
        self._screen = invocation.screen
        self._top = invocation.asked_top
        self._batch = batch
        self._sessions = sessions
        self.enclave = sessions.enclaves[0]
        self.writer = _report_writer(batch, self.enclave)
        self.totals = Totals(pictures=len(batch.pictures.names))
        if batch.results is not None:
            batch.results.begin(self.enclave)
        try:
            self.output = _output(invocation, self.diagnosis(), lists=batch.results is None)
        except OSError as exc:
            if (lost := self._output_lost(exc)) is None:
                raise
            raise lost from exc

    def diagnosis(self) -> Diagnosis:
        """Return what is said beside the results."""
        return Diagnosis(
            backend=self._batch.target.backend,
            enclave=self.enclave,
            later_enclaves=self._sessions.enclaves[1:],
            totals=self.totals,
            left_out=self._batch.pictures.left_out,
            results_file=None if self._batch.results is None else str(self._batch.results.path),
        )

    def take(self, reply: Reply) -> None:
        """Keep and show one reply.

        Raises:
            OutputClosed, OutputFull: the answers cannot be written, nothing else keeps them, and some are
                missing.
        """
        results, names = self._batch.results, self._batch.pictures.names
        if reply.outcome is not None:
            self._sessions.reconnections.answered()
        result = to_result(names[reply.index], reply)
        if self._batch.keeper is not None:
            self._batch.keeper.receipt(reply.session, reply.receipted, reply.index)
        if results is not None:
            if isinstance(result.error, EnclaveError) and not isinstance(result.error, PictureRefused):
                self._sessions.failure = result.error  # no result: the next command asks for it again
                return
            results.add(result, self._sessions.enclaves[reply.session], top=self._top)
        self.totals.count(result)
        if self.writer is not None:
            self.writer.add(reply.index, result.to_json(self.enclave.label_names), reply.picture)
        try:
            self.output.add(reply.index, result)
        except OSError as exc:
            lost = None if self.totals.results == len(names) else self._output_lost(exc)
            if lost is None:
                raise
            raise lost from exc
        if len(names) >= _PROGRESS_FROM:
            done = self.totals.results + (0 if results is None else results.found)
            self._screen.count("diagnosing", done, len(names), "pictures", has_rate=results is not None)

    def _output_lost(self, exc: OSError) -> OutputClosed | OutputFull | None:
        found, total = self.totals.results, self.totals.pictures
        missing = f"{found} of {total} pictures have a result, the others have none"
        missing = missing if total > 1 else "the picture has no result"
        if says_full(exc):
            hint = "--results FILE keeps each answer, on a disk with room"
            return OutputFull(reason_of(exc), missing, hint=hint)
        if not isinstance(exc, BrokenPipeError):
            return None
        return OutputClosed(
            f"standard output was closed: {missing}",
            hint="--results FILE keeps each answer, and goes on without a reader",
            after_answer=True,
        )


def _ask(invocation: Invocation, batch: Batch, sessions: _Sessions) -> tuple[Diagnosis, ReportWriter | None]:
    if not invocation.screen.as_json:
        invocation.screen.load()
    client = sessions.open(batch.target)
    taking = _Taking(invocation, batch, sessions)
    try:
        _take_all(invocation, batch, sessions, client, taking)
        invocation.screen.end_count()
        _count_found(taking.totals, batch.results)
        sessions.failure = _ending(taking.totals, sessions.failure, batch.results)
        diagnosis = taking.diagnosis()
        taking.output.end(diagnosis, sessions.failure)
    except BaseException:
        if taking.writer is not None:
            taking.writer.discard()
        raise
    return diagnosis, taking.writer


def _take_all(
    invocation: Invocation, batch: Batch, sessions: _Sessions, client: Client, taking: _Taking
) -> None:
    settings = invocation.config.diagnose
    replies = classify(
        client,
        batch.source,
        timeout_s=settings.timeout_s,
        in_flight=settings.in_flight,
        renew=sessions.renew,
        losses=sessions.losses,
    )
    try:
        # Ctrl-C ends the batch with the answers so far.
        with suppress(KeyboardInterrupt), gating_interrupts() as gate:
            for reply in replies:
                with gate:
                    taking.take(reply)
        if batch.results is not None:
            batch.results.sync()  # before the answer is out, which could not say that it failed
    except EnclavectlError as error:
        if taking.totals.results == 0 or isinstance(error, OutputClosed | OutputFull):
            raise
        sessions.failure = error


def _count_found(totals: Totals, results: ResultsFile | None) -> None:
    """Add what the results file had before."""
    if results is not None:
        totals.found = results.found
        totals.answered += results.answered
        totals.refused += results.refused


def _output(invocation: Invocation, diagnosis: Diagnosis, *, lists: bool) -> ResultOutput:
    """Return where results are shown; ``lists`` says that a person sees each of them."""
    screen = invocation.screen
    if screen.as_json:
        is_kept = diagnosis.results_file is not None
        return JsonOutput(screen, diagnosis.head_json(), invocation.asked_top, is_kept=is_kept)
    if not lists:
        return KeptOutput(screen)
    return DrawnOutput(screen, diagnosis.enclave, invocation.config.diagnose.top)


def _ending(
    totals: Totals, failure: EnclavectlError | None, results: ResultsFile | None
) -> EnclavectlError | None:
    """Return what to end with, once the answer is out, if not every picture has a result."""
    if failure is None and totals.is_complete:
        return None
    error = failure or Interrupted(
        f"interrupted: {totals.results} of {totals.pictures} pictures have a result",
        hint=None if results is None else "the same command goes on with the others",
    )
    error.after_answer = True
    return error


def _report_writer(batch: Batch, enclave: VerifiedEnclave) -> ReportWriter | None:
    if batch.report is None:
        return None
    # Reports import Pillow, and few command lines ask for a report.
    from enclavectl.results.report import ReportWriter  # noqa: PLC0415 - see above

    total = len(batch.pictures.names)
    head = Diagnosis(backend=batch.target.backend, enclave=enclave, totals=Totals(pictures=total)).head_json()
    return ReportWriter(batch.report, total, head)


@contextmanager
def _after_answer() -> Iterator[None]:
    """Mark an error of the block as one after the command's JSON object."""
    try:
        yield
    except EnclavectlError as error:
        error.after_answer = True
        raise
