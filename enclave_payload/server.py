"""The server: accepts, dials out, sends evidence, queues, refuses, and stops cleanly.

One thread for each connection reads; workers answer. Nothing here sees an opened request.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from enclave_payload.classifier import Classifier
from enclave_payload.connection import Connection, ConnectionLost
from enclave_payload.contents import SALT_BYTES, encode_key_config, key_config_digest
from enclave_payload.limits import Limits
from enclave_payload.messages import RefusalCode
from enclave_payload.nsm import Attester, NsmError
from enclave_payload.outbox import Outbox
from enclave_payload.seal import EnclaveKeys
from enclave_payload.session import (
    ChallengeReceived,
    EnclaveSession,
    Event,
    SealedReceived,
    SessionError,
    TakenReceived,
)
from enclave_payload.workers import Job, JobQueue, Worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What the server needs: its keys, what attests to them, and what answers.

    ``classifiers`` has one for each worker thread. ``dial`` connects to the parent's listener or raises
    OSError. ``log`` takes one line; it is never given a key, a picture or an answer.
    """

    keys: EnclaveKeys
    attester: Attester
    classifiers: Sequence[Classifier]
    dial: Callable[[], socket.socket]
    log: Callable[[str], None]
    limits: Limits = field(default_factory=Limits)


class Server:
    """Serves a listening stream socket from ``serve`` until ``stop``."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._card = service.classifiers[0].card
        self._outbox = Outbox(service.limits.outbox_answers, service.limits.outbox_keep_s)
        self._queue = JobQueue(service.limits)
        self._connections: set[Connection] = set()
        self._connections_lock = threading.Lock()
        self._stopping = threading.Event()
        # Sockets, not a pipe: a closed socket object fails, a closed descriptor may be another's by then.
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_write.setblocking(False)

    def stop(self) -> None:
        """Make ``serve`` return. Safe from a signal handler and from any thread, any number of times."""
        self._stopping.set()
        with contextlib.suppress(OSError):  # full of earlier calls, or serve() has returned and closed it
            self._wake_write.send(b"x")

    def serve(self, listener: socket.socket) -> None:
        """Serve until ``stop``; then answer what was taken, within the grace time, and close everything."""
        service = self._service
        threads = [
            threading.Thread(
                target=Worker(service.keys, classifier, self._outbox, service.limits).run,
                args=(self._queue, service.log),
                daemon=True,
            )
            for classifier in service.classifiers
        ]
        threads.append(threading.Thread(target=self._keep_dialing, daemon=True))
        for thread in threads:
            thread.start()
        service.log(f"serving model {self._card.model_id}")
        try:
            self._accept(listener)
        finally:
            self._stopping.set()
            self._close_all()
            service.log("stopped")

    def _close_all(self) -> None:
        deadline = time.monotonic() + self._service.limits.grace_s
        self._queue.close(self._service.limits.grace_s)
        with self._connections_lock:
            for connection in self._connections:
                connection.refuse(RefusalCode.STOPPING)
                # The grace is for all of them together: one that does not read must not hold up the end.
                with contextlib.suppress(ConnectionLost):
                    connection.flush(within_s=deadline - time.monotonic())
                connection.close()
        self._wake_write.close()
        self._wake_read.close()

    def _accept(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        while not self._stopping.is_set():
            poll.poll()
            try:
                connection = Connection(listener.accept()[0], send_s=self._service.limits.send_s)
            except BlockingIOError:
                continue
            except OSError as error:  # e.g. EMFILE, ECONNABORTED: one connection lost, not the service
                self._service.log(f"accept: {error.strerror}")
                time.sleep(0.05)
                continue
            if not self._register(connection):
                self._service.log("a connection over the limit was refused")
                connection.refuse(RefusalCode.BUSY)
                connection.release()
                continue
            try:
                threading.Thread(target=self._serve_connection, args=(connection,), daemon=True).start()
            except RuntimeError:  # no memory for a thread: this connection is lost, not the service
                self._service.log("a connection was refused: no thread can be started")
                self._unregister(connection)
                connection.refuse(RefusalCode.BUSY)
                connection.release()

    def _register(self, connection: Connection) -> bool:
        with self._connections_lock:
            # After stop() nobody would close a new one.
            if self._stopping.is_set() or len(self._connections) >= self._service.limits.connections:
                return False
            self._connections.add(connection)
            return True

    def _unregister(self, connection: Connection) -> None:
        with self._connections_lock:
            self._connections.discard(connection)

    def _serve_connection(self, connection: Connection) -> None:
        try:
            self._converse(connection, EnclaveSession(), idle_s=self._service.limits.idle_s)
        finally:
            self._unregister(connection)
            connection.release()

    def _converse(self, connection: Connection, session: EnclaveSession, *, idle_s: float | None) -> None:
        """Read until the peer leaves, breaks the protocol, or misses a deadline."""
        frame_deadline: float | None = None
        try:
            while True:
                timeout_s = idle_s if frame_deadline is None else frame_deadline - time.monotonic()
                try:
                    events = _read(connection, session, timeout_s)
                except TimeoutError:
                    if frame_deadline is None and connection.in_flight:
                        continue  # the peer waits for our answers
                    raise SessionError(RefusalCode.SLOW) from None
                if events is None:
                    return
                for event in events:
                    self._on_event(connection, session, event)
                if not session.is_mid_frame:
                    frame_deadline = None
                elif events or frame_deadline is None:
                    # Counted from a frame's first byte, so that one byte a minute does not hold a place. A
                    # peer that streams frames without a pause gets a deadline for each.
                    frame_deadline = time.monotonic() + self._service.limits.frame_s
        except SessionError as error:
            self._service.log(f"a session ended: {error.code.name}")
            connection.refuse(error.code, error.request_id)
        except ConnectionLost:
            return

    def _on_event(self, connection: Connection, session: EnclaveSession, event: Event) -> None:
        match event:
            case ChallengeReceived(nonce):
                connection.send(self._evidence(session, nonce))
                if not session.accepts_requests:
                    self._outbox.attach(connection)
            case TakenReceived(request_id):
                self._outbox.taken(request_id)
            case SealedReceived(request_id):
                connection.add_in_flight(1)
                is_over = connection.in_flight > self._service.limits.in_flight_per_connection
                if is_over or not self._queue.offer(Job(event, connection, time.monotonic())):
                    connection.add_in_flight(-1)
                    if self._stopping.is_set():
                        raise SessionError(RefusalCode.STOPPING)
                    connection.refuse(RefusalCode.BUSY, request_id)

    def _evidence(self, session: EnclaveSession, nonce: bytes) -> bytes:
        key_config = encode_key_config(self._service.keys.public, self._card, os.urandom(SALT_BYTES))
        try:
            document = self._service.attester.attest(nonce=nonce, user_data=key_config_digest(key_config))
        except NsmError as exc:
            self._service.log(f"no attestation document: {exc}")
            raise SessionError(RefusalCode.NO_EVIDENCE) from exc
        return session.evidence(document, key_config)

    def _keep_dialing(self) -> None:
        """Keep one connection to the parent's listener, send evidence there and deliver answers."""
        while not self._stopping.wait(self._service.limits.redial_s):
            try:
                connection = Connection(self._service.dial(), send_s=self._service.limits.send_s)
            except OSError:
                continue  # nobody listens, which is the normal state where `diagnose` is used
            if self._register(connection):
                self._converse_out(connection)
            connection.release()

    def _converse_out(self, connection: Connection) -> None:
        try:
            # No idle limit: a listener may wait for hours between answers.
            session = EnclaveSession(accepts_requests=False)
            self._converse(connection, session, idle_s=None)
        finally:
            self._outbox.attach(None)
            self._unregister(connection)


def _read(connection: Connection, session: EnclaveSession, timeout_s: float | None) -> list[Event] | None:
    """Return what the next bytes ask for; None at the end of the stream."""
    room = session.room()
    if room is None:
        data = connection.receive(timeout_s)
        return session.receive(data) if data else None
    with room:
        count = connection.receive_into(room, timeout_s)
    return session.filled(count) if count else None
