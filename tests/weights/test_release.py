"""The release, by its owner: who gets the key, who does not, and what the enclave does with it."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from enclave_payload.release import State
from enclave_payload.wire import Buffer, FrameType, encode_frame
from enclavectl.attestation import Trust
from enclavectl.client.exchange import new_challenge
from enclavectl.client.session import receive_evidence
from enclavectl.errors import (
    AttestationError,
    EnclaveError,
    EnclaveLost,
    HostError,
    StateError,
)
from enclavectl.net.access import Access
from enclavectl.net.address import StreamAddress
from enclavectl.net.frames import FrameStream
from enclavectl.net.refusal import REFUSAL_BYTES, RefusalCode, parse_refusal
from enclavectl.net.transport import connect
from enclavectl.progress import NoProgress
from enclavectl.weights.bringing import KeyInFile, OwnerService, bring_model
from enclavectl.weights.key_file import ModelKey
from enclavectl.weights.log import ReleaseLog
from enclavectl.weights.owner import ReleaseTerms, release_key
from enclavectl.weights.release_port import ReleaseConnection
from tests.in_process import PCRS, new_root
from tests.weights.port import Port, expectation, release_port
from tests.weights.sealing import WEIGHTS, sealed_in

ROOT = new_root()
TERMS = ReleaseTerms(expectation=expectation(ROOT), lease_s=None)
PATIENCE_S = 60.0


def release(port: Port, key: ModelKey, terms: ReleaseTerms = TERMS, log: ReleaseLog | None = None) -> None:
    stream = FrameStream(connect(port.address, PATIENCE_S), "the enclave")
    try:
        release_key(stream, key, lambda: terms, log or ReleaseLog(None, None), time.monotonic() + PATIENCE_S)
    finally:
        stream.close()


def state(port: Port) -> State:
    with ReleaseConnection(port.address, PATIENCE_S) as connection:
        return connection.status().state


def test_offer_key_and_chunks_make_it_serve(tmp_path: Path) -> None:
    sealed, key = sealed_in(tmp_path)
    with release_port(tmp_path, ROOT) as port:
        assert state(port) is State.EMPTY
        source = KeyInFile(key=key, terms=lambda: TERMS)
        bring_model(port.address, sealed, source, NoProgress(), boot_s=0, is_alive=lambda: True)
        assert state(port) is State.SERVING
        assert bytes(port.weights) == WEIGHTS
        with ReleaseConnection(port.address, PATIENCE_S) as late, pytest.raises(StateError):
            late.offer(sealed)


class Impatient(NoProgress):
    """A reader of notes who goes after a few reports of progress."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.reports = 0

    def note(self, text: str) -> None:
        self.notes.append(text)

    def update(self, what: str, elapsed_s: float, bound_s: float) -> None:
        del elapsed_s, bound_s
        self.reports += "owner" in what
        if self.reports == 2:
            raise InterruptedError


def test_an_owner_who_cannot_be_reached_is_told_once_and_waited_for(tmp_path: Path) -> None:
    sealed, _ = sealed_in(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as free:
        owner = StreamAddress("127.0.0.1", free.getsockname()[1], is_secure=False)
    reader = Impatient()
    source = OwnerService(address=owner, access=Access())
    with release_port(tmp_path, ROOT) as port, pytest.raises(InterruptedError):
        bring_model(port.address, sealed, source, reader, boot_s=0, is_alive=lambda: True)
    assert reader.notes == [f"{owner}: the model's owner does not answer (not-listening); trying for 600 s"]


def test_a_key_before_the_offer_and_a_second_offer_are_refused(tmp_path: Path) -> None:
    sealed, key = sealed_in(tmp_path)
    with release_port(tmp_path, ROOT) as port:
        with pytest.raises(StateError):
            release(port, key)
        with ReleaseConnection(port.address, PATIENCE_S) as connection:
            connection.offer(sealed)
        with ReleaseConnection(port.address, PATIENCE_S) as connection, pytest.raises(StateError):
            connection.offer(sealed)
        assert state(port) is State.MEASURED


def offered(port: Port, folder: Path) -> ModelKey:
    sealed, key = sealed_in(folder)
    with ReleaseConnection(port.address, PATIENCE_S) as connection:
        connection.offer(sealed)
    return key


def test_a_forged_key_and_another_files_key_are_refused_and_the_right_one_still_counts(
    tmp_path: Path,
) -> None:
    with release_port(tmp_path, ROOT) as port:
        key = offered(port, tmp_path)
        for wrong, code in (
            (replace(key, key=bytes(32)), "wrong-key"),
            (replace(key, file_id=bytes(16)), "other-file"),
        ):
            with pytest.raises(EnclaveError) as caught:
                release(port, wrong)
            assert caught.value.code == code
            assert state(port) is State.MEASURED
        release(port, key, replace(TERMS, lease_s=3600))
        assert state(port) is State.KEYED
        assert port.leases == [3600]


OTHER = {**PCRS, 2: b"\7" * 48}
DEBUG = dict.fromkeys(PCRS, bytes(48))


@pytest.mark.parametrize(
    ("pcrs", "is_pinning", "terms", "code"),
    [
        (OTHER, True, TERMS, "pcr-mismatch"),
        (DEBUG, True, TERMS, "debug-mode"),
        (PCRS, False, TERMS, "pcr-missing"),
        (PCRS, True, ReleaseTerms(expectation=expectation(ROOT, accept=Trust.NITRO), lease_s=None), "trust"),
        (PCRS, True, ReleaseTerms(expectation=expectation(new_root()), lease_s=None), "chain"),
    ],
    ids=["other runtime", "debug", "nothing measured", "simulated", "another root"],
)
def test_the_wrong_enclave_gets_nothing_and_the_log_says_so(
    tmp_path: Path, pcrs: dict[int, bytes], is_pinning: bool, terms: ReleaseTerms, code: str
) -> None:
    path = tmp_path / "log"
    with release_port(tmp_path, ROOT, pcrs=pcrs, is_pinning=is_pinning) as port:
        key = offered(port, tmp_path)
        with pytest.raises(AttestationError) as caught:
            release(port, key, terms, ReleaseLog(path, None))
        assert code in caught.value.code
        assert state(port) is State.MEASURED
    (line,) = path.read_text().splitlines()
    value = json.loads(line)
    assert value["result"] == "refused"
    assert value["error"].startswith(caught.value.code)
    assert len(value["document_sha256"]) == 64
    assert KEY_HEX not in line


KEY_HEX = bytes(range(32)).hex()


def test_another_model_than_the_keys_gets_nothing_though_the_policy_lets_it_through(tmp_path: Path) -> None:
    with release_port(tmp_path, ROOT) as port:
        key = offered(port, tmp_path)
        with pytest.raises(AttestationError) as caught:
            release(port, replace(key, register=b"\1" * 48))
        assert caught.value.code == "model-register"


def test_the_log_says_who_got_it_and_the_limit_holds_over_runs(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with release_port(tmp_path, ROOT) as port:
        key = offered(port, tmp_path)
        release(port, key, log=ReleaseLog(path, 1))
    value = json.loads(path.read_text())
    assert (value["result"], value["file"]) == ("allowed", key.file_id.hex())
    assert set(value["pcrs"]) == {*map(str, PCRS), "16"}
    again = tmp_path / "again"
    again.mkdir()
    with release_port(again, ROOT) as port:
        other = offered(port, again)
        with pytest.raises(StateError) as caught:
            release(port, replace(other, file_id=key.file_id), log=ReleaseLog(path, 1))
        assert caught.value.code == "release-limit"
    assert path.stat().st_mode & 0o777 == 0o600


def test_nothing_is_released_that_the_log_cannot_hold(tmp_path: Path) -> None:
    with release_port(tmp_path, ROOT) as port:
        key = offered(port, tmp_path)
        with pytest.raises(HostError, match="nothing is released"):
            release(port, key, log=ReleaseLog(tmp_path / "none" / "log", None))
        assert state(port) is State.MEASURED


def flipped(chunks: list[bytes]) -> list[bytes]:
    return [chunks[0], chunks[1][:-1] + bytes([chunks[1][-1] ^ 1]), *chunks[2:]]


BAD_CHUNKS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "a bit": flipped,
    "swapped": lambda chunks: [chunks[1], chunks[0], *chunks[2:]],
    "cut": lambda chunks: chunks[:-1],
    "the first twice": lambda chunks: [chunks[0], chunks[0]],
    "too long": lambda chunks: [chunks[0] + b"x"],
}


@pytest.mark.parametrize("what", BAD_CHUNKS)
def test_after_the_key_the_first_bad_chunk_ends_the_enclave(tmp_path: Path, what: str) -> None:
    with release_port(tmp_path, ROOT) as port:
        sealed, key = sealed_in(tmp_path)
        with ReleaseConnection(port.address, PATIENCE_S) as connection:
            connection.offer(sealed)
        release(port, key)
        with connect(port.address, PATIENCE_S) as sock:
            for chunk in BAD_CHUNKS[what](list(sealed.chunks())):
                with suppress(BrokenPipeError):  # it has ended already
                    sock.sendall(encode_frame(FrameType.CHUNK, chunk))
        assert port.ended.wait(PATIENCE_S)
        assert not port.loaded.is_set()
        (failure,) = port.failures
        assert str(failure).startswith(("the weights cannot be opened", "what came after the key"))


class Keeping:
    """An operator's relay that hands on the challenge and keeps what comes after it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sent = 0
        self.kept = b""

    def settimeout(self, value: float | None, /) -> None:
        self._sock.settimeout(value)

    def sendmsg(self, buffers: Sequence[Buffer], /) -> int:
        self._sent += 1
        if self._sent > 1:
            self.kept = b"".join(buffers)
            raise ConnectionResetError
        return self._sock.sendmsg(buffers)

    def recv(self, bufsize: int, /) -> bytes:
        return self._sock.recv(bufsize)

    def close(self) -> None:
        self._sock.close()


def test_a_recorded_release_opens_in_no_other_session(tmp_path: Path) -> None:
    with release_port(tmp_path, ROOT) as port:
        key = offered(port, tmp_path)
        sock = Keeping(connect(port.address, PATIENCE_S))
        stream = FrameStream(sock, "the enclave")
        with pytest.raises(EnclaveLost):
            release_key(stream, key, lambda: TERMS, ReleaseLog(None, None), time.monotonic() + PATIENCE_S)
        stream.close()
        replay = FrameStream(connect(port.address, PATIENCE_S), "the enclave")
        deadline = time.monotonic() + PATIENCE_S
        receive_evidence(replay, new_challenge(), deadline)
        replay.accept({FrameType.REFUSAL: REFUSAL_BYTES})
        replay.send(sock.kept, deadline=deadline)
        assert parse_refusal(replay.receive(deadline).body).code is RefusalCode.UNREADABLE
        replay.close()
        assert state(port) is State.MEASURED
