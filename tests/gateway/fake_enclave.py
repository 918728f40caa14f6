"""An enclave that answers anything: evidence of zeros, and an answer of fixed bytes for each request."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from enclave_payload.messages import ANSWER_BYTES, MAX_SEALED_BYTES
from enclave_payload.wire import FrameReader, FrameType, encode_frame

EVIDENCE = encode_frame(FrameType.EVIDENCE, bytes(5000))
ANSWER = encode_frame(FrameType.ANSWER, bytes(ANSWER_BYTES))


class FakeEnclave:
    """Listens on a Unix socket. ``stop`` ends it with all its connections, as a crash does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.requests = 0
        self.may_read = threading.Event()
        self.may_read.set()
        # Of the last connection: past ``may_read``, and about to read.
        self.is_reading = threading.Event()
        self._open: set[socket.socket] = set()
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen(256)
        threading.Thread(target=self._serve, daemon=True).start()

    def __str__(self) -> str:
        return f"unix:{self.path}"

    @property
    def connections(self) -> int:
        return len(self._open)

    def stop(self) -> None:
        self.path.unlink(missing_ok=True)
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for sock in list(self._open):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listening.accept()
                self._open.add(sock)
                threading.Thread(target=self._converse, args=(sock,), daemon=True).start()

    def _converse(self, sock: socket.socket) -> None:
        reader = FrameReader({FrameType.CHALLENGE: 34, FrameType.SEALED: MAX_SEALED_BYTES})
        with suppress(OSError), sock:
            self.is_reading.set()
            while data := sock.recv(1 << 18):
                self.is_reading.clear()
                reader.feed(data)
                while (frame := reader.next_frame()) is not None:
                    if frame.type is FrameType.CHALLENGE:
                        sock.sendall(EVIDENCE)
                    else:
                        self.requests += 1
                        sock.sendall(ANSWER)
                self.may_read.wait()
                self.is_reading.set()
        self._open.discard(sock)


@contextmanager
def fake_enclave(path: Path) -> Iterator[FakeEnclave]:
    enclave = FakeEnclave(path)
    yield enclave
    enclave.stop()


if __name__ == "__main__":
    FakeEnclave(Path(sys.argv[1]))
    threading.Event().wait()
