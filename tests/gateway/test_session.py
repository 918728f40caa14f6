"""A session between two ends of a test's own, with a clock of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from websockets.frames import CloseCode

from enclave_payload.messages import ANSWER_BYTES
from enclave_payload.wire import encode_frame
from enclavectl.config.gateway import GatewayConfig
from enclavectl.gateway.admission import ANONYMOUS, Admission
from enclavectl.gateway.routing import Destination, Enclave, Health
from enclavectl.gateway.session import Guest, Session, SessionContext, Stage
from enclavectl.gateway.tally import Carrier, Outcome, Tally
from enclavectl.net.address import UnixAddress
from enclavectl.net.carriage import FrameType, RefusalCode, encode_challenge, refusal_frame
from tests.gateway.limits import gateway_limits

CHALLENGE = encode_challenge(bytes(32))
EVIDENCE = encode_frame(FrameType.EVIDENCE, b"e" * 100)
ANSWER = encode_frame(FrameType.ANSWER, bytes(ANSWER_BYTES))
SEALED = encode_frame(FrameType.SEALED, b"s" * 1000)
LIMITS = gateway_limits()


class End:
    """One side, as the session sees it."""

    def __init__(self) -> None:
        self.sent = b""
        self.is_held = False
        self.code: int | None = None
        self.is_aborted = False

    def send(self, data: bytes) -> None:
        self.sent += data

    def hold(self, *, is_held: bool) -> None:
        self.is_held = is_held

    def close(self, last: bytes = b"", code: int = CloseCode.NORMAL_CLOSURE) -> None:
        self.sent += last
        self.code = code

    def abort(self) -> None:
        self.is_aborted = True


@dataclass
class Stand:
    """A session with its two ends; ``now`` is its clock."""

    limits: GatewayConfig = LIMITS
    now: float = 1000.0
    outcome: Outcome | None = None
    routed: list[Session] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.client, self.link, self.tally = End(), End(), Tally()
        destination = Destination(name="one", address=UnixAddress(Path("/x")), release="r")
        self.enclave = Enclave(destination=destination, health=Health.UP)
        self.admission = Admission(self.limits)
        context = SessionContext(
            limits=self.limits,
            tally=self.tally,
            clock=lambda: self.now,
            route=self.routed.append,
            ended=self.end,
        )
        guest = Guest(carrier=Carrier.FRAMES, identity=ANONYMOUS, address="192.0.2.1")
        self.session = Session(context, self.client, guest)

    def end(self, _session: Session, outcome: Outcome) -> None:
        assert self.outcome is None, "a session ends once"
        self.outcome = outcome

    @property
    def has_ended(self) -> bool:
        return self.outcome is not None

    def open(self) -> None:
        """As far as the evidence."""
        self.session.from_client(CHALLENGE)
        self.session.admitted(self.admission.enter(ANONYMOUS, "192.0.2.1"))
        self.session.connected(self.enclave, self.link)
        self.session.from_enclave(EVIDENCE)
        self.client.sent = b""
        self.link.sent = b""

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.session.check(self.now)


@pytest.fixture
def stand() -> Stand:
    return Stand()


@pytest.fixture
def opened() -> Stand:
    stand = Stand()
    stand.open()
    return stand


def test_no_enclave_is_taken_before_the_challenge_is_whole(stand: Stand) -> None:
    for byte in CHALLENGE[:-1]:
        stand.session.from_client(bytes([byte]))
        assert not stand.routed
    stand.session.from_client(CHALLENGE[-1:])
    assert stand.routed == [stand.session]
    assert stand.client.is_held
    stand.session.connected(stand.enclave, stand.link)
    assert stand.link.sent == CHALLENGE
    assert not stand.client.is_held


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n", CHALLENGE + b"x", SEALED])
def test_other_bytes_in_place_of_a_challenge_reach_no_enclave(stand: Stand, data: bytes) -> None:
    stand.session.from_client(data)
    assert not stand.routed
    assert stand.client.sent == refusal_frame(RefusalCode.PROTOCOL)
    assert (stand.outcome, stand.client.code) == (Outcome.PROTOCOL, CloseCode.POLICY_VIOLATION)


def test_nothing_may_come_before_the_evidence(stand: Stand) -> None:
    stand.session.from_client(CHALLENGE)
    stand.session.connected(stand.enclave, stand.link)
    stand.session.from_client(SEALED)
    assert stand.outcome is Outcome.PROTOCOL
    assert stand.link.sent == CHALLENGE


def test_requests_and_answers_are_counted_and_passed_on(opened: Stand) -> None:
    opened.session.from_client(SEALED + SEALED)
    assert (opened.link.sent, opened.session.in_flight, opened.enclave.in_flight) == (SEALED * 2, 2, 2)
    opened.now += 0.5
    opened.session.from_enclave(ANSWER)
    assert (opened.client.sent, opened.session.in_flight, opened.enclave.in_flight) == (ANSWER, 1, 1)
    opened.session.from_enclave(refusal_frame(RefusalCode.BUSY))
    assert opened.session.in_flight == 0
    assert opened.tally.refusals == {("enclave", "busy"): 1}
    assert opened.tally.request_seconds["r"].sum == 0.5


def test_a_client_that_leaves_ends_the_enclaves_half(opened: Stand) -> None:
    opened.session.from_client(SEALED)
    opened.session.from_enclave(ANSWER)
    opened.session.client_lost()
    assert (opened.outcome, opened.link.is_aborted) == (Outcome.SERVED, True)
    assert (opened.enclave.sessions, opened.admission.count) == (0, 0)


def test_a_client_that_leaves_in_between_gives_its_requests_back(opened: Stand) -> None:
    opened.session.from_client(SEALED)
    opened.session.client_lost()
    assert (opened.outcome, opened.enclave.in_flight) == (Outcome.LEFT, 0)


def test_an_enclave_that_ends_is_suspected_and_its_client_hears_it(opened: Stand) -> None:
    opened.session.enclave_lost()
    assert opened.client.sent == refusal_frame(RefusalCode.STOPPING)
    assert (opened.outcome, opened.client.code) == (Outcome.ENCLAVE_ENDED, CloseCode.SERVICE_RESTART)
    assert opened.enclave.health is Health.DOWN


def test_no_refusal_is_put_into_the_middle_of_an_answer(opened: Stand) -> None:
    opened.session.from_client(SEALED)
    opened.session.from_enclave(ANSWER[:100])
    opened.session.enclave_lost()
    assert opened.client.sent == ANSWER[:100]
    assert opened.client.code == CloseCode.SERVICE_RESTART


def test_an_enclave_that_has_refused_is_not_suspected(opened: Stand) -> None:
    opened.session.from_enclave(refusal_frame(RefusalCode.SLOW))
    opened.session.enclave_lost()
    assert opened.client.sent == refusal_frame(RefusalCode.SLOW)
    assert (opened.outcome, opened.enclave.health) == (Outcome.ENCLAVE_REFUSED, Health.UP)


@pytest.mark.parametrize(
    ("seconds", "ends"), [(LIMITS.first_frame_s, False), (LIMITS.first_frame_s + 0.1, True)]
)
def test_a_challenge_has_its_time(stand: Stand, seconds: float, ends: bool) -> None:
    stand.session.from_client(CHALLENGE[:-1])
    stand.pass_time(seconds)
    assert (stand.outcome is Outcome.SLOW) is ends


@pytest.mark.parametrize(("seconds", "ends"), [(LIMITS.idle_s, False), (LIMITS.idle_s + 0.1, True)])
def test_an_idle_session_has_its_time(opened: Stand, seconds: float, ends: bool) -> None:
    opened.pass_time(seconds)
    assert (opened.outcome is Outcome.SLOW) is ends


@pytest.mark.parametrize(("per_second", "ends"), [(LIMITS.frame_rate, False), (LIMITS.frame_rate // 2, True)])
def test_a_frame_keeps_its_rate_after_its_grace(opened: Stand, per_second: int, ends: bool) -> None:
    opened.session.from_client(b"\x00\x40\x00\x00\x03")
    for _ in range(15):
        opened.pass_time(1.0)
        opened.session.from_client(b"s" * per_second)
    assert (opened.outcome is Outcome.SLOW) is ends


@pytest.mark.parametrize(
    ("seconds", "ends"), [(LIMITS.frame_grace_s, False), (LIMITS.frame_grace_s + 0.1, True)]
)
def test_a_frame_that_stands_still_has_its_grace(opened: Stand, seconds: float, ends: bool) -> None:
    opened.session.from_client(SEALED[:500])
    opened.pass_time(seconds)
    assert (opened.outcome is Outcome.SLOW) is ends


def test_a_frame_ends_within_its_time(opened: Stand) -> None:
    opened.session.from_client(b"\x00\x40\x00\x00\x03")
    for _ in range(int(LIMITS.frame_s)):
        opened.pass_time(1.0)
        opened.session.from_client(b"s" * 2 * LIMITS.frame_rate)
    assert not opened.has_ended
    opened.pass_time(0.1)
    assert opened.outcome is Outcome.SLOW
    assert opened.client.sent == refusal_frame(RefusalCode.SLOW)


def test_time_in_which_the_gateway_did_not_read_is_not_the_clients(opened: Stand) -> None:
    opened.session.from_client(SEALED[:500])
    opened.session.enclave_can_write(is_full=True)
    opened.pass_time(LIMITS.write_s)
    opened.session.enclave_can_write(is_full=False)
    opened.pass_time(LIMITS.frame_grace_s)
    assert not opened.has_ended


@pytest.mark.parametrize(("seconds", "ends"), [(LIMITS.write_s, False), (LIMITS.write_s + 0.1, True)])
def test_an_enclave_that_does_not_read_is_given_up(opened: Stand, seconds: float, ends: bool) -> None:
    opened.session.enclave_can_write(is_full=True)
    assert opened.client.is_held
    opened.pass_time(seconds)
    assert (opened.outcome is Outcome.ENCLAVE_ENDED) is ends
    assert (opened.client.sent == refusal_frame(RefusalCode.BUSY)) is ends
    assert (opened.enclave.health is Health.DOWN) is ends


@pytest.mark.parametrize(("seconds", "ends"), [(LIMITS.write_s, False), (LIMITS.write_s + 0.1, True)])
def test_a_client_that_does_not_read_is_given_up(opened: Stand, seconds: float, ends: bool) -> None:
    opened.session.client_can_write(is_full=True)
    assert opened.link.is_held
    opened.pass_time(seconds)
    assert (opened.client.is_aborted, opened.link.is_aborted) == (ends, ends)
    assert (opened.outcome is Outcome.SLOW) is ends


def test_a_client_over_its_rate_waits_and_loses_nothing(opened: Stand) -> None:
    held = []
    for count, seconds in ((LIMITS.requests_burst, 0.0), (50, 0.0), (0, 0.4), (0, 0.11)):
        opened.session.from_client(SEALED * count)
        opened.pass_time(seconds)
        held.append(opened.client.is_held)
    assert held == [False, True, True, False]
    assert opened.link.sent == SEALED * (LIMITS.requests_burst + 50)


def test_a_drain_waits_for_the_answers_of_what_was_passed_on(opened: Stand) -> None:
    opened.session.from_client(SEALED + SEALED[:400])
    opened.session.drain()
    opened.session.from_client(SEALED[400:] + SEALED)
    assert opened.link.sent == SEALED * 2
    opened.session.from_enclave(ANSWER)
    assert not opened.has_ended
    opened.session.from_enclave(ANSWER)
    assert opened.client.sent == ANSWER * 2 + refusal_frame(RefusalCode.STOPPING)
    assert (opened.outcome, opened.client.code) == (Outcome.STOPPING, CloseCode.SERVICE_RESTART)


def test_a_drain_ends_what_has_nothing_under_way_at_once(opened: Stand) -> None:
    opened.session.drain()
    assert opened.outcome is Outcome.STOPPING


@pytest.mark.parametrize(("seconds", "ends"), [(LIMITS.session_s, False), (LIMITS.session_s + 0.1, True)])
def test_a_session_is_drained_at_its_age(seconds: float, ends: bool) -> None:
    stand = Stand(gateway_limits(idle_s=2 * LIMITS.session_s))
    stand.open()
    stand.session.from_client(SEALED)
    stand.pass_time(seconds)
    assert not stand.has_ended
    stand.session.from_enclave(ANSWER)
    assert (stand.outcome is Outcome.STOPPING) is ends


def test_an_enclave_that_breaks_the_protocol_ends_the_session(opened: Stand) -> None:
    opened.session.from_enclave(b"HTTP/1.1 200 OK\r\n")
    assert opened.client.sent == b""
    assert (opened.outcome, opened.client.code) == (Outcome.ENCLAVE_ENDED, CloseCode.INTERNAL_ERROR)


def test_a_client_that_left_while_its_enclave_was_connected_takes_no_place(stand: Stand) -> None:
    stand.session.from_client(CHALLENGE)
    stand.session.client_lost()
    stand.session.connected(stand.enclave, stand.link)
    assert stand.session.stage is Stage.ENDED
    assert (stand.link.is_aborted, stand.enclave.sessions) == (True, 0)
