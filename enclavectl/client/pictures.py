"""The pictures that a user names: files, folders and standard input, read one at a time, within bounds."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from pathlib import Path

from enclavectl.errors import PictureRefused, UsageError
from enclavectl.protocol.media import MAX_PICTURE_BYTES, MediaType

STDIN = "-"
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
_HEAD_BYTES = 16


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


def collect(arguments: Sequence[str]) -> list[str]:
    """The names to read, in order: folders give their pictures, sorted by name, without subfolders.

    Raises:
        UsageError: a name does not exist or may not be looked at, a folder holds no picture, or ``-`` is
            named twice.
    """
    names: list[str] = []
    for argument in arguments:
        names += [STDIN] if argument == STDIN else _named_by(argument)
    if names.count(STDIN) > 1:
        raise UsageError("standard input (-) can be read only once")
    return names


def _named_by(argument: str) -> list[str]:
    path = Path(argument)
    try:
        if not stat.S_ISDIR(path.stat().st_mode):
            return [argument]
        found = [entry for entry in path.iterdir() if entry.suffix.lower() in _SUFFIXES]
        names = sorted(str(entry) for entry in found if not entry.is_dir())
    except FileNotFoundError as exc:
        raise UsageError(f"{argument}: no such file or folder") from exc
    except (OSError, ValueError) as exc:  # ValueError: a NUL character in the path
        raise UsageError(f"{argument:.200}: cannot be read ({getattr(exc, 'strerror', exc)})") from exc
    if not names:
        raise UsageError(
            f"{argument}: expected a folder with pictures, found none",
            hint=f"pictures are files ending in {', '.join(sorted(_SUFFIXES))}",
        )
    return names


def read_picture(name: str, read_stdin: Callable[[int], bytes]) -> Picture:
    """The picture called ``name``; ``read_stdin(limit)`` is called for ``-``.

    Raises:
        PictureRefused: unreadable, empty, over 16 MiB, or of no format that the enclave decodes. Nothing
            but this picture is affected, and nothing has been sent.
    """
    limit = MAX_PICTURE_BYTES
    try:
        data = read_stdin(limit + 1) if name == STDIN else _read_file(name, limit + 1)
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else exc
        raise PictureRefused(f"{name}: cannot be read ({reason})", code="unreadable-file") from exc
    if not data:
        raise PictureRefused(f"{name}: expected a picture, found an empty file", code="empty")
    if len(data) > limit:
        raise PictureRefused(
            f"{name}: expected at most {limit} bytes, found more",
            hint="scale the picture down; the model looks at far fewer pixels",
            code="too-large",
        )
    return Picture(name, _media_type(name, data), data)


def read_pictures(
    names: Sequence[str], read_stdin: Callable[[int], bytes]
) -> Iterator[Picture | PictureRefused]:
    """The pictures in order, or why they were refused. The first is read now, the others when asked for.

    So call this before connecting: an enclave gives a new connection a few seconds to send a picture, and
    standard input may take longer.
    """

    def read() -> Iterator[Picture | PictureRefused]:
        for name in names:
            try:
                yield read_picture(name, read_stdin)
            except PictureRefused as error:
                yield error

    source = read()
    return chain(list(islice(source, 1)), source)


def media_type_of(data: bytes) -> MediaType | None:
    """The format that the first bytes announce; None if it is none of ours."""
    if data.startswith(b"\xff\xd8\xff"):
        return MediaType.JPEG
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return MediaType.PNG
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return MediaType.WEBP
    if data.startswith(b"BM"):
        return MediaType.BMP
    if data.startswith((b"II*\0", b"MM\0*")):
        return MediaType.TIFF
    return None


def _media_type(name: str, data: bytes) -> MediaType:
    found = media_type_of(data)
    if found is None:
        raise PictureRefused(
            f"{name}: expected JPEG, PNG, WebP, BMP or TIFF, found {_guess(data)}",
            hint="convert the picture to JPEG or PNG",
            code="unsupported-format",
        )
    return found


def _guess(data: bytes) -> str:
    known = {
        b"GIF8": "a GIF",
        b"%PDF": "a PDF",
        b"<svg": "an SVG",
        b"<?xml": "XML",
        b"PK\x03\x04": "a ZIP archive",
    }
    for magic, name in known.items():
        if data.startswith(magic):
            return name
    if data[4:8] == b"ftyp":
        return "HEIC, AVIF or a film"
    return "none of them"


def _read_file(name: str, limit: int) -> bytes:
    # O_NONBLOCK: opening a FIFO without a writer would wait without end.
    descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            # Without waiting, a pipe gives what happens to be in it: half a picture.
            raise PictureRefused(
                f"{name}: expected a file, found a folder, a pipe or a device",
                hint="to read from a pipe, name - and give it as standard input",
                code="unreadable-file",
            )
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(limit)
    finally:
        os.close(descriptor)
