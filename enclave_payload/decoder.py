"""The key holder's side of a decoder: starts it, hands it a picture, watches its clock, kills it.

Nothing here looks at a picture. Time is measured here, since a decoder that somebody owns would lie: it may
say how much of it the model took.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from enclave_payload.card import ModelCard, load_card
from enclave_payload.limits import Limits
from enclave_payload.lockdown import Missing
from enclave_payload.media import MediaType
from enclave_payload.shared_picture import SharedPicture, create_memory
from enclave_payload.verdict import (
    Problem,
    Verdict,
    VerdictError,
    parse_verdict,
    request_header,
    verdict_bytes,
)
from enclave_payload.wire import Buffer
from enclave_payload.zygote import LOAD, READY, start_zygote

# How late an overrun, or others who wait, may be noticed.
_TICK_S = 0.02
# Loading a model and Pillow takes 0.3 s on a fast machine, and a fork some milliseconds.
_START_S = 60.0
# PID_MAX_LIMIT in include/linux/threads.h: weights that took over the zygote may name any number.
_MAX_PID = 1 << 22
# The processor time of a whole process, by its number: CPUCLOCK_SCHED in include/linux/posix-timers.h.
_CLOCK_OF_PROCESS = 2


class DecoderLostError(Exception):
    """The zygote is gone or does not answer: no picture can be looked at any more."""


class Preempted(Exception):
    """The picture takes long, and others wait: it has to be looked at again, later."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict, and the whole microseconds that it took, measured outside of the decoder."""

    verdict: Verdict
    took_us: int = 0


class Classifier(Protocol):
    """What a worker needs of a model: its card, and what it says of a picture."""

    @property
    def card(self) -> ModelCard:
        """The measured card."""

    def classify(
        self,
        picture: Buffer,
        media_type: MediaType,
        may_stay: Callable[[], bool],
        meanwhile: Callable[[], None] = lambda: None,
    ) -> Finding:
        """Look at an encoded picture. ``may_stay`` is asked again and again once it has taken long.

        ``meanwhile`` may be called once, while another process looks at the picture.

        Raises:
            Preempted: it may not stay.
        """


@dataclass(frozen=True, slots=True)
class DecoderProcess:
    """A decoder that lives: a socket and memory to it, its number, and what it could not give up."""

    sock: socket.socket
    memory: SharedPicture
    pid: int
    missing: Missing

    def cpu_s(self) -> float:
        """Return the processor time that it has used.

        Raises:
            OSError: it is gone.
        """
        return time.clock_gettime(~self.pid << 3 | _CLOCK_OF_PROCESS)

    def close(self) -> None:
        """Let go of it; the zygote ends it."""
        self.sock.close()
        self.memory.close()


class Starter(Protocol):
    """What starts decoders."""

    def start_decoder(self, slot: int) -> DecoderProcess:
        """Kill the decoder of ``slot``, if there is one, and start another.

        Raises:
            DecoderLostError: it cannot be started.
        """


class Zygote:
    """The process that decoders are forked from. Safe for threads."""

    def __init__(self, channel: socket.socket) -> None:
        """Take the socket that ``start_zygote`` returned."""
        self._sock = channel
        self._sock.settimeout(_START_S)
        self._lock = threading.Lock()

    def load_model(self, stream: socket.socket | None = None) -> None:
        """Tell it to load the model: of its folder, or of ``stream`` (``u32 length | card | weights``)."""
        with contextlib.suppress(OSError):  # it has ended: the answer says so
            socket.send_fds(self._sock, [LOAD], [] if stream is None else [stream.fileno()])

    def wait_loaded(self) -> None:
        """Wait until it has loaded the model.

        Raises:
            DecoderLostError: it cannot; the message says why.
        """
        answer = self._receive()
        if answer != READY:
            why = answer.decode(errors="replace") or "it ended, and said why on the console"
            raise DecoderLostError(f"the model cannot be loaded: {why}")

    def start_decoder(self, slot: int) -> DecoderProcess:
        """Kill the decoder of ``slot``, if there is one, and start another.

        Raises:
            DecoderLostError: there is no zygote any more, or what it started does not live.
        """
        with contextlib.ExitStack() as undo:
            try:
                descriptor = create_memory()
                undo.callback(os.close, descriptor)
                memory = SharedPicture(descriptor)
                undo.callback(memory.close)
                ours, theirs = socket.socketpair()
                undo.callback(ours.close)
                with theirs, self._lock:
                    socket.send_fds(self._sock, [bytes([slot])], [theirs.fileno(), descriptor])
                    pid = self._receive_pid()
                ours.settimeout(_START_S)
                (missing,) = ours.recv(1)
            except (OSError, ValueError) as exc:
                raise DecoderLostError("no process can be started") from exc
            ours.setblocking(False)
            undo.pop_all()
            os.close(descriptor)
        return DecoderProcess(ours, memory, pid, Missing(missing))

    def close(self) -> None:
        """End it, and with it all decoders."""
        self._sock.close()

    def _receive_pid(self) -> int:
        pid = int.from_bytes(self._receive(), "big")
        if pid > _MAX_PID:
            raise DecoderLostError("the process that starts decoders names a process that there cannot be")
        return pid

    def _receive(self) -> bytes:
        try:
            return self._sock.recv(256)
        except OSError as exc:
            raise DecoderLostError("the process that starts decoders does not answer") from exc


class Decoder:
    """One worker's decoder, replaced by a fresh process whenever it fails. Not thread-safe."""

    def __init__(self, zygote: Starter, slot: int, card: ModelCard, limits: Limits) -> None:
        """Start the process.

        Raises:
            DecoderLostError: it cannot be started.
        """
        self._zygote = zygote
        self._slot = slot
        self._card = card
        self._limits = limits
        self._process = zygote.start_decoder(slot)

    @property
    def card(self) -> ModelCard:
        """The measured card."""
        return self._card

    @property
    def pid(self) -> int:
        """The number of the process that will look at the next picture."""
        return self._process.pid

    @property
    def cpu_s(self) -> float:
        """The processor time that this process has used."""
        return self._process.cpu_s()

    @property
    def missing(self) -> Missing:
        """What this kernel did not let the process give up."""
        return self._process.missing

    def close(self) -> None:
        """Let go of the process; it ends with the zygote."""
        self._process.close()

    def classify(
        self,
        picture: Buffer,
        media_type: MediaType,
        may_stay: Callable[[], bool],
        meanwhile: Callable[[], None] = lambda: None,
    ) -> Finding:
        """Have the picture looked at, within its budget of processor, time and memory.

        A decoder that crashes, overruns or breaks the protocol costs this picture and is replaced.

        Raises:
            Preempted: it may not stay.
            DecoderLostError: no decoder can be started.
        """
        is_sound = False
        try:
            conversation = _Conversation(self._process, self._limits, may_stay)
            finding = self._look_at(picture, media_type, conversation, meanwhile)
            is_sound = self.cpu_s < self._limits.decoder_cpu_s / 2
        except _OverrunError:
            return Finding(Verdict(problem=Problem.TOO_COSTLY))
        except (VerdictError, OSError):  # it said what no decoder says, or is gone
            return Finding(Verdict(problem=Problem.DECODER_FAILED))
        finally:
            if not is_sound:
                self._process.close()
                self._process = self._zygote.start_decoder(self._slot)
        return finding

    def _look_at(
        self,
        picture: Buffer,
        media_type: MediaType,
        conversation: _Conversation,
        meanwhile: Callable[[], None],
    ) -> Finding:
        labels, scores = len(self._card.labels), self._card.output.scores
        started = time.perf_counter_ns()
        self._process.memory.put(picture)
        self._process.sock.send(request_header(media_type, len(picture)))
        meanwhile()
        verdict = parse_verdict(conversation.receive(verdict_bytes(labels)), labels, scores)
        took_us = (time.perf_counter_ns() - started) // 1000
        if verdict.inference_us > took_us:
            raise VerdictError("a model takes a part of the time only")
        return Finding(verdict, took_us)


class _OverrunError(Exception):
    """A picture has used up its budget."""


class _Conversation:
    """A conversation about one picture, which ends when the picture's budget does."""

    def __init__(self, process: DecoderProcess, limits: Limits, may_stay: Callable[[], bool]) -> None:
        self._process = process
        self._limits = limits
        self._may_stay = may_stay
        self._cpu_until = process.cpu_s() + limits.picture_cpu_s
        self._started = time.monotonic()

    def receive(self, size: int) -> bytes:
        while True:
            self._wait()
            with contextlib.suppress(BlockingIOError):
                # Written at once, so it comes whole; what is shorter or longer is refused by its length.
                return self._process.sock.recv(size + 1)

    def _wait(self) -> None:
        """Wait until the decoder has said something.

        Raises:
            _OverrunError: the budget is used up.
            Preempted: the picture may not stay.
        """
        poll = select.poll()
        poll.register(self._process.sock, select.POLLIN)
        while not poll.poll(_TICK_S * 1000):
            took_s = time.monotonic() - self._started
            if took_s > self._limits.picture_wall_s or self._process.cpu_s() > self._cpu_until:
                raise _OverrunError
            if took_s > self._limits.slow_s and not self._may_stay():
                raise Preempted


class Decoders:
    """The zygote and the decoders of one enclave."""

    def __init__(
        self, folder: Path, limits: Limits, *, is_sealed: bool = False, channel: socket.socket | None = None
    ) -> None:
        """Take the zygote at ``channel``, or fork one for the model in ``folder``.

        A zygote is forked before a key is made, and before any thread.
        With ``is_sealed`` no model is in the folder: ``receive`` is called before ``start``.

        Raises:
            CardError: the card is not valid.
            OSError: it cannot be read, or no process can be started.
        """
        self._card = None if is_sealed else load_card(folder)
        self._limits = limits
        self._zygote = Zygote(start_zygote(folder, limits) if channel is None else channel)
        self._is_loading = False
        self._decoders: list[Decoder] = []

    @property
    def card(self) -> ModelCard:
        """The measured card."""
        if self._card is None:
            raise DecoderLostError("no model was received")
        return self._card

    def receive(self, card: ModelCard) -> socket.socket:
        """Return the socket that takes the weights of ``card``; close it after the last."""
        self._card = card
        ours, theirs = socket.socketpair()
        with theirs:
            self._zygote.load_model(theirs)
        measured = card.to_json()
        ours.sendall(len(measured).to_bytes(4, "big") + measured)
        self._is_loading = True
        return ours

    def start(self, count: int, log: Callable[[str], None]) -> list[Decoder]:
        """Load the model and start ``count`` decoders; log what this kernel does not let them give up.

        Raises:
            DecoderLostError: the model cannot be loaded, or no process can be started.
        """
        if not self._is_loading:
            self._zygote.load_model()
        self._zygote.wait_loaded()
        for slot in range(count):
            self._decoders.append(Decoder(self._zygote, slot, self.card, self._limits))
        for missing in {decoder.missing for decoder in self._decoders} - {Missing.NOTHING}:
            log(f"decoders are less confined than they should be; this kernel does not give {missing!r}")
        return self._decoders

    def close(self) -> None:
        """End all of them."""
        self._zygote.close()
        for decoder in self._decoders:
            decoder.close()
