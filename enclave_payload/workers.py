"""The bounded queue of sealed requests and the worker threads that answer them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from enclave_payload.classifier import Classifier, ModelError
from enclave_payload.connection import Connection, ConnectionLost
from enclave_payload.contents import Delivery, Outcome, Problem, Request, Timings
from enclave_payload.limits import Limits
from enclave_payload.messages import AnswerKind, answer_frame
from enclave_payload.outbox import Outbox
from enclave_payload.picture import PictureError, decode_picture
from enclave_payload.seal import EnclaveKeys, seal_answer
from enclave_payload.session import SealedReceived, SessionError, open_request


@dataclass(frozen=True, slots=True)
class Job:
    """A sealed request on its way to a worker."""

    sealed: SealedReceived
    connection: Connection
    arrived: float


class JobQueue:
    """First in, first out, bounded in requests and in bytes."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._jobs: deque[Job] = deque()
        self._bytes = 0
        self._unfinished = 0
        self._closed = False
        self._changed = threading.Condition()

    def offer(self, job: Job) -> bool:
        """Queue the job; return False if a bound would be passed or the queue is closed."""
        with self._changed:
            size = self._bytes + len(job.sealed.ciphertext)
            full = len(self._jobs) >= self._limits.queued_requests or size > self._limits.queued_bytes
            if full or self._closed:
                return False
            self._jobs.append(job)
            self._bytes = size
            self._unfinished += 1
            self._changed.notify()
            return True

    def take(self) -> Job | None:
        """Return the oldest job, waiting for one; None once the queue is closed and empty."""
        with self._changed:
            while not self._jobs:
                if self._closed:
                    return None
                self._changed.wait()
            job = self._jobs.popleft()
            self._bytes -= len(job.sealed.ciphertext)
            return job

    def finished(self) -> None:
        """Count a taken job as answered or given up."""
        with self._changed:
            self._unfinished -= 1
            self._changed.notify_all()

    def close(self, grace_s: float) -> None:
        """Take no more jobs, and wait up to ``grace_s`` until those that were taken are answered."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._unfinished == 0, timeout=grace_s)


class Worker:
    """Opens a request, decodes, classifies, seals and sends the answer, one request at a time."""

    def __init__(self, keys: EnclaveKeys, classifier: Classifier, outbox: Outbox, limits: Limits) -> None:
        self._keys = keys
        self._classifier = classifier
        self._outbox = outbox
        self._limits = limits

    def run(self, queue: JobQueue, log: Callable[[str], None]) -> None:
        """Work until the queue is closed."""
        while (job := queue.take()) is not None:
            try:
                self._answer(job)
            except ConnectionLost:
                log("an answer could not be sent: the peer is gone")
            except Exception as exc:  # noqa: BLE001 - a bug costs one connection, never a worker
                log(f"a request failed: {type(exc).__name__}")
                job.connection.close()
            finally:
                job.connection.add_in_flight(-1)
                queue.finished()

    def _answer(self, job: Job) -> None:
        try:
            request = open_request(self._keys, job.sealed)
        except SessionError as error:
            job.connection.refuse(error.code, error.request_id)
            job.connection.close()
            return
        is_out = request.delivery is Delivery.OUT
        if is_out and not self._outbox.promise():
            job.connection.send(
                _final(request, job, self._outcome(_timings(job), problem=Problem.OUTBOX_FULL))
            )
        elif is_out:
            self._answer_out(request, job)
        else:
            job.connection.send(_final(request, job, self._classify(request, job)))

    def _answer_out(self, request: Request, job: Job) -> None:
        try:
            # The receipt goes first, so that whoever sent may leave; losing it loses no answer.
            with contextlib.suppress(ConnectionLost):
                job.connection.send(_sealed(request, job, AnswerKind.RECEIPT, b""))
            frame = _final(request, job, self._classify(request, job))
        except BaseException:
            self._outbox.withdraw()
            raise
        self._outbox.deliver(job.sealed.request_id, frame)

    def _classify(self, request: Request, job: Job) -> Outcome:
        timings = _timings(job)
        if timings.queue_us > self._limits.queue_s * 1e6:
            return self._outcome(timings, problem=Problem.TOO_LATE)
        card = self._classifier.card
        started = time.perf_counter_ns()
        try:
            picture = decode_picture(
                request.picture, request.media_type, width=card.width, height=card.height
            )
            decoded = time.perf_counter_ns()
            probabilities = self._classifier.classify(picture.image)
        except PictureError as error:
            return self._outcome(timings, problem=error.problem)
        except ModelError:
            return self._outcome(timings, problem=Problem.MODEL_FAILED)
        done = time.perf_counter_ns()
        timings = Timings(
            queue_us=timings.queue_us,
            decode_us=(decoded - started) // 1000,
            inference_us=(done - decoded) // 1000,
        )
        return Outcome(
            model_id=card.model_id,
            model_sha256=card.sha256,
            timings=timings,
            probabilities_ppb=probabilities,
            remarks=picture.remarks,
        )

    def _outcome(self, timings: Timings, *, problem: Problem) -> Outcome:
        card = self._classifier.card
        return Outcome(model_id=card.model_id, model_sha256=card.sha256, timings=timings, problem=problem)


def _timings(job: Job) -> Timings:
    waited_us = int((time.monotonic() - job.arrived) * 1e6)
    return Timings(queue_us=waited_us, decode_us=0, inference_us=0)


def _final(request: Request, job: Job, outcome: Outcome) -> bytes:
    return _sealed(request, job, AnswerKind.FINAL, outcome.to_cbor())


def _sealed(request: Request, job: Job, kind: AnswerKind, content: bytes) -> bytes:
    request_id = job.sealed.request_id
    return answer_frame(request_id, kind, seal_answer(request.reply_key, request_id, kind, content))
