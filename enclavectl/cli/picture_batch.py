"""Pictures to a verified enclave, answers to the screen and the report: what `diagnose` does with a target.

A module of its own because of when it is loaded: while a local enclave boots.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from enclavectl.backends.base import Backend
from enclavectl.cli.answer_view import AnswerDrawing, draw_evidence
from enclavectl.cli.invocation import Invocation
from enclavectl.client.batch import classify
from enclavectl.client.exchange import VerifiedEnclave
from enclavectl.client.pictures import Picture, read_picture
from enclavectl.client.session import Client
from enclavectl.errors import EnclavectlError, EnclaveLost, PictureRefused
from enclavectl.files import write_atomic
from enclavectl.results.diagnosis import Diagnosis, Result, to_result
from enclavectl.results.html import render_report
from enclavectl.targets.session import explain_boot_failure, open_session
from enclavectl.targets.target import Target

# Fewer are answered before a person could read a progress line.
_PROGRESS_FROM = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Pictures by name, the enclave that gets them, and where the report goes.

    ``backend`` runs the target; None for one elsewhere. ``find_target`` finds, or starts, the enclave to use
    where the first is lost.
    """

    names: Sequence[str]
    target: Target
    backend: Backend | None
    report: Path | None
    find_target: Callable[[], Target]


def answer_pictures(invocation: Invocation, batch: Batch) -> bool:
    """Connect, verify, send, and show each answer when its turn has come; return whether one is missing.

    Raises:
        AttestationError: the evidence was refused; no picture was sent.
        EnclaveError: the enclave was lost or broke the protocol.
    """
    with ExitStack() as stack:
        if batch.backend is not None and batch.target.running is not None:
            stack.enter_context(explain_boot_failure(batch.backend, batch.target.running))
        diagnosis = _ask(invocation, batch, _Sessions(invocation, batch, stack))
    if invocation.screen.as_json:
        invocation.screen.result(diagnosis.to_json())
    else:
        draw_evidence(invocation.screen, diagnosis)
    return diagnosis.has_errors


class _Sessions:
    """The sessions of one command: the first, and further ones where the enclave is lost."""

    def __init__(self, invocation: Invocation, batch: Batch, stack: ExitStack) -> None:
        """``stack`` ends them."""
        self._screen = invocation.screen
        self._timeout_s = invocation.config.diagnose.timeout_s
        self._batch = batch
        self._stack = stack
        self.enclaves: list[VerifiedEnclave] = []

    def open(self, target: Target) -> Client:
        """Connect and verify."""
        client = self._stack.enter_context(open_session(target, self._screen, timeout_s=self._timeout_s))
        self.enclaves.append(client.enclave)
        return client

    def renew(self, error: EnclaveLost) -> Client | None:
        """Connect to an enclave in place of the lost one, and verify it; None, and a note, if that fails."""
        self._screen.note(f"{error.message}; going on with another enclave for the pictures that remain")
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


def _ask(invocation: Invocation, batch: Batch, sessions: _Sessions) -> Diagnosis:
    settings, screen, names = invocation.config.diagnose, invocation.screen, batch.names
    if not screen.as_json:
        screen.load()
    shown: list[Picture] = []
    results: dict[int, Result] = {}
    client = sessions.open(batch.target)
    enclave = client.enclave
    drawing = None if screen.as_json else AnswerDrawing(screen, enclave, settings.top)
    replies = classify(
        client,
        _read(names),
        timeout_s=settings.timeout_s,
        in_flight=settings.in_flight,
        renew=sessions.renew,
    )
    for reply in replies:
        results[reply.index] = to_result(names[reply.index], reply)
        if batch.report is not None and reply.picture is not None:
            shown.append(reply.picture)
        if drawing is not None:
            drawing.draw_ready(results)
        if len(names) >= _PROGRESS_FROM:
            screen.count("diagnosing", len(results), len(names), "pictures")
    screen.end_count()
    diagnosis = Diagnosis(
        backend=batch.target.backend,
        enclave=enclave,
        later_enclaves=sessions.enclaves[1:],
        results=[results[index] for index in range(len(names))],
    )
    if batch.report is not None:
        _write_report(batch.report, diagnosis, shown)
    return diagnosis


def _read(names: Sequence[str]) -> Iterator[Picture | PictureRefused]:
    for name in names:
        try:
            yield read_picture(name, sys.stdin.buffer.read)
        except PictureRefused as error:
            yield error


def _write_report(path: Path, diagnosis: Diagnosis, pictures: Sequence[Picture]) -> None:
    page = render_report(
        diagnosis.to_json(),
        [(picture.name, str(picture.media_type), picture.data) for picture in pictures],
        label_names=diagnosis.enclave.label_names,
    )
    write_atomic(path, page.encode())
