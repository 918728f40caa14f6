"""Answers that leave by the connection that the enclave dials to its parent's listener."""

from pathlib import Path

from enclave_payload.contents import Delivery
from enclave_payload.limits import Limits
from enclave_payload.messages import AnswerKind, Challenge, RefusalCode, request_id
from enclave_payload.verdict import Problem
from enclave_payload.wire import FrameType
from enclavectl.net.refusal import parse_refusal
from enclavectl.protocol.answers import taken_frame
from enclavectl.protocol.evidence import challenge_frame
from enclavectl.protocol.sealing import open_answer
from tests.payload.serving import (
    BREAKS_THE_CLASSIFIER,
    NONCE,
    Peer,
    listening,
    opened,
    picture_of,
    redness,
    reply_key,
    serving,
)

SOON = Limits(redial_s=0.02)


def ask_out(peer: Peer, counter: int, red: int = 255) -> None:
    """Send a picture whose answer shall go out, and take the receipt."""
    peer.ask(counter, red, delivery=Delivery.OUT)
    receipt = peer.next_answer()
    assert receipt.kind is AnswerKind.RECEIPT
    assert receipt.request_id == request_id(peer.session_id, counter)
    assert open_answer(reply_key(counter), receipt.request_id, receipt.kind, receipt.ciphertext) == b""


def test_the_enclave_proves_itself_to_the_listener_too(tmp_path: Path) -> None:
    with listening(tmp_path) as accept, serving(tmp_path, limits=SOON), accept() as listener:
        assert listener.challenge().evidence.document.startswith(NONCE)


def test_the_receipt_comes_here_and_the_answer_goes_out(tmp_path: Path) -> None:
    with (
        listening(tmp_path) as accept,
        serving(tmp_path, limits=SOON) as server,
        accept() as listener,
        server.connect() as peer,
    ):
        listener.challenge()
        peer.challenge()
        ask_out(peer, 0, red=102)
        answer = listener.next_answer()
        assert answer.request_id == request_id(peer.session_id, 0)
        assert opened(answer)[1].probabilities_ppb == redness(102)
        assert peer.is_served(1)  # and a request for here is answered here


def test_answers_wait_for_a_listener_in_order(tmp_path: Path) -> None:
    with serving(tmp_path, limits=SOON) as server:
        with server.connect() as peer:
            peer.challenge()
            for counter in range(5):
                ask_out(peer, counter)
        with listening(tmp_path) as accept, accept() as listener:
            listener.challenge()
            assert [listener.next_outcome()[0] for _ in range(5)] == [0, 1, 2, 3, 4]


def test_nothing_goes_to_a_listener_that_has_not_challenged(tmp_path: Path) -> None:
    with serving(tmp_path, limits=SOON) as server, server.connect() as peer:
        peer.challenge()
        ask_out(peer, 0)
        with listening(tmp_path) as accept:
            with accept() as rude:
                rude.send(b"GET / HTTP/1.1\r\n")
                rude.assert_ended(RefusalCode.PROTOCOL)
            with accept() as listener:
                assert listener.challenge().next_outcome()[0] == 0


def test_what_a_listener_has_not_taken_comes_to_the_next_and_what_it_has_does_not(tmp_path: Path) -> None:
    with listening(tmp_path) as accept, serving(tmp_path, limits=SOON) as server, server.connect() as peer:
        peer.challenge()
        for counter in range(3):
            ask_out(peer, counter)
        with accept() as first:
            first.challenge()
            assert [first.next_outcome()[0] for _ in range(3)] == [0, 1, 2]
            first.send(taken_frame(request_id(peer.session_id, 1)))
            first.send(taken_frame(bytes(24)))  # unknown, or taken before: no error
            ask_out(peer, 3)
            assert first.next_outcome()[0] == 3
        with accept() as second:
            second.challenge()
            assert [second.next_outcome()[0] for _ in range(3)] == [0, 2, 3]


def test_an_answer_that_nobody_takes_makes_room_after_its_time(tmp_path: Path) -> None:
    limits = Limits(outbox_answers=1, outbox_keep_s=0.0, redial_s=0.02)
    with serving(tmp_path, limits=limits) as server, server.connect() as peer:
        peer.challenge()
        for counter in range(3):
            ask_out(peer, counter)


def test_a_listener_may_not_ask(tmp_path: Path) -> None:
    with listening(tmp_path) as accept, serving(tmp_path, limits=SOON), accept() as listener:
        listener.challenge().ask(0)
        listener.assert_ended(RefusalCode.PROTOCOL)


def test_over_the_outbox_is_refused_here_and_told_so(tmp_path: Path) -> None:
    with (
        serving(tmp_path, limits=Limits(outbox_answers=2, redial_s=0.02)) as server,
        server.connect() as peer,
    ):
        peer.challenge()
        ask_out(peer, 0)
        ask_out(peer, 1)
        peer.ask(2, delivery=Delivery.OUT)
        counter, outcome = peer.next_outcome()
        assert (counter, outcome.problem) == (2, Problem.OUTBOX_FULL)
        assert peer.is_served(3)
        with listening(tmp_path) as accept, accept() as listener:
            listener.challenge()
            assert [listener.next_outcome()[0] for _ in range(2)] == [0, 1]
            listener.send(taken_frame(request_id(peer.session_id, 0)))
            # The enclave reads the two connections in any order: ask until there is room.
            for counter in range(4, 1000):
                peer.ask(counter, delivery=Delivery.OUT)
                if peer.next_answer().kind is AnswerKind.RECEIPT:
                    break
            assert listener.next_outcome()[0] == counter


def test_a_bug_in_a_classifier_gives_no_receipt_and_does_not_use_up_the_outbox(tmp_path: Path) -> None:
    with serving(tmp_path, limits=Limits(outbox_answers=1, redial_s=0.02)) as server:
        for _ in range(3):
            with server.connect() as peer:
                peer.challenge().send(
                    peer.request_frame(0, picture_of(BREAKS_THE_CLASSIFIER), delivery=Delivery.OUT)
                )
                assert peer.next_frame() is None
        with server.connect() as peer:
            peer.challenge()
            ask_out(peer, 0)


def test_a_picture_without_an_answer_is_told_here_and_takes_no_place(tmp_path: Path) -> None:
    limits = Limits(outbox_answers=1, redial_s=0.02)
    bad = [(b"", Problem.EMPTY), (b"garbage", Problem.UNREADABLE), (b"", Problem.EMPTY)]
    with serving(tmp_path, limits=limits) as server, server.connect() as peer:
        peer.challenge()
        for counter, (picture, problem) in enumerate(bad):
            peer.send(peer.request_frame(counter, picture, delivery=Delivery.OUT))
            assert peer.next_outcome()[1].problem is problem
        ask_out(peer, 3)


def test_a_session_has_a_quota_and_the_others_go_on(tmp_path: Path) -> None:
    limits = Limits(outbox_answers=10, outbox_answers_per_session=2, redial_s=0.02)
    with serving(tmp_path, limits=limits) as server, server.connect() as greedy, server.connect() as other:
        greedy.challenge()
        ask_out(greedy, 0)
        ask_out(greedy, 1)
        greedy.ask(2, delivery=Delivery.OUT)
        assert greedy.next_outcome()[1].problem is Problem.OUTBOX_FULL
        other.challenge()
        ask_out(other, 0)


def test_where_all_is_full_the_oldest_answer_of_the_greediest_gives_way(tmp_path: Path) -> None:
    limits = Limits(outbox_answers=3, redial_s=0.02)
    with serving(tmp_path, limits=limits) as server, server.connect() as greedy, server.connect() as other:
        greedy.challenge()
        for counter in range(3):
            ask_out(greedy, counter)
        other.challenge()
        ask_out(other, 7)
        with listening(tmp_path) as accept, accept() as listener:
            listener.challenge()
            assert [listener.next_outcome()[0] for _ in range(3)] == [1, 2, 7]


def test_a_listener_that_stays_silent_does_not_hold_the_connection(tmp_path: Path) -> None:
    limits = Limits(redial_s=0.02, challenge_s=0.1)
    with listening(tmp_path) as accept, serving(tmp_path, limits=limits), accept() as silent:
        # One that is too slow itself, on a busy machine, is silent, too, and followed by another.
        while True:
            with accept() as listener:
                listener.send(challenge_frame(Challenge(NONCE)))
                frame = listener.next_frame()
            assert frame is not None
            if frame.type is FrameType.EVIDENCE:
                break
            assert parse_refusal(frame.body).code is RefusalCode.SLOW
        silent.assert_ended(RefusalCode.SLOW)


def test_the_connection_to_the_listener_needs_no_place_of_the_others(tmp_path: Path) -> None:
    limits = Limits(redial_s=0.02, connections=1, unproven_connections=1)
    with serving(tmp_path, limits=limits) as server, server.connect() as one, server.connect() as two:
        one.challenge()
        two.challenge()
        with listening(tmp_path) as accept, accept() as listener:
            listener.challenge()
            assert one.is_served()
            with server.connect() as three:
                assert three.challenge().is_served()
