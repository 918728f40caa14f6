"""The errors of this room: one type per reader, each an ``EifError`` with a stable code and an offset."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from enclavectl.errors import UsageError


class EifError(UsageError):
    """A broken rule of an image, or of a part of one.

    ``code`` is stable and meant for programs. ``offset`` is in bytes from the start of the file (or, for a
    ``CpioError`` or a ``LayerError``, of the archive); ``None`` if the rule is not about one place.
    ``reason`` is the message without the offset.
    """

    kind = "eif"

    def __init__(
        self, message: str, *, code: str, offset: int | None = None, hint: str | None = None
    ) -> None:
        place = "" if offset is None else f" (at byte {offset})"
        super().__init__(message + place, hint=hint, code=code)
        self.reason = message
        self.offset = offset


class CpioError(EifError):
    """A ramdisk is not a newc archive that we would write or unpack."""


class LayerError(EifError):
    """A tar archive, an image layer or an image archive cannot be used."""


@contextmanager
def naming(path: Path, *, hint: str | None = None) -> Iterator[None]:
    """Prefix the message of an ``EifError`` in the block with the file's name, which readers do not know.

    ``hint`` replaces the reader's hint.
    """
    try:
        yield
    except EifError as exc:
        raise EifError(
            f"{path}: {exc.reason}", code=exc.code, offset=exc.offset, hint=hint or exc.hint
        ) from exc
