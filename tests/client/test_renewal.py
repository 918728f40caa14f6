"""A batch outlives the certificate of its session's document: it goes on in a new session, in time."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from enclave_payload.decoder import Finding
from enclave_payload.media import MediaType
from enclave_payload.nsm import Attester, Nsm
from enclave_payload.wire import Buffer
from enclavectl.attestation import VerifiedDocument
from enclavectl.backends.local.nsm import SimulatedNsm
from enclavectl.backends.local.pki import DevelopmentRoot
from enclavectl.client.batch import classify
from enclavectl.client.session import Client, usable_s
from enclavectl.errors import AttestationError, EnclaveError, EnclaveLost, StateError
from tests.in_process import (
    MODULE_ID,
    PCRS,
    Brightness,
    InProcess,
    gray,
    new_root,
    simulated_nsm,
    start_in_process,
)

# A receipt counts until two minutes after the leaf's end, and a document may be five minutes old. The clock
# of these NSMs is late: pictures are sent for one of the two seconds that a leaf lives, and receipts count
# until a minute after its end. So no answer comes too late, however busy the machine is.
LATE = timedelta(minutes=1)
LEAF = timedelta(seconds=2)
TIMEOUT_S = 60.0


class Slow(Brightness):
    """Takes a quarter of a second for each picture."""

    def classify(
        self,
        picture: Buffer,
        media_type: MediaType,
        may_stay: Callable[[], bool],
        meanwhile: Callable[[], None] = lambda: None,
    ) -> Finding:
        time.sleep(0.25)
        return super().classify(picture, media_type, may_stay, meanwhile)


class InTurn:
    """Each document comes from the next NSM of a list, and the last one goes on."""

    def __init__(self, *nsms: Attester) -> None:
        self._nsms = list(nsms)

    def attest(self, *, nonce: bytes, user_data: bytes, public_key: bytes) -> bytes:
        nsm = self._nsms.pop(0) if len(self._nsms) > 1 else self._nsms[0]
        return nsm.attest(nonce=nonce, user_data=user_data, public_key=public_key)


def short_lived(root: DevelopmentRoot, leaf: timedelta = LEAF) -> Nsm:
    """An NSM whose documents are over after two seconds, or as soon as they are made."""

    def clock() -> datetime:
        return datetime.now(UTC) - LATE

    return Nsm(SimulatedNsm(root, MODULE_ID, PCRS, clock, leaf_lifetime=leaf).handle)


def connected(enclave: InProcess) -> Client:
    return Client.connect(enclave.address, enclave.expectation, timeout_s=TIMEOUT_S)


@pytest.mark.slow
@pytest.mark.parametrize("in_flight", [1, 8])
def test_a_batch_outlives_the_certificate_and_loses_nothing(tmp_path: Path, in_flight: int) -> None:
    root = new_root()
    documents: list[VerifiedDocument] = []

    def renewed(client: Client) -> None:
        documents.append(client.enclave.document)

    def lost(error: EnclaveError) -> Client | None:
        raise AssertionError(error)

    with (
        start_in_process(tmp_path, classifiers=[Slow()], root=root, attester=short_lived(root)) as enclave,
        connected(enclave) as client,
    ):
        documents.append(client.enclave.document)
        pictures = [gray(value) for value in range(30)]
        client.on_renewal = renewed
        replies = list(classify(client, pictures, timeout_s=TIMEOUT_S, in_flight=in_flight, renew=lost))
    assert sorted(reply.index for reply in replies) == list(range(30))
    assert [reply.error for reply in replies] == [None] * 30
    assert len(documents) >= 3
    assert len({document.nonce for document in documents}) == len(documents)
    assert {reply.session for reply in replies} == set(range(len(documents)))
    for reply in replies:
        assert reply.receipted is not None


def test_each_session_answers_a_picture_however_short_it_is(tmp_path: Path) -> None:
    root = new_root()
    ended = short_lived(root, timedelta(0))
    with (
        start_in_process(tmp_path, root=root, attester=ended) as enclave,
        connected(enclave) as client,
    ):
        assert client.is_ending
        replies = list(
            classify(client, [gray(value) for value in range(3)], timeout_s=TIMEOUT_S, in_flight=1)
        )
    assert [(reply.index, reply.session, reply.error) for reply in replies] == [
        (0, 0, None),
        (1, 1, None),
        (2, 2, None),
    ]


def test_a_session_that_lasts_is_not_renewed(tmp_path: Path) -> None:
    with start_in_process(tmp_path) as enclave, connected(enclave) as client:
        assert not client.is_ending
        replies = list(classify(client, [gray(value) for value in range(9)], timeout_s=TIMEOUT_S))
    assert {reply.session for reply in replies} == {0}


def test_evidence_that_is_refused_at_the_renewal_ends_the_batch(tmp_path: Path) -> None:
    root = new_root()
    other = simulated_nsm(root, PCRS | {0: b"\x77" * 48})
    attester = InTurn(short_lived(root, timedelta(0)), other)
    with (
        start_in_process(tmp_path, root=root, attester=attester) as enclave,
        connected(enclave) as client,
    ):
        replies = classify(client, [gray(0), gray(1), gray(2)], timeout_s=TIMEOUT_S, in_flight=1)
        assert next(replies).error is None
        with pytest.raises(AttestationError) as caught:
            next(replies)
    assert caught.value.code == "pcr-mismatch"


def test_where_nothing_listens_any_more_it_is_a_loss(tmp_path: Path) -> None:
    root = new_root()
    losses: list[EnclaveError] = []

    def lost(error: EnclaveError) -> Client | None:
        losses.append(error)
        return None

    attester = short_lived(root, timedelta(0))
    with start_in_process(tmp_path, root=root, attester=attester) as enclave:
        client = connected(enclave)
        replies = classify(client, [gray(0), gray(1), gray(2)], timeout_s=TIMEOUT_S, in_flight=1, renew=lost)
        assert next(replies).error is None
    rest = list(replies)
    assert [type(one) for one in losses] == [EnclaveLost]
    assert [(reply.index, type(reply.error)) for reply in rest] == [(1, EnclaveLost), (2, EnclaveLost)]


def test_a_session_with_an_answer_under_way_is_not_renewed(tmp_path: Path) -> None:
    with start_in_process(tmp_path) as enclave, connected(enclave) as client:
        pending = client.prepare(gray(0))
        client.submit(gray(0), pending)
        with pytest.raises(StateError) as caught:
            client.renew()
        assert caught.value.code == "answers-under-way"
        assert client.next_answer(time.monotonic() + TIMEOUT_S)[0] == pending.request_id
        client.renew()
        again = client.prepare(gray(0))
        assert again.request_id != pending.request_id


@pytest.mark.parametrize(
    ("left", "timeout_s", "usable"),
    [
        (timedelta(hours=3), 30, 3 * 3600 - 30),
        (timedelta(minutes=15), 30, 870),
        (timedelta(minutes=15), 3600, 450),
        (timedelta(seconds=10), 30, 5),
        (timedelta(0), 30, 0),
        (timedelta(seconds=-5), 30, 0),
    ],
)
def test_pictures_are_sent_until_the_certificate_has_time_for_one_more_answer(
    left: timedelta, timeout_s: float, usable: float
) -> None:
    assert usable_s(left, timeout_s) == usable
