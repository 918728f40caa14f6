"""The head of an HTTP/1.1 response: of a proxy, of a gateway, or of something that is neither."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

from enclavectl.net.stream import ByteStream

# nginx and Apache write at most 8 KiB of headers by default; twice that leaves room for a proxy's own.
_MAX_HEAD_BYTES = 16 * 1024
_RECV_BYTES = 4096
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?\r?\n")
# How much of a refusal's body is read: a sentence, or the beginning of a web page.
_MAX_BODY_BYTES = 4096


class HttpError(ValueError):
    """Bytes that are not the head of an HTTP response."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpHead:
    """A status, the headers by lower-case name (of two equal ones, the last), and the bytes around them.

    ``raw`` is the head itself, ``rest`` what came with it.
    """

    status: int
    headers: Mapping[str, str]
    raw: bytes
    rest: bytes

    @property
    def is_html(self) -> bool:
        """True for a web page."""
        kind = self.headers.get("content-type", "").lower()
        return kind.startswith(("text/html", "application/xhtml")) or (
            not kind and self.rest.lstrip()[:1] == b"<"
        )


def read_head(stream: ByteStream, deadline: float) -> HttpHead:
    """Read the head of a response, by ``deadline`` on the monotonic clock.

    Raises:
        HttpError: the bytes are something else, or the head is too long.
        OSError: the connection broke (ConnectionError at its end), or TimeoutError at the deadline.
    """
    data = b""
    while (end := _end_of_head(data)) == 0:
        if len(data) > _MAX_HEAD_BYTES:
            raise HttpError(f"a head of more than {_MAX_HEAD_BYTES} bytes")
        if not b"HTTP/1."[: len(data)].startswith(data[:7]):
            raise HttpError(f"bytes that begin with {data[:16]!r}")
        more = receive(stream, _RECV_BYTES, deadline)
        if not more:
            raise ConnectionResetError("the connection was closed before there was an answer")
        data += more
    return _parse(data[:end], data[end:])


def read_body_start(stream: ByteStream, head: HttpHead, deadline: float) -> bytes:
    """Read the beginning of the body: what comes by ``deadline`` of its first 4 KiB."""
    length = head.headers.get("content-length", "")
    wanted = min(int(length), _MAX_BODY_BYTES) if re.fullmatch("[0-9]{1,9}", length) else _MAX_BODY_BYTES
    data = head.rest
    try:
        while len(data) < wanted and (more := receive(stream, _RECV_BYTES, deadline)):
            data += more
    except OSError:
        return data[:wanted]  # what has come says more than how it ended
    return data[:wanted]


def receive(stream: ByteStream, size: int, deadline: float) -> bytes:
    """Receive at most ``size`` bytes by ``deadline`` on the monotonic clock; none at the end of the stream.

    Raises:
        OSError: the connection broke; TimeoutError at the deadline.
    """
    stream.settimeout(max(deadline - time.monotonic(), 0))
    try:
        return stream.recv(size)
    except BlockingIOError as exc:
        raise TimeoutError from exc


def send_all(stream: ByteStream, data: bytes, deadline: float) -> None:
    """Send all of ``data`` by ``deadline`` on the monotonic clock.

    Raises:
        OSError: the connection broke; TimeoutError at the deadline.
    """
    view = memoryview(data)
    try:
        while view:
            stream.settimeout(max(deadline - time.monotonic(), 0))
            view = view[stream.sendmsg([view]) :]
    except BlockingIOError as exc:
        raise TimeoutError from exc


def _end_of_head(data: bytes) -> int:
    """Return where the body begins; 0 while the head is not whole."""
    found = re.search(rb"\r?\n\r?\n", data)
    return 0 if found is None else found.end()


def _parse(head: bytes, rest: bytes) -> HttpHead:
    status = _STATUS_LINE.match(head)
    if status is None:
        raise HttpError(f"bytes that begin with {head[:16]!r}")
    headers: dict[str, str] = {}
    for line in head[status.end() :].splitlines():
        name, colon, value = line.partition(b":")
        if colon:
            headers[name.decode("latin-1").strip().lower()] = value.decode("latin-1").strip()
    return HttpHead(status=int(status[1]), headers=headers, raw=head, rest=rest)
