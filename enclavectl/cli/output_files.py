"""Files that a command writes: new ones, or in place of what the same command wrote before."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path

from enclavectl.eif.format import MAGIC as EIF_MAGIC
from enclavectl.errors import UsageError
from enclavectl.files import kind_of, open_regular, status_at
from enclavectl.new_files import MOVE_HINT

# Each mark is one of the first lines of its file.
_MARK_WITHIN_BYTES = 1024


def require_image_or_new(option: str, path: Path) -> None:
    """Refuse to write an image over anything but an image: it could be the key that signs it.

    Raises:
        UsageError: there is another file, or something else than a file.
    """
    require_own_or_new(option, path, EIF_MAGIC, "an enclave image", within=len(EIF_MAGIC))


def require_own_or_new(
    option: str, path: Path, mark: bytes, what: str, *, within: int = _MARK_WITHIN_BYTES
) -> None:
    """Refuse to write over a file that is not ``what``, which has ``mark`` in its first ``within`` bytes.

    Raises:
        UsageError: there is such a file, or something else than a file.
    """
    found = status_at(path)
    if found is None:
        return
    if not stat.S_ISREG(found.st_mode):
        raise UsageError(
            f"{option} {path}: expected nothing there or {what}, found {kind_of(found.st_mode)}",
            hint=MOVE_HINT,
        )
    try:
        with open_regular(path) as file:
            head = file.read(within)
    except UsageError as exc:
        raise UsageError(f"{option} {exc.message}", hint=MOVE_HINT) from exc
    except OSError as exc:
        raise UsageError(f"{option} {path}: cannot be read ({exc.strerror})", hint=MOVE_HINT) from exc
    if head and mark not in head:
        raise UsageError(
            f"{option} {path}: expected nothing there or {what}, found another file",
            hint=MOVE_HINT,
            code="foreign-file",
        )


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
