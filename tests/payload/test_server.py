"""The server as its peers meet it."""

import threading
from pathlib import Path

import cbor2
import pytest

from enclave_payload.contents import key_config_digest
from enclave_payload.limits import Limits
from enclave_payload.messages import ANSWER_BYTES, NO_REQUEST, Challenge, RefusalCode, Sealed, request_id
from enclave_payload.nsm import Nsm
from enclave_payload.seal import SuiteId
from enclave_payload.verdict import Problem
from enclavectl.protocol.evidence import challenge_frame
from enclavectl.protocol.key_config import KeyConfig, parse_key_config
from enclavectl.protocol.requests import sealed_frame
from tests.payload.cards import CARD
from tests.payload.serving import (
    BREAKS_THE_CLASSIFIER,
    BREAKS_THE_MODEL,
    KEYS,
    NONCE,
    SIGNER,
    eventually,
    picture_of,
    redness,
    serving,
)


class Repeating:
    """An NSM that always gives the same document."""

    def attest(self, **_: bytes) -> bytes:
        return b"document"


def test_the_evidence_is_over_the_nonce_and_commits_to_the_keys_and_the_card(tmp_path: Path) -> None:
    with serving(tmp_path) as server, server.connect() as peer:
        evidence = peer.challenge().evidence
        assert evidence.document == NONCE + key_config_digest(evidence.key_config) + SIGNER.public_key
        assert parse_key_config(evidence.key_config) == KeyConfig(public_keys=KEYS.public, card=CARD)


def test_no_two_sessions_share_an_id_though_nonce_and_document_repeat(tmp_path: Path) -> None:
    # As where a relay repeats a client's challenge to an NSM whose clock has whole seconds.
    with serving(tmp_path, attester=Repeating()) as server, server.connect() as one, server.connect() as two:
        assert one.challenge().evidence.document == two.challenge().evidence.document
        assert one.session_id != two.session_id
        frame = one.request_frame(0, picture_of((5, 5, 5)))
        two.send(frame)
        two.assert_ended(RefusalCode.UNREADABLE)


@pytest.mark.parametrize("suite", list(SuiteId))
def test_a_picture_is_answered_in_either_suite(tmp_path: Path, suite: SuiteId) -> None:
    with serving(tmp_path) as server, server.connect() as peer:
        peer.challenge()
        peer.send(peer.request_frame(0, picture_of((102, 9, 9)), suite=suite))
        counter, outcome = peer.next_outcome()
        assert counter == 0
        assert outcome.probabilities_ppb == redness(102)
        assert (outcome.model_id, outcome.model_sha256) == (CARD.model_id, CARD.sha256)


def test_many_peers_with_many_requests_in_flight_each_get_their_own_answers(tmp_path: Path) -> None:
    with serving(tmp_path, workers=3, limits=Limits(queued_requests=1000)) as server:
        peers = [server.connect().challenge() for _ in range(8)]
        for counter in range(20):
            for number, peer in enumerate(peers):
                peer.ask(counter, red=10 * number + counter)
        for number, peer in enumerate(peers):
            answers = dict(peer.next_outcome() for _ in range(20))
            assert {counter: outcome.probabilities_ppb for counter, outcome in answers.items()} == {
                counter: redness(10 * number + counter) for counter in range(20)
            }
            peer.sock.close()


def test_every_answer_has_the_same_length_whatever_it_says(tmp_path: Path) -> None:
    with serving(tmp_path) as server, server.connect() as peer:
        peer.challenge()
        for counter, picture in enumerate((picture_of((255, 0, 0)), b"", b"no picture" * 5000)):
            peer.send(peer.request_frame(counter, picture))
        frames = [peer.next_frame() for _ in range(3)]
        assert [len(frame.body) for frame in frames if frame] == [ANSWER_BYTES] * 3


@pytest.mark.parametrize(
    ("picture", "problem"),
    [
        (b"", Problem.EMPTY),
        (b"garbage", Problem.UNREADABLE),
        (picture_of((9, 9, 9))[:-30], Problem.UNREADABLE),
        (picture_of(BREAKS_THE_MODEL), Problem.MODEL_FAILED),
    ],
)
def test_a_picture_without_an_answer_gets_its_problem_and_the_next_an_answer(
    tmp_path: Path, picture: bytes, problem: Problem
) -> None:
    with serving(tmp_path) as server, server.connect() as peer:
        peer.challenge()
        peer.send(peer.request_frame(0, picture))
        _, outcome = peer.next_outcome()
        assert (outcome.problem, outcome.probabilities_ppb) == (problem, None)
        assert peer.is_served(1)


def test_a_bug_in_a_classifier_costs_one_connection_and_no_worker(tmp_path: Path) -> None:
    with serving(tmp_path, limits=Limits(tally_s=3600)) as server, server.connect() as other:
        other.challenge()
        for _ in range(3):
            with server.connect() as peer:
                peer.challenge()
                peer.send(peer.request_frame(0, picture_of(BREAKS_THE_CLASSIFIER)))
                assert peer.next_frame() is None
        assert other.is_served()
    assert "a request failed: ZeroDivisionError (3)" in server.log


def test_a_request_that_cannot_be_opened_ends_its_session_only(tmp_path: Path) -> None:
    with serving(tmp_path) as server, server.connect() as other, server.connect() as peer:
        other.challenge()
        peer.challenge()
        frame = bytearray(peer.request_frame(4, b""))
        frame[-1] ^= 1
        peer.send(bytes(frame))
        refusal = peer.next_refusal()
        assert refusal.code is RefusalCode.UNREADABLE
        assert refusal.request_id == request_id(peer.session_id, 4)
        assert peer.next_frame() is None
        assert other.is_served()


def test_a_replayed_request_ends_its_session(tmp_path: Path) -> None:
    with serving(tmp_path) as server, server.connect() as peer:
        frame = peer.challenge().request_frame(0, picture_of((5, 5, 5)))
        peer.send(frame)
        peer.next_outcome()
        peer.send(frame)
        peer.assert_ended(RefusalCode.REPLAYED)


def test_a_request_replayed_into_another_session_is_unreadable(tmp_path: Path) -> None:
    with serving(tmp_path) as server, server.connect() as one, server.connect() as two:
        frame = one.challenge().request_frame(0, picture_of((5, 5, 5)))
        two.challenge().send(frame)
        two.assert_ended(RefusalCode.UNREADABLE)


def test_without_a_document_there_is_no_session(tmp_path: Path) -> None:
    def refuse(_: bytes) -> bytes:
        return cbor2.dumps({"Error": "InternalError"})

    with serving(tmp_path, attester=Nsm(refuse)) as server, server.connect() as peer:
        peer.send(challenge_frame(Challenge(NONCE)))
        peer.assert_ended(RefusalCode.NO_EVIDENCE)


@pytest.mark.parametrize(
    ("garbage", "code"),
    [
        (b"GET / HTTP/1.1\r\nHost: enclave\r\n\r\n", RefusalCode.PROTOCOL),
        (b"\xff\xff\xff\xff\x01", RefusalCode.PROTOCOL),
        (b"\xff\xff\xff\xff\x03", RefusalCode.PROTOCOL),
        (bytes(5), RefusalCode.PROTOCOL),
        (sealed_frame(Sealed(0, 1, b"early")), RefusalCode.PROTOCOL),
        (challenge_frame(Challenge(NONCE, 2)), RefusalCode.VERSION),
        (challenge_frame(Challenge(NONCE[:-1])), RefusalCode.PROTOCOL),
    ],
)
def test_garbage_is_refused_and_the_others_are_served(
    tmp_path: Path, garbage: bytes, code: RefusalCode
) -> None:
    with serving(tmp_path) as server, server.connect() as other:
        other.challenge()
        for counter in range(3):
            with server.connect() as peer:
                peer.send(garbage)
                refusal = peer.next_refusal()
                assert (refusal.code, refusal.request_id) == (code, NO_REQUEST)
                assert peer.next_frame() is None
            assert other.is_served(counter)


@pytest.mark.parametrize("sent", [b"", b"\0", challenge_frame(Challenge(NONCE))[:-1]])
def test_a_peer_that_leaves_at_any_point_is_no_matter(tmp_path: Path, sent: bytes) -> None:
    with serving(tmp_path) as server, server.connect() as other:
        with server.connect() as peer:
            peer.send(sent)
        assert other.challenge().is_served()


def test_a_peer_that_leaves_before_its_answer_is_no_matter(tmp_path: Path) -> None:
    with serving(tmp_path) as server, server.connect() as other:
        [classifier] = server.classifiers
        classifier.gate.clear()
        with server.connect() as peer:
            peer.challenge().ask(0)
            assert classifier.entered.acquire(timeout=30)
        classifier.gate.set()
        assert other.challenge().is_served()


def test_nothing_is_left_of_200_connections(tmp_path: Path) -> None:
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("counting descriptors needs /proc")
    others = set(threading.enumerate())

    def threads() -> int:
        return len(set(threading.enumerate()) - others)

    with serving(tmp_path) as server:
        with server.connect() as peer:
            assert peer.challenge().is_served()
        eventually(lambda: threads() <= 4)  # the loop, evidence, the dialer, and one worker
        fds = len(list(descriptors.iterdir()))
        for number in range(200):
            with server.connect() as peer:
                match number % 4:
                    case 0:
                        assert peer.challenge().is_served()
                    case 1:
                        peer.send(b"\xff" * 99)
                    case 2:
                        peer.challenge().ask(0)
                    case 3:
                        peer.challenge().send(b"\0")
        eventually(lambda: threads() <= 4)
        eventually(lambda: len(list(descriptors.iterdir())) <= fds)
