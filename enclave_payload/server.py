"""The server: accepts, dials out, sends evidence, queues, refuses, and stops cleanly.

One thread, the loop, reads all connections; another makes evidence; workers answer. So a connection costs a
descriptor and what has arrived of its frame, and no thread. Nothing here sees an opened request.
"""

from __future__ import annotations

import contextlib
import queue
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from enclave_payload.connection import Connection, ConnectionLost
from enclave_payload.decoder import Classifier
from enclave_payload.evidence import EvidenceParts
from enclave_payload.heap import keep_freed_memory
from enclave_payload.lane import SlowLane
from enclave_payload.limits import MIB, Limits
from enclave_payload.messages import RefusalCode
from enclave_payload.nsm import Attester, NsmError
from enclave_payload.outbox import Outbox
from enclave_payload.places import Places
from enclave_payload.receipt import ReceiptSigner
from enclave_payload.seal import EnclaveKeys
from enclave_payload.session import (
    ChallengeReceived,
    EnclaveSession,
    Event,
    SealedReceived,
    SessionError,
    TakenReceived,
)
from enclave_payload.tally import Tally
from enclave_payload.workers import Job, JobQueue, Worker

# How late a deadline may be noticed; an idle enclave wakes as often.
_TICK_S = 0.25
# Of each thread, for the next request: a photograph of a phone, sealed and opened.
_KEPT_BYTES = 8 * MIB
# At a time, so that a crowd of peers who connect does not keep the others waiting.
_ACCEPT_BURST = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What the server needs: its keys, what attests to them, and what answers.

    ``signer`` signs the receipts of all workers; ``classifiers`` has one for each worker thread. ``dial``
    connects to the parent's listener or raises OSError. ``log`` takes one line; it is never given a key, a
    picture or an answer.
    """

    keys: EnclaveKeys
    signer: ReceiptSigner
    attester: Attester
    classifiers: Sequence[Classifier]
    dial: Callable[[], socket.socket]
    log: Callable[[str], None]
    limits: Limits = field(default_factory=Limits)


class Server:
    """Serves a listening stream socket from ``serve`` until ``stop``."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._limits = service.limits
        self._card = service.classifiers[0].card
        self._outbox = Outbox(service.limits)
        self._queue = JobQueue(service.limits)
        self._tally = Tally(service.log, service.limits.tally_s)
        self._epoll = select.epoll()
        self._places = Places(service.limits)
        self._challenges: queue.SimpleQueue[tuple[Connection, bytes] | None] = queue.SimpleQueue()
        self._dialed: queue.SimpleQueue[Connection] = queue.SimpleQueue()
        self._stopping = threading.Event()
        # Sockets, not a pipe: a closed socket object fails, a closed descriptor may be another's by then.
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)

    def stop(self) -> None:
        """Make ``serve`` return. Safe from a signal handler and from any thread, any number of times."""
        self._stopping.set()
        self._wake()

    def serve(self, listener: socket.socket) -> None:
        """Serve until ``stop``; then answer what was taken, within the grace time, and close everything."""
        service = self._service
        keep_freed_memory(_KEPT_BYTES)
        lane: SlowLane[Job] = SlowLane(len(service.classifiers), service.limits)
        workers = [
            Worker(service.keys, service.signer, classifier, self._outbox, lane, service.limits)
            for classifier in service.classifiers
        ]
        for worker in workers:
            arguments = (self._queue, self._tally.add, self.stop)
            threading.Thread(target=worker.run, args=arguments, daemon=True).start()
        for target in (self._keep_attesting, self._keep_dialing):
            threading.Thread(target=target, daemon=True).start()
        service.log(f"serving model {self._card.model_id}")
        try:
            self._loop(listener)
        finally:
            self._stopping.set()
            self._close_all()
            self._tally.tell(is_last=True)
            service.log("stopped")

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full of earlier calls, or serve() has returned and closed it
            self._wake_write.send(b"x")

    def _loop(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        self._epoll.register(listener, select.EPOLLIN)
        self._epoll.register(self._wake_read, select.EPOLLIN)
        next_sweep = 0.0
        while not self._stopping.is_set():
            ready = dict(self._epoll.poll(_TICK_S))
            for descriptor, events in ready.items():
                connection = self._places.get(descriptor)
                if connection is not None:
                    self._attend(connection, events)
            # Last, since a new connection may get the descriptor of one that has just gone.
            if self._wake_read.fileno() in ready:
                self._take_dialed()
            if listener.fileno() in ready:
                self._accept(listener)
            now = time.monotonic()
            if now >= next_sweep:
                self._sweep(now)
                next_sweep = now + _TICK_S

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_ACCEPT_BURST):
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:  # e.g. EMFILE, ECONNABORTED: one connection lost, not the service
                self._tally.add(f"accept: {error.strerror}")
                time.sleep(0.05)
                return
            connection = Connection(sock, self._epoll, EnclaveSession())
            for displaced in self._places.displaced_by_one():
                self._end(displaced, RefusalCode.BUSY)
            self._places.add(connection)
            connection.watch()

    def _take_dialed(self) -> None:
        self._wake_read.recv(4096)
        with contextlib.suppress(queue.Empty):
            while True:
                connection = self._dialed.get_nowait()
                self._places.add(connection)
                connection.watch()

    def _attend(self, connection: Connection, events: int) -> None:
        """Send and read what the connection's peer takes and brings."""
        try:
            if events & select.EPOLLOUT:
                connection.send_backlog()
            if events == select.EPOLLOUT:
                return
            received = connection.read()
            for event in received:
                self._on_event(connection, event)
        except ConnectionLost:
            self._release(connection)
        except SessionError as error:
            self._end(connection, error.code, error.request_id)
        except Exception as error:  # noqa: BLE001 - a bug costs one connection, never the loop
            self._tally.add(f"a connection failed: {type(error).__name__}")
            self._release(connection)
        else:
            for displaced in self._places.hold(connection, is_new_frame=bool(received)):
                self._end(displaced, RefusalCode.BUSY)

    def _on_event(self, connection: Connection, event: Event) -> None:
        match event:
            case ChallengeReceived(nonce):
                connection.has_challenged = True
                connection.pause()
                self._challenges.put((connection, nonce))
            case TakenReceived(request_id):
                self._outbox.taken(request_id)
            case SealedReceived():
                connection.add_in_flight(1)
                job = Job(event, connection, time.monotonic())
                is_over = connection.in_flight > self._limits.in_flight_per_connection
                for refused in [job] if is_over else self._queue.offer(job):
                    refused.connection.add_in_flight(-1)
                    refused.connection.refuse(RefusalCode.BUSY, refused.sealed.request_id)

    def _sweep(self, now: float) -> None:
        """End what is over its deadline, and tell what peers did wrong."""
        for connection in self._places.stuck(now):
            self._release(connection)
        for connection in self._places.late(now):
            self._end(connection, RefusalCode.SLOW)
        for connection in self._places.surplus():
            self._end(connection, RefusalCode.BUSY)
        self._tally.tell()

    def _end(self, connection: Connection, code: RefusalCode, request_id: bytes | None = None) -> None:
        self._tally.add(f"a session ended: {code.name}")
        connection.is_refused = True
        connection.refuse(code, request_id)
        self._release(connection)

    def _release(self, connection: Connection) -> None:
        if not connection.session.accepts_requests:
            self._outbox.attach(None)
        self._places.remove(connection)
        connection.release()

    def _keep_attesting(self) -> None:
        """Make evidence for one challenge after the other: the NSM takes one request at a time."""
        while (challenge := self._challenges.get()) is not None:
            connection, nonce = challenge
            if connection.is_released:
                continue
            try:
                connection.send(self._evidence(connection.session, nonce))
                if not connection.session.accepts_requests:
                    self._outbox.attach(connection)
                connection.resume()
            except ConnectionLost:
                continue
            except Exception as error:  # noqa: BLE001 - a failure costs one connection, never this thread
                what = str(error) if isinstance(error, NsmError) else type(error).__name__
                self._tally.add(f"no attestation document: {what}")
                connection.refuse(RefusalCode.NO_EVIDENCE)
                connection.close()

    def _evidence(self, session: EnclaveSession, nonce: bytes) -> bytes:
        service = self._service
        parts = EvidenceParts(service.keys, service.signer, service.attester, self._card)
        return parts.answer(session, nonce)

    def _keep_dialing(self) -> None:
        """Keep one connection to the parent's listener, send evidence there and deliver answers."""
        dialed: Connection | None = None
        while not self._stopping.wait(self._limits.redial_s):
            if dialed is not None and not dialed.is_released:
                continue
            try:
                sock = self._service.dial()
            except OSError:
                continue  # nobody listens, which is the normal state where `diagnose` is used
            dialed = Connection(sock, self._epoll, EnclaveSession(accepts_requests=False))
            self._dialed.put(dialed)
            self._wake()

    def _close_all(self) -> None:
        deadline = time.monotonic() + self._limits.grace_s
        self._queue.close(self._limits.grace_s)
        self._challenges.put(None)
        with contextlib.suppress(queue.Empty):
            while True:
                self._places.add(self._dialed.get_nowait())
        for connection in self._places.all():
            connection.refuse(RefusalCode.STOPPING)
            # The grace is for all of them together: one that does not read must not hold up the end.
            with contextlib.suppress(ConnectionLost):
                connection.flush(deadline - time.monotonic())
            self._release(connection)
        self._wake_write.close()
        self._wake_read.close()
        self._epoll.close()
