"""The client against a real server and against peers that are none."""

from __future__ import annotations

import re
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from enclave_payload.contents import Outcome
from enclave_payload.messages import (
    NO_REQUEST,
    REQUEST_ID_BYTES,
    AnswerKind,
    RefusalCode,
    answer_frame,
    refusal_frame,
)
from enclave_payload.wire import FrameType, encode_frame
from enclavectl.attestation import Policy, Release
from enclavectl.client import session
from enclavectl.client.batch import classify
from enclavectl.client.exchange import CheckedAnswer, new_request
from enclavectl.client.session import Client
from enclavectl.errors import (
    AttestationError,
    EnclaveBusy,
    EnclavectlError,
    EnclaveLost,
    PeerProtocolError,
    PictureRefused,
    StateError,
)
from enclavectl.net.address import UnixAddress
from tests.evil import CHALLENGE_FRAME_BYTES, Lies, Script, enclave_script, raw_script, start_evil
from tests.in_process import PCRS, InProcess, expect, gray, new_root, simulated_nsm, start_in_process
from tests.in_time import in_time


def ask(client: Client, value: int) -> Outcome:
    pending = client.prepare(gray(value))
    client.submit(gray(value), pending)
    request_id, answer = client.next_answer(time.monotonic() + 10)
    assert request_id == pending.request_id
    assert isinstance(answer, CheckedAnswer)
    assert answer.receipted is not None
    return answer.outcome


def test_challenge_verify_seal_ask_open(tmp_path: Path) -> None:
    with (
        start_in_process(tmp_path) as enclave,
        Client.connect(enclave.address, enclave.expectation, timeout_s=10) as client,
    ):
        assert client.enclave.document.release == "test"
        assert client.enclave.card.model_id == "brightness"
        assert ask(client, 255).probabilities_ppb == {"dark": 0, "light": 1_000_000_000}
        assert ask(client, 0).probabilities_ppb == {"dark": 1_000_000_000, "light": 0}


def test_the_example_of_the_library_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert session.__doc__ is not None
    block = re.search(r"::\n\n((?:    .*\n|\n)+)", session.__doc__)
    assert block is not None
    with start_in_process(tmp_path) as enclave:
        names = {
            "address": enclave.address,
            "expectation": enclave.expectation,
            "pictures": [gray(255), PictureRefused("no picture"), gray(0)],
        }
        exec(textwrap.dedent(block[1]), names)
    lines = [line.partition(", ")[0] for line in capsys.readouterr().out.splitlines()]
    assert sorted(lines) == ["None no picture", "Picture('0.png'", "Picture('255.png'"]


def test_a_session_is_one_threads_and_another_is_told_so(tmp_path: Path) -> None:
    with (
        start_in_process(tmp_path) as enclave,
        Client.connect(enclave.address, enclave.expectation, timeout_s=10) as client,
    ):
        found: list[object] = []

        def use() -> None:
            try:
                found.append(ask(client, 255))
            except StateError as error:
                found.append(error)

        first = threading.Thread(target=use)  # not the thread that connected
        first.start()
        first.join()
        assert isinstance(found.pop(), Outcome)
        with pytest.raises(StateError, match="another thread") as info:
            list(classify(client, [gray(1)], timeout_s=10))
        assert info.value.hint is not None
        pending = replace(new_request(client.enclave, 9, gray(1)), request_id=bytes(24))
        with pytest.raises(StateError):
            client.submit(gray(1), pending)
        with pytest.raises(StateError):
            client.next_answer(time.monotonic() + 10)


def test_answers_may_come_in_any_order(tmp_path: Path) -> None:
    with (
        start_in_process(tmp_path) as enclave,
        Client.connect(enclave.address, enclave.expectation, timeout_s=10) as client,
    ):
        wanted = {}
        for value in (0, 51, 255):
            pending = client.prepare(gray(value))
            client.submit(gray(value), pending)
            wanted[pending.request_id] = value
        for _ in range(3):
            request_id, answer = client.next_answer(time.monotonic() + 10)
            assert isinstance(answer, CheckedAnswer)
            assert answer.outcome.probabilities_ppb is not None
            assert answer.outcome.probabilities_ppb["light"] == wanted.pop(request_id) * 1_000_000_000 // 255


def test_a_wrong_release_is_refused_before_anything_else_is_sent(tmp_path: Path) -> None:
    address, root = UnixAddress(tmp_path / "s"), new_root()
    other = Release(name="other", pcrs={**PCRS, 2: b"\xaa" * 48})
    honest = expect(root)
    expectation = replace(honest, policy=Policy(accept=honest.policy.accept, releases=(other,)))
    with start_evil(address, enclave_script(simulated_nsm(root), Lies())) as evil:
        with pytest.raises(AttestationError, match="PCR2: expected aaaa") as info:
            Client.connect(address, expectation, timeout_s=10)
        assert info.value.code == "pcr-mismatch"
    assert len(evil.received) == CHALLENGE_FRAME_BYTES


GARBAGE = b"HTTP/1.1 400 Bad Request\r\n\r\n"
CLAIMS_4_GIB = b"\xff\xff\xff\xff" + bytes([FrameType.EVIDENCE])


@pytest.mark.parametrize(
    ("script", "error", "message"),
    [
        (
            raw_script(GARBAGE, hang_up=False),
            PeerProtocolError,
            "expected a message of enclavectl's protocol",
        ),
        (raw_script(CLAIMS_4_GIB, hang_up=False), PeerProtocolError, "claims 4294967295 bytes"),
        (raw_script(bytes(5), hang_up=False), PeerProtocolError, "frame type 0 is not acceptable"),
        (raw_script(b"\0\0\x10\0\x02half", hang_up=True), EnclaveLost, "in the middle of a message"),
        (raw_script(b"\0\0", hang_up=True), EnclaveLost, "in the middle of a message"),
        (raw_script(b"\0\0\x10\0\x02half", hang_up=False), EnclaveLost, "did not answer in time"),
        (raw_script(b"", hang_up=False), EnclaveLost, "did not answer in time"),
        (raw_script(b"", hang_up=True), EnclaveLost, "closed the connection$"),
        (
            raw_script(encode_frame(FrameType.EVIDENCE, b"short"), hang_up=False),
            AttestationError,
            "the document or the key configuration is missing",
        ),
        (
            raw_script(encode_frame(FrameType.EVIDENCE, bytes(100)), hang_up=False),
            AttestationError,
            "the document or the key configuration is missing",
        ),
        (
            raw_script(encode_frame(FrameType.REFUSAL, bytes(26)), hang_up=False),
            PeerProtocolError,
            "known code",
        ),
        (
            raw_script(encode_frame(FrameType.ANSWER, bytes(4137)), hang_up=False),
            PeerProtocolError,
            "frame type 4",
        ),
    ],
)
def test_a_peer_that_is_no_enclave_gets_the_challenge_and_nothing_more(
    tmp_path: Path, script: Script, error: type[EnclavectlError], message: str
) -> None:
    address = UnixAddress(tmp_path / "s")
    # Only who is silent uses up the time; the others are to fail for their own reason, however busy we are.
    timeout_s = 0.3 if message == "did not answer in time" else 10
    with start_evil(address, script) as evil, in_time(timeout_s), pytest.raises(error, match=message):
        Client.connect(address, expect(new_root()), timeout_s=timeout_s)
    assert len(evil.received) == CHALLENGE_FRAME_BYTES


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (RefusalCode.VERSION, PeerProtocolError),
        (RefusalCode.BUSY, EnclaveBusy),
        (RefusalCode.UNREADABLE, PeerProtocolError),
        (RefusalCode.REPLAYED, PeerProtocolError),
        (RefusalCode.STOPPING, EnclaveLost),
        (RefusalCode.PROTOCOL, PeerProtocolError),
        (RefusalCode.NO_EVIDENCE, AttestationError),
        (RefusalCode.SLOW, EnclaveLost),
    ],
)
def test_every_refusal_is_a_typed_error(
    tmp_path: Path, code: RefusalCode, error: type[EnclavectlError]
) -> None:
    address = UnixAddress(tmp_path / "s")
    with start_evil(address, raw_script(refusal_frame(code), hang_up=True)):
        with pytest.raises(error) as info:
            Client.connect(address, expect(new_root()), timeout_s=5)
        assert type(info.value) is error
        assert info.value.code == f"refused-{code.name.lower().replace('_', '-')}"
        assert info.value.hint


def connected(enclave: InProcess, timeout_s: float = 10) -> Client:
    return Client.connect(enclave.address, enclave.expectation, timeout_s=timeout_s)


def one_answer(frame: bytes) -> Script:
    """Attests honestly and answers the first request with ``frame``."""
    return enclave_script(simulated_nsm(_ROOT), Lies(answers=1, frame=frame))


_ROOT = new_root()


@pytest.mark.parametrize(
    ("frame", "error", "message"),
    [
        (
            answer_frame(bytes(REQUEST_ID_BYTES), AnswerKind.FINAL, bytes(4112)),
            PeerProtocolError,
            "a request that is not under way",
        ),
        (encode_frame(FrameType.ANSWER, b"short"), PeerProtocolError, "cannot be read"),
        (GARBAGE, PeerProtocolError, "expected a message of enclavectl's protocol"),
        (refusal_frame(RefusalCode.BUSY, NO_REQUEST), EnclaveBusy, "is busy"),
        (refusal_frame(RefusalCode.UNREADABLE), PeerProtocolError, "could not open what we sealed"),
    ],
)
def test_an_answer_that_is_none_ends_the_session(
    tmp_path: Path, frame: bytes, error: type[EnclavectlError], message: str
) -> None:
    address = UnixAddress(tmp_path / "s")
    with (
        start_evil(address, one_answer(frame)),
        Client.connect(address, expect(_ROOT), timeout_s=5) as client,
    ):
        client.submit(gray(1), client.prepare(gray(1)))
        with pytest.raises(error, match=message):
            client.next_answer(time.monotonic() + 5)


def test_no_answer_by_the_deadline_is_a_lost_enclave(tmp_path: Path) -> None:
    address = UnixAddress(tmp_path / "s")
    with (
        start_evil(address, one_answer(b"")),
        Client.connect(address, expect(_ROOT), timeout_s=5) as client,
    ):
        client.submit(gray(1), client.prepare(gray(1)))
        with pytest.raises(EnclaveLost, match="did not answer in time"):
            client.next_answer(time.monotonic() + 0.1)
