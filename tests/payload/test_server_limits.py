"""The server's bounds and deadlines. Times are limits given to the server; no test measures one."""

import contextlib
import time
from pathlib import Path

import pytest

from enclave_payload.limits import Limits
from enclave_payload.messages import ANSWER_BYTES, Challenge, RefusalCode, request_id
from enclave_payload.verdict import Problem
from enclave_payload.wire import FrameType
from enclavectl.protocol.answers import parse_answer
from enclavectl.protocol.evidence import challenge_frame
from tests.payload.serving import (
    NONCE,
    PATIENCE_S,
    Peer,
    eventually,
    opened,
    picture_of,
    redness,
    serving,
)


class TestBounds:
    """What is over a bound is refused with BUSY while the others are served on."""

    def test_of_strangers_the_one_that_has_said_least_for_longest_gives_way(self, tmp_path: Path) -> None:
        limits = Limits(connections=1, unproven_connections=2)
        with serving(tmp_path, limits=limits) as server, server.connect() as attested:
            attested.challenge()
            with server.connect_many(5) as silent:
                for peer in silent[:3]:
                    peer.assert_ended(RefusalCode.BUSY)
                assert attested.is_served()

    def test_no_number_of_strangers_takes_the_place_of_who_has_asked(self, tmp_path: Path) -> None:
        limits = Limits(connections=2, unproven_connections=2)
        with serving(tmp_path, limits=limits) as server, server.connect_many(2) as known:
            assert all(peer.challenge().is_served() for peer in known)
            with server.connect_many(10) as strangers:
                for peer in strangers[:8]:
                    peer.assert_ended(RefusalCode.BUSY)
                assert all(peer.is_served(1) for peer in known)

    def test_of_those_who_have_asked_the_one_idle_for_longest_gives_way(self, tmp_path: Path) -> None:
        with serving(tmp_path, limits=Limits(connections=2)) as server, server.connect_many(3) as peers:
            assert all(peer.challenge().is_served() for peer in peers)
            peers[0].assert_ended(RefusalCode.BUSY)
            assert all(peer.is_served(1) for peer in peers[1:])

    @pytest.mark.parametrize("first", range(2))
    def test_bytes_of_unfinished_frames_of_all(self, tmp_path: Path, first: int) -> None:
        """Strangers give way, the oldest frame first; one who has asked is heard to the end."""
        limits = Limits(unfinished_bytes=300_000)
        with serving(tmp_path, limits=limits) as server, server.connect_many(3) as [known, *strangers]:
            assert known.challenge().is_served()
            frame = known.request_frame(1, bytes(200_000))
            known.send(frame[:120_000])
            for peer in (strangers[first], strangers[1 - first]):
                peer.challenge()
                peer.send(peer.request_frame(0, bytes(200_000))[:120_000])
            strangers[first].assert_ended(RefusalCode.BUSY)
            known.send(frame[120_000:])
            assert known.next_outcome()[1].problem is Problem.UNREADABLE

    def test_requests_in_flight_of_a_connection(self, tmp_path: Path) -> None:
        limits = Limits(in_flight_per_connection=2)
        with (
            serving(tmp_path, limits=limits) as server,
            server.connect() as greedy,
            server.connect() as other,
        ):
            [classifier] = server.classifiers
            classifier.gate.clear()
            greedy.challenge()
            for counter in range(3):
                greedy.ask(counter)
            self.assert_busy(greedy, 2)
            other.challenge().ask(0, 51)
            classifier.gate.set()
            assert {greedy.next_outcome()[0] for _ in range(2)} == {0, 1}
            assert other.next_outcome()[1].probabilities_ppb == redness(51)
            eventually(lambda: greedy.is_served(3))

    def test_queued_requests(self, tmp_path: Path) -> None:
        with serving(tmp_path, limits=Limits(queued_requests=2)) as server, server.connect() as peer:
            [classifier] = server.classifiers
            classifier.gate.clear()
            peer.challenge().ask(0)
            assert classifier.entered.acquire(timeout=30)  # taken: the queue is empty again
            for counter in range(1, 4):
                peer.ask(counter)
            self.assert_busy(peer, 3)
            classifier.gate.set()
            assert [peer.next_outcome()[0] for _ in range(3)] == [0, 1, 2]

    def test_who_has_most_in_a_full_queue_gives_way_to_who_has_less(self, tmp_path: Path) -> None:
        limits = Limits(queued_requests=4)
        with (
            serving(tmp_path, limits=limits) as server,
            server.connect() as greedy,
            server.connect() as other,
        ):
            [classifier] = server.classifiers
            classifier.gate.clear()
            greedy.challenge().ask(0)
            assert classifier.entered.acquire(timeout=30)
            for counter in range(1, 5):
                greedy.ask(counter)
            other.challenge().ask(0, 51)
            self.assert_busy(greedy, 4)
            classifier.gate.set()
            assert sorted(greedy.next_outcome()[0] for _ in range(4)) == [0, 1, 2, 3]
            assert other.next_outcome()[1].probabilities_ppb == redness(51)

    def test_among_equals_in_a_full_queue_a_stranger_gives_way(self, tmp_path: Path) -> None:
        limits = Limits(queued_requests=1)
        with serving(tmp_path, limits=limits) as server, server.connect() as known:
            [classifier] = server.classifiers
            assert known.challenge().is_served()
            assert classifier.entered.acquire(timeout=30)
            classifier.gate.clear()
            with server.connect() as holding, server.connect() as stranger:
                holding.challenge().ask(0)
                assert classifier.entered.acquire(timeout=30)
                stranger.challenge().ask(0)
                known.ask(1, 51)
                self.assert_busy(stranger, 0)
                classifier.gate.set()
                assert known.next_outcome()[1].probabilities_ppb == redness(51)

    def test_queued_bytes(self, tmp_path: Path) -> None:
        limits = Limits(queued_bytes=10_000)
        with serving(tmp_path, limits=limits) as server, server.connect() as peer, server.connect() as other:
            [classifier] = server.classifiers
            classifier.gate.clear()
            peer.challenge().ask(0)
            assert classifier.entered.acquire(timeout=30)
            for counter in (1, 2):
                peer.send(peer.request_frame(counter, bytes(6000)))
            self.assert_busy(peer, 2)
            other.challenge().ask(0, 51)  # small enough for what is left
            classifier.gate.set()
            assert [peer.next_outcome()[0] for _ in range(2)] == [0, 1]
            assert other.next_outcome()[1].probabilities_ppb == redness(51)
            peer.send(peer.request_frame(3, bytes(20_000)))  # never fits, not even alone
            self.assert_busy(peer, 3)
            assert peer.is_served(4)

    @staticmethod
    def assert_busy(peer: Peer, counter: int) -> None:
        refusal = peer.next_refusal()
        assert refusal.code is RefusalCode.BUSY
        assert refusal.request_id == request_id(peer.session_id, counter)


class TestDeadlines:
    """Who does not read or write in time is cut off; who waits for us is not."""

    def test_a_peer_that_says_nothing(self, tmp_path: Path) -> None:
        with serving(tmp_path, limits=Limits(challenge_s=0.1)) as server, server.connect() as peer:
            peer.assert_ended(RefusalCode.SLOW)

    def test_a_peer_that_says_nothing_after_its_challenge(self, tmp_path: Path) -> None:
        with serving(tmp_path, limits=Limits(first_request_s=0.5)) as server, server.connect() as peer:
            peer.challenge().assert_ended(RefusalCode.SLOW)

    def test_a_peer_that_says_nothing_after_its_answer(self, tmp_path: Path) -> None:
        with serving(tmp_path, limits=Limits(idle_s=0.5)) as server, server.connect() as peer:
            assert peer.challenge().is_served()
            peer.assert_ended(RefusalCode.SLOW)

    @pytest.mark.parametrize("sent", [b"\0", challenge_frame(Challenge(NONCE))[:-1]])
    def test_half_a_challenge(self, tmp_path: Path, sent: bytes) -> None:
        with serving(tmp_path, limits=Limits(challenge_s=0.1)) as server, server.connect() as peer:
            peer.send(sent)
            peer.assert_ended(RefusalCode.SLOW)

    def test_half_a_request(self, tmp_path: Path) -> None:
        with serving(tmp_path, limits=Limits(frame_s=0.1)) as server, server.connect() as peer:
            peer.challenge().send(b"\x00\x40\x00\x00\x03" + bytes(1000))
            peer.assert_ended(RefusalCode.SLOW)

    def test_a_byte_now_and_then_does_not_hold_a_place(self, tmp_path: Path) -> None:
        with serving(tmp_path, limits=Limits(challenge_s=0.3)) as server, server.connect() as peer:
            for byte in challenge_frame(Challenge(NONCE))[:-1]:
                peer.send(bytes([byte]))
                time.sleep(0.1)
            peer.assert_ended(RefusalCode.SLOW)

    def test_frames_without_a_pause_each_have_their_time(self, tmp_path: Path) -> None:
        # Again with more time, where the machine let one of the pauses become longer than a frame may take.
        assert any(are_all_taken(tmp_path / f"{frame_s}", frame_s) for frame_s in (3, 12))

    def test_who_waits_for_an_answer_is_not_idle(self, tmp_path: Path) -> None:
        with serving(tmp_path, limits=Limits(idle_s=0.2)) as server, server.connect() as peer:
            [classifier] = server.classifiers
            classifier.gate.clear()
            peer.challenge().ask(0)
            time.sleep(1)
            classifier.gate.set()
            assert peer.next_outcome()[0] == 0

    def test_a_request_that_waited_too_long_is_not_classified(self, tmp_path: Path) -> None:
        limits = Limits(queue_s=1.5, queued_requests=1)
        with serving(tmp_path, limits=limits) as server, server.connect() as peer:
            [classifier] = server.classifiers
            classifier.gate.clear()
            peer.challenge().ask(0)
            assert classifier.entered.acquire(timeout=30)
            peer.ask(1)
            peer.ask(2)
            TestBounds.assert_busy(peer, 2)  # so 1 has its place in the queue
            time.sleep(1.6)
            classifier.gate.set()
            assert peer.next_outcome()[1].problem is None
            assert peer.next_outcome()[1].problem is Problem.TOO_LATE
            assert not classifier.entered.acquire(blocking=False)

    def test_a_peer_that_never_reads(self, tmp_path: Path) -> None:
        limits = Limits(send_s=0.2, in_flight_per_connection=2000, queued_requests=2000)
        with serving(tmp_path, limits=limits) as server, server.connect() as deaf, server.connect() as other:
            other.challenge()
            deaf.challenge()
            asked = flood(deaf, patience_s=PATIENCE_S)
            assert other.is_served()
            # What was written before it was cut off is still there, perhaps with half a frame at its end.
            received = 0
            with contextlib.suppress(ConnectionResetError):
                while data := deaf.sock.recv(64 * 1024):
                    received += len(data)
            assert received < asked * ANSWER_BYTES


def are_all_taken(folder: Path, frame_s: float) -> bool:
    """Stream five frames in six pieces, each of which ends inside a frame; return whether all are answered.

    Together they take longer than one frame may, and each of them takes a quarter of that.
    """
    folder.mkdir()
    with serving(folder, limits=Limits(frame_s=frame_s)) as server, server.connect() as peer:
        [classifier] = server.classifiers
        classifier.gate.clear()
        peer.challenge()
        frames = [peer.request_frame(counter, picture_of((9, 9, 9))) for counter in range(5)]
        stream = b"".join(frames)
        ends = [sum(map(len, frames[:count])) + 20 for count in range(5)]
        for start, end in zip([0, *ends], [*ends, len(stream)], strict=True):
            peer.send(stream[start:end])
            time.sleep(frame_s / 4)
        classifier.gate.set()
        answers = [frame for _ in frames if (frame := peer.next_frame()) and frame.type is FrameType.ANSWER]
    return sorted(opened(parse_answer(answer.body))[0] for answer in answers) == list(range(5))


def flood(peer: Peer, *, patience_s: float) -> int:
    """Ask, reading nothing, until we are cut off or the enclave has read nothing for so long.

    Returns how many requests went out.
    """
    peer.sock.settimeout(patience_s)
    try:
        for counter in range(10_000):
            peer.sock.sendall(peer.request_frame(counter, b""))
    except OSError:
        return counter
    finally:
        peer.sock.settimeout(PATIENCE_S)
    raise AssertionError("10,000 answers fit into a socket")


class TestStop:
    """Afterwards nothing runs, and what was taken has been answered if the grace allowed."""

    def test_what_was_taken_is_answered(self, tmp_path: Path) -> None:
        with serving(tmp_path) as server, server.connect() as peer, server.connect() as idle:
            [classifier] = server.classifiers
            classifier.gate.clear()
            idle.challenge()
            peer.challenge()
            for counter in range(3):
                peer.ask(counter)
            assert classifier.entered.acquire(timeout=30)
            peer.send(challenge_frame(Challenge(NONCE))[:3])  # half a frame holds nothing up
            server.stop()
            server.stop()
            classifier.gate.set()
            answered = [peer.next_outcome()[0] for _ in range(3)]
            assert answered == [0, 1, 2]
            peer.assert_ended(RefusalCode.STOPPING)
            idle.assert_ended(RefusalCode.STOPPING)
            server.join()
            server.stop()  # too late, and no matter

    def test_a_stuck_classifier_does_not_hold_up_the_end(self, tmp_path: Path) -> None:
        with serving(tmp_path, limits=Limits(grace_s=0.2)) as server, server.connect() as peer:
            [classifier] = server.classifiers
            classifier.gate.clear()
            peer.challenge().ask(0)
            assert classifier.entered.acquire(timeout=30)
            server.stop()
            server.join()
            peer.assert_ended(RefusalCode.STOPPING)

    def test_a_peer_that_never_reads_does_not_hold_up_the_end(self, tmp_path: Path) -> None:
        limits = Limits(send_s=3600, grace_s=0.2, in_flight_per_connection=2000, queued_requests=2000)
        with serving(tmp_path, limits=limits) as server, server.connect() as deaf:
            deaf.challenge()
            flood(deaf, patience_s=1)
            server.stop()
            server.join()

    def test_with_nobody_there(self, tmp_path: Path) -> None:
        with serving(tmp_path) as server:
            server.stop()
            server.join()
            assert server.log[-1] == "stopped"
