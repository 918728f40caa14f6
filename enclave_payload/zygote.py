"""The processes that look at pictures, and the one that they are forked from: the only module that forks.

``start_zygote`` runs before a key exists, so that no process below has ever had one in its memory. The zygote
loads Pillow, reads the model when it is told to, locks itself down, parses the weights, and from then on only
forks: it looks at no picture. A decoder is a fork of it that has given up the rest. It serves one picture
after the other from its one descriptor until it is killed.
"""

from __future__ import annotations

import contextlib
import gc
import io
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from enclave_payload.card import MAX_WEIGHTS_BYTES, CardError
from enclave_payload.heap import keep_freed_memory
from enclave_payload.limits import MIB, Limits
from enclave_payload.lockdown import Missing, lock_down, lock_down_zygote
from enclave_payload.shared_picture import SharedPicture
from enclave_payload.verdict import REQUEST_BYTES, parse_request_header, write_verdict

if TYPE_CHECKING:
    from enclave_payload.pipeline import Pipeline

# One is enough: a message names a slot, or a process.
_MESSAGE_BYTES = 256
# The descriptor that a decoder has; all others are closed, standard error too: libtiff writes to it.
_CHANNEL = 0
# The most that glibc takes for its M_MMAP_THRESHOLD; a picture of a camera needs as much in one piece.
_KEPT_BYTES = 32 * MIB
# Sent to the zygote once the model is pinned: weights that take over their parser find the register locked.
LOAD = b"load"
READY = b"ready"


def start_zygote(folder: Path, limits: Limits) -> socket.socket:
    """Fork the zygote for the model in ``folder``, and return the socket to it.

    After ``LOAD`` it loads the model, from the stream that comes with it if one does, and sends ``READY``, or
    why it cannot serve. Then each slot number (one byte) with a stream socket and a picture's memory makes it
    kill the slot's decoder, start another on them and send back its process id (four bytes). It ends when the
    socket does.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        _run_zygote(folder, theirs, limits)
    theirs.close()
    return ours


def _run_zygote(folder: Path, channel: socket.socket, limits: Limits) -> NoReturn:
    try:
        # It ends when the key holder does. What a terminal or a supervisor tells the whole group comes too
        # early: pictures that were taken are still to be looked at.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        _close_all_but({*range(3), channel.fileno()})
        # numpy's OpenBLAS would start threads, which do not survive a fork.
        os.putenv("OPENBLAS_NUM_THREADS", "1")
        dies_first = _DiesFirst()
        loaded = _load(folder, channel)
        if loaded is not None:
            _close_all_but({channel.fileno(), *dies_first.descriptors})
            keep_freed_memory(_KEPT_BYTES)
            gc.enable()
            gc.freeze()  # looking for garbage would copy every page that is shared with decoders
            _fork_decoders(*loaded, channel, limits, dies_first)
    except BaseException:  # noqa: BLE001 - a bug: its story is for the console, and nothing may return
        sys.excepthook(*sys.exc_info())
    os._exit(1)


def _load(folder: Path, channel: socket.socket) -> tuple[Pipeline, Missing] | None:
    # Here and not above: the key holder imports this module, and must not have a picture's parser in it. No
    # library is loaded once this process is locked down.
    from enclave_payload.classifier import read_model  # noqa: PLC0415
    from enclave_payload.pipeline import Pipeline, UnfitError  # noqa: PLC0415

    message, descriptors, _, _ = socket.recv_fds(channel, _MESSAGE_BYTES, 1)
    if message != LOAD:  # the key holder has ended
        return None
    try:
        model = _receive_model(descriptors[0]) if descriptors else read_model(folder)
        os.closerange(0, 2)  # the console is left for the story of a bug; there is no /dev/null in a build
        # What TFLite makes of the weights can make itself the master of this process: it has no key, and from
        # here on it has no way to one.
        missing = lock_down_zygote()
        pipeline = Pipeline(*model)
    except (CardError, OSError, UnfitError) as exc:
        with contextlib.suppress(OSError):  # the key holder has ended: a chunk did not open
            channel.send(str(exc).encode(errors="replace")[:_MESSAGE_BYTES])
        return None
    channel.send(READY)
    return pipeline, missing


def _receive_model(descriptor: int) -> tuple[bytes, bytes]:
    """Read ``u32 length | card | weights`` to the stream's end; what is cut off does not fit the card's hash.

    Without a second copy of the weights: BytesIO gives its own buffer away.
    """
    weights = io.BytesIO()
    with open(descriptor, "rb") as stream:
        card = stream.read(int.from_bytes(stream.read(4), "big"))
        while weights.tell() <= MAX_WEIGHTS_BYTES and (piece := stream.read(MIB)):
            weights.write(piece)
    return card, weights.getvalue()


class _DiesFirst:
    """The order in which the kernel kills where the memory of all runs out: decoders, the zygote, the others.

    A descriptor of its own file, for it will open none to write. /proc is absent where images are built.
    """

    def __init__(self) -> None:
        self.descriptors = []
        with contextlib.suppress(OSError):
            self.descriptors.append(os.open("/proc/self/oom_score_adj", os.O_WRONLY))
        self._write(b"500")

    def fork(self) -> int:
        """Fork a process that goes before this one: it inherits what this one has at that moment."""
        self._write(b"1000")
        pid = os.fork()
        if pid != 0:
            self._write(b"500")
        return pid

    def _write(self, score: bytes) -> None:
        for descriptor in self.descriptors:
            with contextlib.suppress(OSError):
                os.write(descriptor, score)


def _fork_decoders(
    pipeline: Pipeline, missing: Missing, channel: socket.socket, limits: Limits, dies_first: _DiesFirst
) -> None:
    decoders: dict[int, int] = {}
    while True:
        message, descriptors, _, _ = socket.recv_fds(channel, 1, 2)
        if not message or len(descriptors) != 2:
            break
        if (old := decoders.pop(message[0], None)) is not None:
            # Not buried before: until then its number is no other process's.
            os.kill(old, signal.SIGKILL)
            os.waitpid(old, 0)
        zygote_pid = os.getpid()
        pid = dies_first.fork()
        if pid == 0:
            _run_decoder(pipeline, descriptors[0], descriptors[1], zygote_pid, limits, missing)
        for descriptor in descriptors:
            os.close(descriptor)
        decoders[message[0]] = pid
        channel.send(pid.to_bytes(4, "big"))


def _run_decoder(
    pipeline: Pipeline, channel: int, memory: int, zygote_pid: int, limits: Limits, missing: Missing
) -> NoReturn:
    with contextlib.suppress(OSError):  # the key holder, or the zygote, is gone
        shared = SharedPicture(memory)
        os.dup2(channel, _CHANNEL)
        _close_all_but({_CHANNEL})
        missing |= lock_down(zygote_pid, memory_bytes=limits.picture_memory_bytes, cpu_s=limits.decoder_cpu_s)
        os.write(_CHANNEL, bytes([missing]))
        while header := os.read(_CHANNEL, REQUEST_BYTES):
            media_type, size = parse_request_header(header)
            verdict = write_verdict(pipeline.run(shared.take(size), media_type), pipeline.labels)
            # Far below what the kernel takes at once, whole or not at all.
            if os.write(_CHANNEL, verdict) != len(verdict):
                break  # the key holder does not read
    os._exit(0)


def _close_all_but(kept: set[int]) -> None:
    start = 0
    for descriptor in [*sorted(kept), os.sysconf("SC_OPEN_MAX")]:
        if start < descriptor:  # Python 3.11 takes an empty range that ends in 0 for all descriptors
            os.closerange(start, descriptor)
        start = descriptor + 1
