"""The bounded, fair queue of sealed requests and the worker threads that answer them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from enclave_payload.connection import Connection, ConnectionLost
from enclave_payload.contents import Delivery, Outcome, Request, Timings, answer_of, encode_answer
from enclave_payload.decoder import Classifier, DecoderLostError, Preempted
from enclave_payload.lane import SlowLane
from enclave_payload.limits import Limits
from enclave_payload.messages import AnswerKind, answer_frame
from enclave_payload.outbox import Outbox
from enclave_payload.receipt import Draft, ReceiptSigner
from enclave_payload.seal import EnclaveKeys, seal_answer
from enclave_payload.session import SealedReceived, SessionError, open_request
from enclave_payload.verdict import Problem


@dataclass(eq=False, slots=True)
class Job:
    """A sealed request on its way to a worker, and the seconds that it has had of workers so far.

    ``draft`` is of its receipt, from when its picture is looked at.
    """

    sealed: SealedReceived
    connection: Connection
    arrived: float
    spent_s: float = 0.0
    draft: Draft | None = None


@dataclass(slots=True)
class _Share:
    """What one connection has in the queue and has had of the workers."""

    jobs: deque[Job] = field(default_factory=deque)
    bytes: int = 0
    running: int = 0
    served_s: float = 0.0


class JobQueue:
    """Bounded in requests and in bytes, and fair between connections in the time of the workers."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        # Only connections with a job that waits or runs.
        self._shares: dict[Connection, _Share] = {}
        # The least that a connection with work has had. Who comes begins there: idling saves nothing up.
        self._clock_s = 0.0
        self._closed = False
        self._changed = threading.Condition()

    def offer(self, job: Job) -> list[Job]:
        """Queue the job; return the jobs that have no place: none, this one, or those of greedier peers.

        Who has most gives way, the last job first; of those with as much, one of whom no request has opened.
        """
        with self._changed:
            if self._closed:
                return [job]
            share = self._shares.setdefault(job.connection, _Share(served_s=self._clock_s))
            share.jobs.append(job)
            share.bytes += len(job.sealed.ciphertext)
            refused = []
            while (greediest := self._greediest()) is not None:
                refused.append(self._remove(greediest, -1))
            self._changed.notify()
            return refused

    def take(self) -> Job | None:
        """Return the next job, waiting for one; None once the queue is closed and empty.

        It is of the connection with the fewest jobs at work; of those, of the one that has had least time.
        """
        with self._changed:
            while not (waiting := [peer for peer, share in self._shares.items() if share.jobs]):
                if self._closed:
                    return None
                self._changed.wait()
            peer = min(waiting, key=lambda each: (self._shares[each].running, self._shares[each].served_s))
            share = self._shares[peer]
            self._clock_s = max(self._clock_s, share.served_s)
            share.running += 1
            return self._remove(peer, 0)

    def finished(self, job: Job) -> None:
        """Count the seconds of a taken job that has been answered or given up."""
        with self._changed:
            share = self._shares[job.connection]
            share.running -= 1
            share.served_s += job.spent_s
            self._forget_if_idle(job.connection)
            if self._closed:  # nobody else waits for the end of a job
                self._changed.notify_all()

    def has_others_than(self, peer: Connection, *, also_slow: bool) -> bool:
        """Tell whether another connection has a job that waits; with ``also_slow``, a slow connection too."""
        with self._changed:
            return any(
                share.jobs and (also_slow or not other.is_slow)
                for other, share in self._shares.items()
                if other is not peer
            )

    def close(self, grace_s: float) -> None:
        """Take no more jobs, and wait up to ``grace_s`` until those that were taken are answered."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._shares, timeout=grace_s)

    def _greediest(self) -> Connection | None:
        """Return who must give way; None while the queue is within its bounds."""
        shares = self._shares
        if sum(len(share.jobs) for share in shares.values()) > self._limits.queued_requests:
            return max(shares, key=lambda peer: (len(shares[peer].jobs), not peer.is_proven))
        if sum(share.bytes for share in shares.values()) > self._limits.queued_bytes:
            return max(shares, key=lambda peer: (shares[peer].bytes, not peer.is_proven))
        return None

    def _remove(self, peer: Connection, index: int) -> Job:
        share = self._shares[peer]
        job = share.jobs[index]
        del share.jobs[index]
        share.bytes -= len(job.sealed.ciphertext)
        self._forget_if_idle(peer)
        return job

    def _forget_if_idle(self, peer: Connection) -> None:
        share = self._shares[peer]
        if not share.jobs and not share.running:
            del self._shares[peer]


class Worker:
    """Opens a request, has it classified, signs, seals and sends the answer, one request at a time."""

    def __init__(
        self,
        keys: EnclaveKeys,
        signer: ReceiptSigner,
        classifier: Classifier,
        outbox: Outbox,
        lane: SlowLane[Job],
        limits: Limits,
    ) -> None:
        self._keys = keys
        self._signer = signer
        self._classifier = classifier
        self._outbox = outbox
        self._lane = lane
        self._limits = limits
        self._has_place = False
        self._started = 0.0

    def run(self, queue: JobQueue, tell: Callable[[str], None], stop: Callable[[], None]) -> None:
        """Work until the queue is closed; ``stop`` ends the service when no picture can be looked at."""
        while (job := queue.take()) is not None:
            turn: Job | None = job
            while turn is not None:
                self._take_turn(turn, queue, tell, stop)
                turn = self._lane.next_or_leave() if self._has_place else None
                self._has_place = turn is not None

    def _take_turn(
        self, job: Job, queue: JobQueue, tell: Callable[[str], None], stop: Callable[[], None]
    ) -> None:
        self._started = time.monotonic()
        is_over = True
        try:
            self._answer(job, lambda: self._may_stay(job, queue))
        except Preempted:
            # It is in line. A place that became free since then is ours, or the line would stand still.
            self._has_place = self._lane.enter()
            is_over = False
        except ConnectionLost:
            tell("an answer could not be sent: the peer is gone")
        except DecoderLostError as exc:
            tell(f"no picture can be looked at any more: {exc}")
            stop()
        except Exception as exc:  # noqa: BLE001 - a bug costs one connection, never a worker
            tell(f"a request failed: {type(exc).__name__}")
            job.connection.close()
        took_s = time.monotonic() - self._started
        job.spent_s += took_s
        job.connection.is_slow = took_s > self._limits.slow_s
        if is_over:
            job.connection.add_in_flight(-1)
            queue.finished(job)

    def _may_stay(self, job: Job, queue: JobQueue) -> bool:
        self._has_place = self._has_place or self._lane.enter()
        is_long = time.monotonic() - self._started > self._limits.long_s
        return self._has_place or not queue.has_others_than(job.connection, also_slow=is_long)

    def _answer(self, job: Job, may_stay: Callable[[], bool]) -> None:
        if job.connection.is_refused:
            return  # refused since: its session is over
        try:
            request = open_request(self._keys, job.sealed)
        except SessionError as error:
            job.connection.is_refused = True
            job.connection.refuse(error.code, error.request_id)
            job.connection.close()
            return
        job.connection.is_proven = True
        is_here = request.delivery is Delivery.HERE
        if is_here and job.connection.is_released:
            raise ConnectionLost  # nobody is there for the answer: the time is others'
        outcome = self._classify(request, job, may_stay)
        if is_here or outcome.problem is not None:
            job.connection.send(self._final(request, job, outcome))
        # Sealed only if there is room: a reply key seals one final answer.
        elif self._outbox.put(job.sealed.request_id, lambda: self._final(request, job, outcome)):
            # After the answer is kept, so that whoever has this may leave and loses nothing.
            job.connection.send(_sealed(request, job, AnswerKind.RECEIPT, b""))
        else:
            full = self._outcome(_timings(job), problem=Problem.OUTBOX_FULL)
            job.connection.send(self._final(request, job, full))

    def _classify(self, request: Request, job: Job, may_stay: Callable[[], bool]) -> Outcome:
        def begin_receipt() -> None:
            job.draft = self._draft(request, job)

        timings = _timings(job)
        if timings.queue_us > self._limits.queue_s * 1e6:
            return self._outcome(timings, problem=Problem.TOO_LATE)
        try:
            finding = self._classifier.classify(request.picture, request.media_type, may_stay, begin_receipt)
        except Preempted:
            # As it came: no picture waits in the clear.
            if self._lane.line_up(job, len(job.sealed.ciphertext)):
                raise
            return self._outcome(timings, problem=Problem.TOO_LATE)
        verdict = finding.verdict
        inference_us = verdict.inference_us
        timings = replace(timings, decode_us=finding.took_us - inference_us, inference_us=inference_us)
        if verdict.problem is not None:
            return self._outcome(timings, problem=verdict.problem)
        return answer_of(self._classifier.card, timings, verdict.probabilities_ppb, verdict.remarks)

    def _final(self, request: Request, job: Job, outcome: Outcome) -> bytes:
        encoded = outcome.to_cbor()
        receipt = None
        if outcome.problem is None:
            receipt = self._signer.sign(job.draft or self._draft(request, job), outcome, encoded)
        return _sealed(request, job, AnswerKind.FINAL, encode_answer(encoded, receipt))

    def _draft(self, request: Request, job: Job) -> Draft:
        return self._signer.draft(job.sealed.session, request, self._classifier.card)

    def _outcome(self, timings: Timings, *, problem: Problem) -> Outcome:
        card = self._classifier.card
        return Outcome(model_id=card.model_id, model_sha256=card.sha256, timings=timings, problem=problem)


def _timings(job: Job) -> Timings:
    waited_us = int((time.monotonic() - job.arrived) * 1e6)
    return Timings(queue_us=waited_us, decode_us=0, inference_us=0)


def _sealed(request: Request, job: Job, kind: AnswerKind, content: bytes) -> bytes:
    request_id = job.sealed.request_id
    return answer_frame(request_id, kind, seal_answer(request.reply_key, request_id, kind, content))
