"""Sessions for servers: any thread hands a picture in, and one of a few sessions has it answered.

Each session is in a thread of its own, which alone uses it. Nothing of the protocol is written twice: a
thread runs ``classify`` on a ``Client``, as a command does.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from enclavectl.client.batch import Losses, Reply, classify
from enclavectl.client.exchange import VerifiedEnclave
from enclavectl.client.pictures import Picture
from enclavectl.client.session import Client
from enclavectl.errors import (
    AttestationError,
    EnclaveBusy,
    EnclavectlError,
    EnclaveError,
    PictureRefused,
    StateError,
)

# A gateway pings after 20 s, and nobody answers while a session is idle. An end of our own costs nobody time.
_MAX_IDLE_S = 15.0
# Of each session. More would wait for longer than the people who asked.
_WAITING_PER_SESSION = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolReply:
    """A reply, and the enclave on whose evidence it rests; None if there was none to ask."""

    reply: Reply
    enclave: VerifiedEnclave | None


@dataclass(frozen=True, slots=True)
class _Job:
    picture: Picture
    future: Future[PoolReply]


class ClientPool:
    """A few sessions that answer pictures of any thread. Use it in a ``with`` block.

    ``connect`` opens a session, as ``lambda: Client.connect(...)`` does; each is verified anew. Sessions are
    opened when there is work, and end after 15 s without any.
    """

    def __init__(
        self,
        connect: Callable[[], Client],
        *,
        timeout_s: float,
        sessions: int = 4,
        losses: Losses | None = None,
    ) -> None:
        """Start the threads. ``timeout_s`` bounds the wait for each answer once a picture was sent.

        A gateway takes 8 sessions of a token; an enclave works on as many pictures at once as it has CPUs.
        """
        self._connect = connect
        self._timeout_s = timeout_s
        self._losses = losses or Losses()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._left = sessions * _WAITING_PER_SESSION
        self._is_closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"enclavectl-session-{number}", daemon=True)
            for number in range(sessions)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, picture: Picture) -> Future[PoolReply]:
        """Hand a picture in. The future has the reply, or raises what ``classify`` raises.

        Raises:
            EnclaveBusy: too many pictures wait: answer your own client with 503.
            StateError: the pool is closed.
        """
        with self._lock:
            if self._is_closed:
                raise StateError("expected an open pool of sessions, found a closed one", code="pool-closed")
            if self._left == 0:
                raise EnclaveBusy(
                    "too many pictures wait for a session of this pool",
                    hint="try again later, or give the pool more sessions",
                    code="pool-full",
                )
            self._left -= 1
        job = _Job(picture, Future())
        job.future.add_done_callback(self._settled)
        self._jobs.put(job)
        return job.future

    def classify(self, picture: Picture) -> PoolReply:
        """Hand a picture in and wait for its reply. A picture that was refused has its error in the reply.

        Raises:
            AttestationError: an enclave's evidence, or an answer's receipt, was refused.
            EnclavectlError: there is no enclave, or no way to it.
        """
        return self.submit(picture).result()

    def close(self) -> None:
        """End every session once its picture is answered; those that wait raise StateError."""
        with self._lock:
            self._is_closed = True
        with suppress(queue.Empty):
            while (job := self._jobs.get_nowait()) is not None:
                job.future.set_exception(StateError("the pool of sessions was closed", code="pool-closed"))
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _settled(self, _: Future[PoolReply]) -> None:
        with self._lock:
            self._left += 1

    def _work(self) -> None:
        session = _PooledSession(self._connect, self._timeout_s, self._losses)
        while True:
            try:
                job = self._jobs.get(timeout=_MAX_IDLE_S)
            except queue.Empty:
                session.end()
                continue
            if job is None:
                session.end()
                return
            if job.future.set_running_or_notify_cancel():
                try:
                    job.future.set_result(session.answer(job.picture))
                except BaseException as error:  # noqa: BLE001 - raised where the future is waited for
                    session.end()
                    job.future.set_exception(error)


class AsyncClient:
    """The asynchronous twin of ``ClientPool``: the same sessions in threads, awaited. Use ``async with``."""

    def __init__(
        self,
        connect: Callable[[], Client],
        *,
        timeout_s: float,
        sessions: int = 4,
        losses: Losses | None = None,
    ) -> None:
        """As ``ClientPool``."""
        self._pool = ClientPool(connect, timeout_s=timeout_s, sessions=sessions, losses=losses)

    async def classify(self, picture: Picture) -> PoolReply:
        """As ``ClientPool.classify``. A picture whose task is cancelled before it was sent is not sent.

        Raises:
            EnclaveBusy: too many pictures wait.
            EnclavectlError: as ``ClientPool.classify``.
        """
        return await asyncio.wrap_future(self._pool.submit(picture))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._pool.close)


class _PooledSession:
    """The session of one thread, which is opened again where it was lost."""

    def __init__(self, connect: Callable[[], Client], timeout_s: float, losses: Losses) -> None:
        self._connect = connect
        self._timeout_s = timeout_s
        self._losses = losses
        self._client: Client | None = None

    def answer(self, picture: Picture) -> PoolReply:
        """Return the reply to a picture; connect if there is no session."""
        client = self._client or self._open()
        [reply] = classify(
            client,
            [picture],
            timeout_s=self._timeout_s,
            in_flight=1,
            renew=self._renew,
            losses=self._losses,
        )
        found = PoolReply(reply=reply, enclave=None if self._client is None else self._client.enclave)
        if isinstance(reply.error, EnclaveError) and not isinstance(reply.error, PictureRefused):
            self.end()
        return found

    def end(self) -> None:
        """Close the connection, if there is one."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _open(self) -> Client:
        self._client = self._connect()
        return self._client

    def _renew(self, _: EnclaveError) -> Client | None:
        """Connect anew; None where no enclave is left. An enclave that proves something else is an error."""
        self.end()
        try:
            return self._open()
        except AttestationError:
            raise
        except EnclavectlError:
            return None
