"""Files that a command writes: an image in the place of an image, and no two options into one file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from enclavectl.eif.format import MAGIC as EIF_MAGIC
from enclavectl.errors import UsageError
from enclavectl.new_files import require_own_or_new


def require_image_or_new(option: str, path: Path) -> None:
    """Refuse to write an image over anything but an image: it could be the key that signs it.

    Raises:
        UsageError: there is another file, or something else than a file.
    """
    require_own_or_new(option, path, EIF_MAGIC, "an enclave image", within=len(EIF_MAGIC))


def require_distinct(outputs: Iterable[tuple[str, Path]]) -> None:
    """Refuse two options that write one file, of which the second would destroy what the first wrote.

    Raises:
        UsageError: two of ``outputs``, each with its option, are the same file.
    """
    found: dict[Path, str] = {}
    for option, path in outputs:
        other = found.setdefault(path.resolve(), option)
        if other != option:
            raise UsageError(f"{other} and {option}: expected two files, found {path} for both")
