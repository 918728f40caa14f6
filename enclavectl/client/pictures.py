"""A picture on its way into an enclave: read from a file or from standard input, within bounds."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

from enclavectl.client.folders import STDIN
from enclavectl.client.formats import COPIED_AS_TEXT, media_type_of, other_format_of, was_copied_as_text
from enclavectl.errors import PictureRefused
from enclavectl.protocol.media import MAX_PICTURE_BYTES, MediaType


@dataclass(frozen=True)
class Picture:
    """An encoded picture on its way into an enclave. Its bytes appear in no repr, log or message."""

    name: str
    media_type: MediaType
    data: bytes

    def __repr__(self) -> str:
        return f"Picture({self.name!r}, {self.media_type}, {len(self.data)} bytes)"

    @cached_property
    def sha256(self) -> str:
        """Hex hash of the encoded bytes, by which an owner finds the picture again."""
        return hashlib.sha256(self.data).hexdigest()


def read_picture(name: str, read_stdin: Callable[[int], bytes]) -> Picture:
    """Read the picture ``name``; for ``-``, call ``read_stdin(limit)``.

    Raises:
        PictureRefused: unreadable, empty, over 16 MiB, or of no format that the enclave decodes. Only this
            picture is affected, and nothing was sent.
    """
    limit = MAX_PICTURE_BYTES
    try:
        data = read_stdin(limit + 1) if name == STDIN else _read_file(name, limit + 1)
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else exc
        raise PictureRefused(f"{name}: cannot be read ({reason})", code="unreadable-file") from exc
    return parse_picture(name, data)


def parse_picture(name: str, data: bytes) -> Picture:
    """Make a picture of the bytes of a file or of a request; ``name`` is for messages.

    Raises:
        PictureRefused: empty, over 16 MiB, or of no format that the enclave decodes.
    """
    limit = MAX_PICTURE_BYTES
    if not data:
        raise PictureRefused(f"{name}: expected a picture, found an empty file", code="empty")
    if len(data) > limit:
        raise PictureRefused(
            f"{name}: expected at most {limit} bytes, found more",
            hint="scale the picture down; the model looks at far fewer pixels",
            code="too-large",
        )
    return Picture(name, _media_type(name, data), data)


class PictureSource(Iterator["Picture | PictureRefused | None"]):
    """Pictures in order, or why they were refused; None for one that needs no answer.

    ``has_any`` is false if none of them can be sent.
    """

    def __init__(self, pictures: Iterator[Picture | PictureRefused | None], *, has_any: bool) -> None:
        """Take what was read ahead, and the rest."""
        self._pictures = pictures
        self.has_any = has_any

    def __next__(self) -> Picture | PictureRefused | None:
        """Read the next one, or why it was refused."""
        return next(self._pictures)

    def unanswered(self) -> Iterator[Picture | PictureRefused]:
        """Yield those that need an answer."""
        return (found for found in self if found is not None)


def read_pictures(
    names: Sequence[str],
    read_stdin: Callable[[int], bytes],
    is_done: Callable[[str, Picture | PictureRefused], bool] = lambda _name, _found: False,
) -> PictureSource:
    """Read the pictures up to the first that can be sent; the others are read when due.

    ``is_done`` says of what was read whether it has its answer already; None then stands in its place.

    So call this before connecting: an enclave gives a new connection a few seconds to send a picture, and
    standard input may take longer. Without any picture to send no enclave is needed.
    """

    def read() -> Iterator[Picture | PictureRefused | None]:
        for name in names:
            found: Picture | PictureRefused
            try:
                found = read_picture(name, read_stdin)
            except PictureRefused as error:
                found = error
            yield None if is_done(name, found) else found

    source, ahead = read(), list[Picture | PictureRefused | None]()
    for one in source:
        ahead.append(one)
        if isinstance(one, Picture):
            return PictureSource(chain(ahead, source), has_any=True)
    return PictureSource(iter(ahead), has_any=False)


def _media_type(name: str, data: bytes) -> MediaType:
    found = media_type_of(data)
    if found is None or was_copied_as_text(data):
        other = COPIED_AS_TEXT if found else other_format_of(data, name)
        raise PictureRefused(
            f"{name}: expected JPEG, PNG, WebP, BMP or TIFF, found {other.name}",
            hint=other.hint,
            code="unsupported-format",
        )
    return found


def _read_file(name: str, limit: int) -> bytes:
    # O_NONBLOCK: opening a FIFO without a writer would block forever.
    descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            # A read without waiting returns what is in the pipe at the moment, which may be half a picture.
            raise PictureRefused(
                f"{name}: expected a file, found a folder, a pipe or a device",
                hint="to read from a pipe, name - and give it as standard input",
                code="unreadable-file",
            )
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            # Not limit at once: Python would take memory for so much, and give most of it back.
            data = file.read(min(status.st_size + 1, limit))
            return data if len(data) <= status.st_size else data + file.read(limit - len(data))
    finally:
        os.close(descriptor)
