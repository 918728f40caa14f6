"""Decoders: real ones that are killed, overrun and crowded, and false ones that lie."""

import multiprocessing
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from enclave_payload.card import PARTS_PER_BILLION
from enclave_payload.decoder import (
    Decoder,
    DecoderLostError,
    DecoderProcess,
    Decoders,
    Finding,
    Preempted,
    Zygote,
)
from enclave_payload.limits import Limits
from enclave_payload.lockdown import Missing
from enclave_payload.media import MediaType
from enclave_payload.shared_picture import SharedPicture, create_memory
from enclave_payload.verdict import Problem, Verdict, verdict_bytes, write_verdict
from enclave_payload.zygote import start_zygote
from tests.hostile.pictures import jpeg_scans, png_transparent_palette
from tests.payload.cards import CARD
from tests.payload.decoders import FORKS_BESIDE_THREADS, MODEL_DIR, SAMPLES, decoders, kill

pytestmark = pytest.mark.filterwarnings(FORKS_BESIDE_THREADS)

SAMPLE = (SAMPLES / "bcc.png").read_bytes()
LABELS = len(CARD.labels)
SLOW = jpeg_scans(500)
KILLS = 200


def look(decoder: Decoder, picture: bytes = SAMPLE, media_type: MediaType = MediaType.PNG) -> Finding:
    return decoder.classify(picture, media_type, lambda: True)


def assert_sound(finding: Finding) -> None:
    assert finding.verdict.problem is None
    assert abs(sum(finding.verdict.probabilities_ppb) - PARTS_PER_BILLION) < PARTS_PER_BILLION // 100
    assert 0 < finding.verdict.inference_us < finding.took_us


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with decoders() as (decoder,):
        yield decoder


def test_it_says_what_the_model_says(decoder: Decoder) -> None:
    first, second = look(decoder), look(decoder)
    assert_sound(first)
    assert first.verdict == second.verdict


def test_what_is_done_meanwhile_is_done_once_before_the_verdict_is_read(decoder: Decoder) -> None:
    done: list[int] = []

    def meanwhile() -> None:
        time.sleep(0.2)
        done.append(len(done))

    found = decoder.classify(SAMPLE, MediaType.PNG, lambda: True, meanwhile)
    assert_sound(found)
    assert done == [0]
    assert found.took_us >= 200_000


def test_a_failure_meanwhile_leaves_no_verdict_for_the_next_picture(decoder: Decoder) -> None:
    expected, pid = look(decoder).verdict, decoder.pid

    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        decoder.classify(b"", MediaType.PNG, lambda: True, fail)
    assert decoder.pid != pid
    assert look(decoder).verdict == expected


@pytest.mark.parametrize(("picture", "problem"), [(b"", Problem.EMPTY), (SAMPLE[:5000], Problem.UNREADABLE)])
def test_a_picture_without_an_answer_has_its_problem(
    decoder: Decoder, picture: bytes, problem: Problem
) -> None:
    pid = decoder.pid
    assert look(decoder, picture).verdict == Verdict(problem=problem)
    assert decoder.pid == pid


def test_a_decoder_that_was_killed_costs_one_picture(decoder: Decoder) -> None:
    kill(decoder)
    assert look(decoder).verdict == Verdict(problem=Problem.DECODER_FAILED)
    assert_sound(look(decoder))


def test_nothing_is_lost_to_200_kills_at_any_moment(decoder: Decoder) -> None:
    """Each picture has one verdict: the model's, or that its decoder failed."""
    random = Random(1)
    expected = look(decoder).verdict
    verdicts = []
    for _ in range(KILLS):
        killer = threading.Timer(random.uniform(0, 0.03), kill, [decoder])
        killer.start()
        verdicts.append(look(decoder).verdict)
        killer.join()
    assert set(verdicts) <= {expected, Verdict(problem=Problem.DECODER_FAILED)}
    assert Verdict(problem=Problem.DECODER_FAILED) in verdicts
    look(decoder)  # the last kill may have come between two pictures
    assert look(decoder).verdict == expected


def test_a_picture_over_its_budget_of_cpu_is_too_costly() -> None:
    with decoders(limits=Limits(picture_cpu_s=0.3)) as (decoder,):
        pid = decoder.pid
        assert look(decoder, SLOW, MediaType.JPEG).verdict == Verdict(problem=Problem.TOO_COSTLY)
        assert not Path(f"/proc/{pid}").exists()
        assert_sound(look(decoder))


def test_a_picture_over_its_time_is_too_costly() -> None:
    with decoders(limits=Limits(picture_wall_s=0.2)) as (decoder,):
        assert look(decoder, SLOW, MediaType.JPEG).verdict == Verdict(problem=Problem.TOO_COSTLY)


def look_at_a_large_picture() -> tuple[Verdict, Verdict]:
    with decoders(limits=Limits(picture_memory_bytes=64 << 20)) as (decoder,):
        return look(decoder, png_transparent_palette(5_000)).verdict, look(decoder).verdict


def test_a_picture_over_its_memory_is_too_costly() -> None:
    # In a fresh process: a fork of this one may use again what the tests before have freed.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        large, next_one = pool.apply(look_at_a_large_picture)
    assert large == Verdict(problem=Problem.TOO_COSTLY)
    assert next_one.problem is None


def test_a_slow_picture_gives_way_when_it_must_and_only_then(decoder: Decoder) -> None:
    assert look(decoder, jpeg_scans(30), MediaType.JPEG).verdict.problem is None
    with pytest.raises(Preempted):
        decoder.classify(SLOW, MediaType.JPEG, lambda: False)
    assert_sound(look(decoder))
    # Small pictures are not asked.
    assert decoder.classify(b"", MediaType.PNG, lambda: False).verdict.problem is Problem.EMPTY


def test_a_decoder_that_has_worked_long_is_replaced() -> None:
    with decoders(limits=Limits(decoder_cpu_s=1)) as (decoder,):
        pid = decoder.pid
        while decoder.pid == pid:
            assert_sound(look(decoder))


def test_decoders_end_with_their_owner() -> None:
    with decoders(2) as both:
        pids = [decoder.pid for decoder in both]
        assert all(Path(f"/proc/{pid}").exists() for pid in pids)
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def test_where_the_zygote_is_gone_no_picture_is_looked_at() -> None:
    running = Decoders(MODEL_DIR, Limits())
    (decoder,) = running.start(1, print)
    running.close()
    wait_until(lambda: not Path(f"/proc/{decoder.pid}").exists())
    with pytest.raises(DecoderLostError):
        look(decoder)


def test_a_model_that_does_not_fit_its_card_is_named(tmp_path: Path) -> None:
    for name in ("model.json", "model.tflite"):
        (tmp_path / name).write_bytes((MODEL_DIR / name).read_bytes())
    (tmp_path / "model.tflite").write_bytes(b"TFL3")
    running = Decoders(tmp_path, Limits())
    with pytest.raises(DecoderLostError, match="the card names SHA-256"):
        running.start(1, print)
    running.close()


def test_it_is_confined_on_this_kernel() -> None:
    log: list[str] = []
    with decoders(log=log) as (decoder,):
        assert decoder.missing is Missing.NOTHING
        status = Path(f"/proc/{decoder.pid}/status").read_text()
        assert "NoNewPrivs:\t1" in status
        assert "Seccomp:\t2" in status
        assert "Threads:\t1" in status
        if os.getuid() == 0:
            assert "Uid:\t65534\t65534\t65534\t65534" in status
            assert [path.name for path in Path(f"/proc/{decoder.pid}/fd").iterdir()] == ["0"]
    assert log == []


def test_the_key_holder_loads_nothing_that_parses_pictures() -> None:
    code = (
        "import sys, enclave_payload.__main__, enclave_payload.key_holder; "
        "print([name for name in sys.modules if name.partition('.')[0] in "
        "{'PIL', 'numpy', 'tflite_runtime', 'ai_edge_litert'}])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_a_decoder_loads_no_library_of_seals() -> None:
    """Nor does it wait for one when the enclave boots."""
    code = (
        "import sys, enclave_payload.zygote, enclave_payload.pipeline; "
        "print([name for name in sys.modules if name.partition('.')[0] == 'cryptography'])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_a_zygote_that_was_forked_before_is_taken() -> None:
    channel = start_zygote(MODEL_DIR, Limits())
    running = Decoders(MODEL_DIR, Limits(), channel=channel)
    try:
        (decoder,) = running.start(1, print)
        assert_sound(look(decoder))
    finally:
        running.close()


def test_the_kernel_kills_decoders_before_their_zygote_and_that_before_the_key_holder() -> None:
    with decoders(count=2) as running:
        scores = [_oom_score(one.pid) for one in running]
        zygote = int(Path(f"/proc/{running[0].pid}/stat").read_text().rpartition(") ")[2].split()[1])
        assert (scores, _oom_score(zygote), _oom_score(os.getpid())) == ([1000, 1000], 500, 0)


def _oom_score(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


@pytest.mark.parametrize("named", [b"\x80\0\0\0", b"\xff" * 4, b"\xff" * 200])
def test_weights_that_took_over_the_zygote_name_no_process_that_cannot_be(named: bytes) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        theirs.send(named)
        zygote = Zygote(ours)
        with pytest.raises(DecoderLostError, match="names a process that there cannot be"):
            zygote.start_decoder(0)
        zygote.close()


class FalseStarter:
    """Its decoders send what they are told to as soon as they are asked, and read nothing."""

    def __init__(self, says: bytes, *, is_quiet: bool = False) -> None:
        self._says = says
        self._is_quiet = is_quiet
        self.started = 0
        self._theirs: list[socket.socket] = []

    def start_decoder(self, slot: int) -> DecoderProcess:
        del slot
        self.started += 1
        ours, theirs = socket.socketpair()
        theirs.sendall(self._says)
        self._theirs.append(theirs)
        if not self._is_quiet:
            theirs.shutdown(socket.SHUT_WR)
        ours.setblocking(False)
        descriptor = create_memory()
        memory = SharedPicture(descriptor)
        os.close(descriptor)
        return DecoderProcess(ours, memory, os.getpid(), Missing.NOTHING)

    def close(self) -> None:
        for sock in self._theirs:
            sock.close()


def said(says: bytes, *, is_quiet: bool = False) -> tuple[Verdict, int]:
    starter = FalseStarter(says, is_quiet=is_quiet)
    # Only silence uses up the time; the others are to be told by what they say.
    decoder = Decoder(starter, 0, CARD, Limits(picture_wall_s=0.1) if is_quiet else Limits())
    verdict = look(decoder, b"picture").verdict
    decoder.close()
    starter.close()
    return verdict, starter.started


FIRST = (PARTS_PER_BILLION, *[0] * (LABELS - 1))
ANSWER = write_verdict(Verdict(FIRST), LABELS)
# An hour.
TOO_LONG = write_verdict(Verdict(FIRST, inference_us=3_600_000_000), LABELS)


def test_a_false_decoder_can_lie_about_its_picture_and_no_more() -> None:
    assert said(ANSWER)[0].problem is None


@pytest.mark.parametrize(
    "says",
    [b"", ANSWER[:-1], b"\xff" * verdict_bytes(LABELS), ANSWER[:-4] + b"\xff" * 4, TOO_LONG],
    ids=["nothing", "cut", "garbage", "over one", "longer than it took"],
)
def test_what_no_decoder_says_costs_the_picture_and_the_decoder(says: bytes) -> None:
    assert said(says) == (Verdict(problem=Problem.DECODER_FAILED), 2)


def test_silence_costs_the_picture_and_the_decoder() -> None:
    assert said(b"", is_quiet=True) == (Verdict(problem=Problem.TOO_COSTLY), 2)


def wait_until(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.01)
