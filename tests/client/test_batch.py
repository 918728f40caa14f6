from __future__ import annotations

import gc
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from enclave_payload.contents import SALT_BYTES, encode_key_config
from enclave_payload.decoder import Finding
from enclave_payload.limits import Limits
from enclave_payload.media import MediaType
from enclave_payload.messages import RefusalCode, refusal_frame
from enclave_payload.seal import generate_keys
from enclave_payload.session import ChallengeReceived, EnclaveSession, SealedReceived
from enclave_payload.wire import Buffer
from enclavectl.client.batch import Losses, Reply, classify
from enclavectl.client.exchange import Question
from enclavectl.client.pictures import Picture
from enclavectl.client.session import Client
from enclavectl.errors import EnclaveBusy, EnclaveError, EnclaveLost, PictureRefused
from enclavectl.evidence import ReceiptError
from enclavectl.net.address import UnixAddress
from tests.evil import Lies, Script, enclave_script, start_evil
from tests.in_process import (
    CARD,
    Brightness,
    InProcess,
    attest,
    expect,
    gray,
    new_root,
    simulated_nsm,
    start_in_process,
)
from tests.in_time import in_time

ROOT = new_root()
KEYS = generate_keys()
Item = Picture | PictureRefused


def run(
    enclave: InProcess, items: Iterable[Item], *, in_flight: int = 8, timeout_s: float = 20
) -> list[Reply]:
    with Client.connect(enclave.address, enclave.expectation, timeout_s=10) as client:
        replies = list(classify(client, items, timeout_s=timeout_s, in_flight=in_flight))
    return sorted(replies, key=lambda reply: reply.index)


def light(reply: Reply) -> int:
    assert reply.outcome is not None
    assert reply.outcome.probabilities_ppb is not None
    return reply.outcome.probabilities_ppb["light"]


@pytest.mark.parametrize("in_flight", [1, 3, 16])
def test_every_picture_gets_its_own_answer(tmp_path: Path, in_flight: int) -> None:
    values = [0, 255, 51, 102, 153, 204, 17, 34]
    with start_in_process(tmp_path, classifiers=[Brightness(), Brightness()]) as enclave:
        replies = run(enclave, [gray(value) for value in values], in_flight=in_flight)
    assert [reply.index for reply in replies] == list(range(len(values)))
    assert [light(reply) for reply in replies] == [value * 1_000_000_000 // 255 for value in values]
    assert all(reply.error is None and reply.total_ms > 0 for reply in replies)


def test_no_pictures_are_no_replies(tmp_path: Path) -> None:
    with start_in_process(tmp_path) as enclave:
        assert run(enclave, []) == []


@pytest.mark.parametrize("refused_at", [{0}, {2}, {4}, {0, 1, 2, 3, 4}])
def test_a_picture_refused_here_keeps_its_place(tmp_path: Path, refused_at: set[int]) -> None:
    refusal = PictureRefused("nothing to see")
    items: list[Item] = [refusal if index in refused_at else gray(index) for index in range(5)]
    with start_in_process(tmp_path) as enclave:
        replies = run(enclave, items)
    assert [reply.index for reply in replies] == list(range(5))
    assert {reply.index for reply in replies if reply.error is refusal} == refused_at
    assert all(reply.picture is None for reply in replies if reply.error is refusal)


def test_a_picture_refused_there_does_not_disturb_the_others(tmp_path: Path) -> None:
    broken = Picture("broken.png", gray(1).media_type, gray(1).data[:40])
    with start_in_process(tmp_path) as enclave:
        first, second, third = run(enclave, [gray(255), broken, gray(0)])
    assert (light(first), light(third)) == (1_000_000_000, 0)
    assert second.outcome is not None
    assert second.outcome.problem == "unreadable"
    assert second.error is None


def test_a_picture_s_deadline_counts_from_its_sending(tmp_path: Path) -> None:
    """Reading the later picture takes longer than one may take, which is no fault of its own."""

    def slow_disk() -> Iterable[Picture]:
        yield gray(0)
        time.sleep(4.2)
        yield gray(1)

    class Deliberate(Brightness):
        def classify(
            self,
            picture: Buffer,
            media_type: MediaType,
            may_stay: Callable[[], bool],
            meanwhile: Callable[[], None] = lambda: None,
        ) -> Finding:
            time.sleep(0.05)  # longer than what a receiver grants an answer whose time is over
            return super().classify(picture, media_type, may_stay, meanwhile)

    with start_in_process(tmp_path, classifiers=[Deliberate()]) as enclave:
        replies = run(enclave, slow_disk(), in_flight=1, timeout_s=4)
    assert [reply.error for reply in replies] == [None] * 2


def test_pictures_are_read_only_when_there_is_room_for_them(tmp_path: Path) -> None:
    read: list[int] = []

    def source() -> Iterable[Picture]:
        for value in range(10):
            read.append(value)
            yield gray(value)

    with (
        start_in_process(tmp_path) as enclave,
        Client.connect(enclave.address, enclave.expectation, timeout_s=10) as client,
    ):
        replies = classify(client, source(), timeout_s=20, in_flight=2)
        next(iter(replies))
        assert len(read) <= 3
        assert len(list(replies)) == 9
    assert read == list(range(10))


def test_what_a_busy_enclave_refuses_is_offered_again(tmp_path: Path) -> None:
    limits = Limits(in_flight_per_connection=2, queued_requests=1, grace_s=1)
    with start_in_process(tmp_path, limits=limits) as enclave:
        replies = run(enclave, [gray(value) for value in range(0, 250, 25)], in_flight=8)
    assert [light(reply) for reply in replies] == [v * 1_000_000_000 // 255 for v in range(0, 250, 25)]


def busy_script(seen: list[int]) -> Script:
    """Attests honestly and is too busy for every request; ``seen`` gets their sizes."""

    def script(sock: socket.socket) -> None:
        session = EnclaveSession()
        while data := sock.recv(65536):
            for event in session.receive(data):
                match event:
                    case ChallengeReceived(nonce):
                        config = encode_key_config(KEYS.public, CARD, bytes(SALT_BYTES))
                        document = attest(ROOT, nonce, config)
                        sock.sendall(session.evidence(document, config))
                    case SealedReceived(request_id):
                        seen.append(len(event.ciphertext))
                        sock.sendall(refusal_frame(RefusalCode.BUSY, request_id))

    return script


def test_a_picture_is_sent_a_few_times_and_no_more_to_who_always_says_busy(tmp_path: Path) -> None:
    address, seen = UnixAddress(tmp_path / "s"), list[int]()
    with (
        start_evil(address, busy_script(seen)),
        Client.connect(address, expect(ROOT), timeout_s=10) as client,
    ):
        [reply] = classify(client, [gray(0)], timeout_s=20)
    assert isinstance(reply.error, EnclaveBusy)
    assert len(seen) == 3


def test_a_session_keeps_nothing_of_a_request_that_the_enclave_was_too_busy_for(tmp_path: Path) -> None:
    """Else a session that waits for a busy enclave grows with each picture that it offers again."""
    address = UnixAddress(tmp_path / "s")
    with (
        start_evil(address, busy_script([])),
        Client.connect(address, expect(ROOT), timeout_s=10) as client,
    ):
        pending = client.prepare(gray(0))
        client.submit(gray(0), pending)
        request_id, error = client.next_answer(time.monotonic() + 10)
        assert (request_id, type(error)) == (pending.request_id, EnclaveBusy)
        kept = [one for one in gc.get_objects() if isinstance(one, Question)]
    assert Question.of(pending) not in kept


def test_no_picture_is_sent_again_once_its_time_is_over(tmp_path: Path) -> None:
    address, seen = UnixAddress(tmp_path / "s"), list[int]()
    errors: list[type[object]] = []
    with start_evil(address, busy_script(seen)):
        # Less than the shortest pause before a picture is sent again, 0.125 s. A "busy" that comes later than
        # that says nothing about the pause.
        while EnclaveBusy not in errors:
            with Client.connect(address, expect(ROOT), timeout_s=10) as client:
                [reply] = classify(client, [gray(0)], timeout_s=0.12)
            errors.append(type(reply.error))
            assert errors[-1] in {EnclaveBusy, EnclaveLost}
            assert len(seen) == len(errors)


def test_who_was_told_busy_waits_for_an_answer_before_it_sends_again(tmp_path: Path) -> None:
    gate = threading.Event()
    limits = Limits(in_flight_per_connection=1, grace_s=0.1)
    with start_in_process(tmp_path, classifiers=[Brightness(gate)], limits=limits) as enclave:
        opening = threading.Timer(2, gate.set)  # longer than all the pauses together
        opening.start()
        replies = run(enclave, [gray(0), gray(255)], in_flight=2)
        opening.join()
    assert [light(reply) for reply in replies] == [0, 1_000_000_000]


@pytest.mark.parametrize("answers", [1, 3])
@pytest.mark.parametrize("in_flight", [1, 4])
def test_a_lost_connection_keeps_the_answers_that_came(tmp_path: Path, answers: int, in_flight: int) -> None:
    address, root = UnixAddress(tmp_path / "s"), new_root()
    refusal = PictureRefused("nothing to see")
    items: list[Item] = [*(gray(value) for value in range(6)), refusal, gray(7)]
    script = enclave_script(simulated_nsm(root), Lies(answers=answers))
    with start_evil(address, script), Client.connect(address, expect(root), timeout_s=10) as client:
        replies = list(classify(client, items, timeout_s=10, in_flight=in_flight))
    assert sorted(reply.index for reply in replies) == list(range(8))
    assert [reply.index for reply in replies if reply.outcome is not None] == list(range(answers))
    for reply in replies[answers:]:
        assert reply.error is refusal if reply.index == 6 else isinstance(reply.error, EnclaveLost)
        assert reply.picture is not None or reply.index == 6


@pytest.mark.parametrize("in_flight", [1, 4])
def test_a_wrong_receipt_ends_the_batch(tmp_path: Path, in_flight: int) -> None:
    """The answers before it count; it, and what would follow, is not asked of another enclave."""
    receipts = iter([True, True, False])

    def lie(receipt: bytes) -> bytes:
        return receipt if next(receipts) else receipt[:-1] + bytes([receipt[-1] ^ 1])

    address, root = UnixAddress(tmp_path / "s"), new_root()
    script = enclave_script(simulated_nsm(root), Lies(answers=3, receipt=lie))
    renew = Renewals()
    with start_evil(address, script), Client.connect(address, expect(root), timeout_s=10) as client:
        pictures = [gray(value) for value in range(6)]
        replies = classify(client, pictures, timeout_s=10, in_flight=in_flight, renew=renew)
        for index in range(2):
            reply = next(replies)
            assert reply.index == index
            assert reply.receipted is not None
            time.sleep(0.2)  # it is gone: that is noticed when the next picture is sent
        with pytest.raises(ReceiptError) as caught:
            list(replies)
    assert caught.value.code == "receipt-signature"
    assert renew.losses == []


class Renewals:
    """Sessions with one enclave after another, as ``diagnose`` finds them; what ended each is kept."""

    def __init__(self, *enclaves: Callable[[], Client]) -> None:
        self._enclaves = list(enclaves)
        self.losses: list[EnclaveError] = []

    def __call__(self, error: EnclaveError) -> Client | None:
        self.losses.append(error)
        return self._enclaves.pop(0)() if self._enclaves else None


@contextmanager
def lost(folder: Path, *lies: Lies) -> Iterator[list[Callable[[], Client]]]:
    """Enclaves of one root that hang up, each in its way."""
    root = new_root()
    with ExitStack() as stack:

        def connect(number: int) -> Client:
            address = UnixAddress(folder / f"lost{number}")
            return stack.enter_context(Client.connect(address, expect(root), timeout_s=10))

        for number, one in enumerate(lies):
            script = enclave_script(simulated_nsm(root), one)
            stack.enter_context(start_evil(UnixAddress(folder / f"lost{number}"), script))
        yield [partial(connect, number) for number in range(len(lies))]


@pytest.mark.parametrize("in_flight", [1, 4, 16])
def test_a_lost_enclave_s_pictures_go_to_another(tmp_path: Path, in_flight: int) -> None:
    refusal = PictureRefused("nothing to see")
    items: list[Item] = [*(gray(value) for value in range(6)), refusal, gray(7)]
    with (
        lost(tmp_path, Lies(answers=2)) as (first,),
        start_in_process(tmp_path) as enclave,
        Client.connect(enclave.address, enclave.expectation, timeout_s=10) as second,
    ):
        renew = Renewals(lambda: second)
        replies = list(classify(first(), items, timeout_s=10, in_flight=in_flight, renew=renew))
    assert sorted(reply.index for reply in replies) == list(range(8))
    assert len(renew.losses) == 1
    for reply in replies:
        if reply.index == 6:
            assert reply.error is refusal
        else:
            assert reply.error is None
            assert reply.session == (0 if reply.index < 2 else 1)


@pytest.mark.parametrize("in_flight", [1, 2, 8])
def test_a_picture_that_ends_two_enclaves_is_not_sent_to_a_third(tmp_path: Path, in_flight: int) -> None:
    items = [gray(value) for value in range(6)]
    deadly = Lies(answers=99, dies_of=items[3].data)
    with lost(tmp_path, deadly, deadly, Lies(answers=99)) as (first, second, third):
        renew = Renewals(second, third)
        replies = list(classify(first(), items, timeout_s=10, in_flight=in_flight, renew=renew))
    assert sorted(reply.index for reply in replies) == list(range(6))
    assert len(renew.losses) == 2
    assert [reply.index for reply in replies if reply.error is not None] == [3]


def test_two_sessions_without_an_answer_end_the_batch(tmp_path: Path) -> None:
    silent = Lies(answers=1, frame=b"")
    with lost(tmp_path, silent, silent, Lies(answers=99)) as (first, second, third):
        renew = Renewals(second, third)
        items = [gray(value) for value in range(9)]
        replies = list(classify(first(), items, timeout_s=3, in_flight=2, renew=renew))
    assert len(renew.losses) == 1
    assert sorted(reply.index for reply in replies) == list(range(9))
    assert all(isinstance(reply.error, EnclaveLost) for reply in replies)


def test_a_session_that_ends_because_the_enclave_is_busy_is_renewed(tmp_path: Path) -> None:
    busy = Lies(answers=1, frame=refusal_frame(RefusalCode.BUSY))
    with lost(tmp_path, busy, Lies(answers=99)) as (first, second):
        renew = Renewals(second)
        replies = list(classify(first(), [gray(0), gray(1)], timeout_s=10, renew=renew))
    assert [type(one) for one in renew.losses] == [EnclaveBusy]
    assert [reply.error for reply in replies] == [None, None]


@pytest.mark.parametrize(("max_losses", "answered"), [(2, False), (4, True)])
def test_a_network_may_lose_a_picture_more_often(tmp_path: Path, max_losses: int, answered: bool) -> None:
    silent = Lies(answers=1, frame=refusal_frame(RefusalCode.STOPPING))
    with lost(tmp_path, silent, silent, silent, Lies(answers=99)) as (first, *others):
        renew = Renewals(*others)
        items = [gray(0)]
        # Each of them is silent for the whole timeout.
        replies = list(
            classify(first(), items, timeout_s=3, renew=renew, losses=Losses(per_picture=max_losses))
        )
    assert [reply.error is None for reply in replies] == [answered]


def test_after_the_last_answer_no_session_is_opened(tmp_path: Path) -> None:
    with lost(tmp_path, Lies(answers=2)) as (first,):
        renew = Renewals()
        replies = list(classify(first(), [gray(0), gray(1)], timeout_s=10, renew=renew))
    assert [reply.error for reply in replies] == [None, None]
    assert renew.losses == []


def test_an_enclave_that_is_late_is_not_lost(tmp_path: Path) -> None:
    gate = threading.Event()
    renew = Renewals()
    with (
        start_in_process(tmp_path, classifiers=[Brightness(gate)], limits=Limits(grace_s=0.1)) as enclave,
        Client.connect(enclave.address, enclave.expectation, timeout_s=10) as client,
    ):
        replies = list(classify(client, [gray(0), gray(1)], timeout_s=0.3, renew=renew))
        gate.set()
    assert [type(reply.error) for reply in replies] == [EnclaveLost, EnclaveLost]
    assert renew.losses == []


def test_an_enclave_that_stops_says_so(tmp_path: Path) -> None:
    gate = threading.Event()
    classifier = Brightness(gate)
    limits = Limits(grace_s=0.1)
    with start_in_process(tmp_path, classifiers=[classifier], limits=limits) as enclave:

        def stop_at_the_gate() -> None:
            if classifier.is_at_gate.wait(30):
                enclave.server.stop()

        stopper = threading.Thread(target=stop_at_the_gate)
        stopper.start()
        replies = run(enclave, [gray(0), gray(1)])
        gate.set()
        stopper.join()
    assert [str(reply.error) for reply in replies] == [f"the enclave at {enclave.address} is stopping"] * 2


def test_silence_ends_at_the_deadline(tmp_path: Path) -> None:
    gate = threading.Event()
    limits = Limits(grace_s=0.1)
    with start_in_process(tmp_path, classifiers=[Brightness(gate)], limits=limits) as enclave:
        with in_time(0.3):
            replies = run(enclave, [gray(0), gray(1)], timeout_s=0.3)
        gate.set()
    assert all(isinstance(reply.error, EnclaveLost) for reply in replies)
    assert all("did not answer in time" in str(reply.error) for reply in replies)
