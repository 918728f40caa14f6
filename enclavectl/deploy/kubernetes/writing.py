"""The folder of a fleet: written whole, and never over files that somebody else put there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from enclavectl.deploy.kubernetes.objects import MARK
from enclavectl.deploy.kubernetes.seccomp import PROFILE_FILE, PROFILE_MARK
from enclavectl.deploy.writing import is_marked
from enclavectl.errors import HostError, UsageError
from enclavectl.files import write_atomic


def write_fleet(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write the files, and remove those of an earlier fleet that this one does not have.

    Raises:
        UsageError: the folder has files that were not rendered; nothing was changed.
        HostError: the folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = sorted(folder.iterdir())
    except OSError as exc:
        raise HostError(
            f"{folder}: cannot make this folder ({exc.strerror})", hint="--to names a folder that can be made"
        ) from exc
    foreign = [path.name for path in there if not _is_ours(path)]
    if foreign:
        raise UsageError(
            f"{folder}: expected a folder for rendered files alone, found {', '.join(foreign[:5])}",
            hint="name another folder; changes of yours belong in an overlay beside it (kustomize)",
            code="fleet-foreign-files",
        )
    for name, content in files.items():
        write_atomic(folder / name, content, mode=0o644)
    for path in there:
        if path.name not in files:
            path.unlink(missing_ok=True)


def _is_ours(path: Path) -> bool:
    return is_marked(path, PROFILE_MARK if path.name == PROFILE_FILE else MARK)
