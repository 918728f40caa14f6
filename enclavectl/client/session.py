"""The library's front door: challenge, verify, seal, ask, open.

::

    from enclavectl.client.batch import classify
    from enclavectl.client.session import Client

    with Client.connect(address, expectation, timeout_s=30) as client:
        for reply in classify(client, pictures, timeout_s=30):
            print(reply.picture, reply.error or reply.outcome)

``address`` comes from ``enclavectl.net.address``. ``expectation`` (``enclavectl.client.exchange``) is a
policy and a root, both of ``enclavectl.attestation``. ``pictures`` come from ``enclavectl.client.pictures``.
``connect`` returns only with verified evidence; before that nothing but the challenge has been sent. Every
answer with probabilities has a signed receipt, checked before the answer is returned: ``reply.receipted``.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self

from enclavectl.client.exchange import (
    CheckedAnswer,
    Expectation,
    PendingAnswer,
    Question,
    VerifiedEnclave,
    check_same_model,
    new_challenge,
    new_request,
    open_reply,
    seal_picture,
    verify_evidence,
)
from enclavectl.client.pictures import Picture
from enclavectl.client.reconnection import Reconnections, keep_trying
from enclavectl.errors import AttestationError, EnclaveBusy, EnclaveLost, PeerProtocolError, StateError
from enclavectl.evidence import ReceiptError
from enclavectl.net.access import NO_ACCESS, Access
from enclavectl.net.address import Address, is_network
from enclavectl.net.frames import Frame, FrameStream, FrameType, WireError
from enclavectl.net.refusal import REFUSAL_BYTES, parse_refusal
from enclavectl.net.transport import open_stream
from enclavectl.protocol.answers import ANSWER_BYTES, parse_answer
from enclavectl.protocol.evidence import (
    MAX_EVIDENCE_BYTES,
    Challenge,
    Evidence,
    challenge_frame,
    parse_evidence,
)
from enclavectl.protocol.requests import Delivery, sealed_parts

# What became of a request: its id, and the answer, "busy", or None for one that comes elsewhere.
Result = tuple[bytes, CheckedAnswer | EnclaveBusy | None]

# What a peer says before it closes is there already; over a relay it takes a moment.
_LAST_WORDS_S = 1.0


@dataclass(frozen=True, slots=True)
class _Session:
    """A connection whose enclave is verified. ``ends_at`` is on the monotonic clock."""

    stream: FrameStream
    enclave: VerifiedEnclave
    ends_at: float


class Client:
    """A session with one verified enclave. Any error but a refused picture ends it.

    It belongs to the thread that first asks something: requests have an order, and answers come in any.
    Threads that work at the same time need a client each.

    ``enclave`` is what the session's evidence proved. ``on_renewal`` is called after each ``renew``.
    """

    def __init__(self, open_session: Callable[[], _Session], timeout_s: float) -> None:
        """Use ``connect``."""
        self._open_session = open_session
        session = open_session()
        self._stream = session.stream
        self._ends_at = session.ends_at
        self.enclave = session.enclave
        self.on_renewal: Callable[[Client], None] = lambda _: None
        self._timeout_s = timeout_s
        self._counter = 0
        # By request id; the question is there once the picture was sent.
        self._pending: dict[bytes, tuple[PendingAnswer, Question | None]] = {}
        self._arrived: deque[Result | ReceiptError] = deque()
        self._thread: int | None = None

    @classmethod
    def connect(
        cls,
        address: Address,
        expectation: Expectation,
        *,
        timeout_s: float,
        ready_s: float | None = None,
        access: Access = NO_ACCESS,
        reconnections: Reconnections | None = None,
    ) -> Self:
        """Open a session and verify its evidence.

        ``timeout_s`` bounds the wait for each answer, ``ready_s`` (default the same) the wait for the
        evidence, which a booting enclave sends late. An enclave of this host that is busy is tried again
        until then. For a gateway, ``access`` has what it demands, and ``reconnections`` is how often it is
        tried again.

        Raises:
            AttestationError: the evidence was refused; only the challenge was sent.
            EnclaveError: the enclave was lost, busy, or broke the protocol.
            StateError: nothing listens at ``address``.
            NetworkError: something else is in the way to the gateway.
            UsageError: the gateway refuses ``access``.
        """
        left = None if not is_network(address) else reconnections or Reconnections()

        def open_session() -> _Session:
            deadline = time.monotonic() + (timeout_s if ready_s is None else ready_s)
            return keep_trying(
                lambda: _open(address, access, expectation, deadline, timeout_s), deadline, left
            )

        return cls(open_session, timeout_s)

    @property
    def is_ending(self) -> bool:
        """True if the session is to be renewed: its document soon vouches for no more receipts."""
        return time.monotonic() >= self._ends_at

    def renew(self) -> None:
        """End the session, open another one at the same address, and verify it as the first.

        Nothing may be under way. ``enclave`` is then that of the new session. After an error the client is of
        no more use.

        Raises:
            AttestationError: the evidence was refused, or is of another model than the session's.
            EnclavectlError: as ``connect``.
            StateError: another thread uses the session, or an answer is under way.
        """
        self._require_own_thread()
        if self._pending or self._arrived:
            raise StateError(
                "expected a session without a request under way, found one that waits for answers",
                hint="call next_answer until every answer is there, then renew",
                code="answers-under-way",
            )
        self._stream.close()
        session = self._open_session()
        self._stream, self._ends_at, self._counter = session.stream, session.ends_at, 0
        check_same_model(self.enclave.card, session.enclave.card)
        self.enclave = session.enclave
        self.on_renewal(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._stream.close()

    def prepare(self, picture: Picture) -> PendingAnswer:
        """Prepare the session's next request: its id and the key to its answer. Nothing is sent.

        Raises:
            StateError: another thread uses the session.
        """
        self._require_own_thread()
        pending = new_request(self.enclave, self._counter, picture)
        self._counter += 1
        return pending

    def submit(self, picture: Picture, pending: PendingAnswer, delivery: Delivery = Delivery.HERE) -> None:
        """Seal and send the picture of ``prepare``; ``next_answer`` returns the enclave's answer.

        Requests are submitted in the order in which they were prepared.

        Raises:
            EnclaveError: the enclave was lost; if it said why, that is the error.
            StateError: another thread uses the session.
        """
        self._require_own_thread()
        deadline = time.monotonic() + self._timeout_s
        sealed = seal_picture(self.enclave, pending, picture, delivery)
        self._pending[pending.request_id] = pending, None
        try:
            self._stream.send(*sealed_parts(sealed), deadline=deadline)
        except EnclaveLost:
            self._read_last_words(deadline)
            raise
        self._pending[pending.request_id] = pending, Question.of(pending)

    def next_answer(self, deadline: float) -> Result:
        """Receive a request's id and its result: an answer, "busy", or None for one that comes elsewhere.

        ``deadline`` is on the monotonic clock.

        Raises:
            EnclaveError: the enclave was lost, refused the session, or answered what we did not ask.
            ReceiptError: the answer's receipt is missing or wrong; the answer is not to be used.
            StateError: another thread uses the session.
        """
        self._require_own_thread()
        if not self._arrived:
            return self._result_in(self._stream.receive(deadline))
        result = self._arrived.popleft()
        if isinstance(result, ReceiptError):
            raise result
        return result

    def _result_in(self, frame: Frame) -> Result:
        try:
            if frame.type is FrameType.REFUSAL:
                refusal = parse_refusal(frame.body)
                error = self._stream.refusal(refusal)
                if isinstance(error, EnclaveBusy) and self._pending.pop(refusal.request_id, None) is not None:
                    return refusal.request_id, error
                raise error
            answer = parse_answer(frame.body)
        except WireError as exc:
            raise PeerProtocolError(f"the enclave's answer cannot be read ({exc})") from exc
        asked = self._pending.pop(answer.request_id, None)
        if asked is None:
            raise PeerProtocolError("the enclave answered a request that is not under way")
        pending, question = asked
        return answer.request_id, open_reply(pending, answer, self.enclave.session_evidence, question)

    def _require_own_thread(self) -> None:
        thread = threading.get_ident()
        if self._thread is None:
            self._thread = thread
        if self._thread != thread:
            raise StateError(
                "expected a session of this thread's own, found one that another thread uses",
                hint="give each thread its own Client.connect(...)",
                code="other-thread",
            )

    def _read_last_words(self, deadline: float) -> None:
        """Keep the answers that came before the enclave stopped reading, and raise what it said of the end.

        Each is of another request under way, so they are no more than those. A wrong receipt waits for its
        turn: the answers before it count.

        Raises:
            EnclaveError: the enclave refused the session, or answered what we did not ask.
        """
        deadline = min(deadline, time.monotonic() + _LAST_WORDS_S)
        while True:
            try:
                frame = self._stream.receive(deadline)
            except EnclaveLost:
                return  # it said nothing: that it stopped reading is all there is to report
            try:
                self._arrived.append(self._result_in(frame))
            except ReceiptError as error:
                self._arrived.append(error)
                return


def _open(
    address: Address, access: Access, expectation: Expectation, deadline: float, timeout_s: float
) -> _Session:
    left_s = max(deadline - time.monotonic(), 0.001)
    stream = FrameStream(
        open_stream(address, left_s, access), f"the enclave at {address}", is_remote=is_network(address)
    )
    try:
        enclave = request_evidence(stream, expectation, deadline)
    except BaseException:
        stream.close()
        raise
    stream.accept({FrameType.ANSWER: ANSWER_BYTES, FrameType.REFUSAL: REFUSAL_BYTES})
    # Both times are of the hypervisor's clock: what this host's says does not matter.
    left = enclave.document.ends - enclave.document.timestamp
    ends_at = time.monotonic() + usable_s(left, timeout_s)
    return _Session(stream, enclave, ends_at)


def usable_s(left: timedelta, timeout_s: float) -> float:
    """Return for how long pictures may be sent, where the document's leaf certificate has ``left`` to live.

    Receipts count until it ends. An answer may take ``timeout_s``; where the certificate ends sooner than two
    of those, half of its time is for the answers.
    """
    left_s = max(left.total_seconds(), 0.0)
    return left_s - min(timeout_s, left_s / 2)


def request_evidence(stream: FrameStream, expectation: Expectation, deadline: float) -> VerifiedEnclave:
    """Challenge whoever is at the other end, and return only if its evidence passes, by ``deadline``.

    Raises:
        AttestationError: the evidence was refused, or there is none.
        EnclaveError: the peer was lost or broke the protocol.
    """
    challenge, requested_at = new_challenge(), datetime.now(UTC)
    evidence = receive_evidence(stream, challenge, deadline)
    now = datetime.now(UTC)
    return verify_evidence(challenge, evidence, expectation, now, requested_at=requested_at)


def receive_evidence(stream: FrameStream, challenge: Challenge, deadline: float) -> Evidence:
    """Send the challenge, and return the evidence that answers it; nothing is judged.

    Raises:
        AttestationError: what answers is no evidence.
        EnclaveError: the peer was lost or broke the protocol.
    """
    stream.accept({FrameType.EVIDENCE: MAX_EVIDENCE_BYTES, FrameType.REFUSAL: REFUSAL_BYTES})
    with suppress(EnclaveLost):  # an enclave that is busy closes at once: it says so in what comes next
        stream.send(challenge_frame(challenge), deadline=deadline)
    frame = stream.receive(deadline)
    if frame.type is FrameType.REFUSAL:
        raise stream.refusal_in(frame)
    try:
        return parse_evidence(frame.body)
    except WireError as exc:
        raise AttestationError(
            f"the evidence cannot be read ({exc})",
            hint="is this the enclave's port, and does it run a payload of this release?",
            code="evidence-form",
        ) from exc
