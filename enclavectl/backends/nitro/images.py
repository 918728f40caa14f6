"""The store of the images that this user's Nitro enclaves were launched from."""

from __future__ import annotations

from pathlib import Path

from enclavectl.backends.keeping.folders import enclave_folders, remove_enclave
from enclavectl.backends.keeping.images import remove_halves
from enclavectl.backends.keeping.locks import is_kept
from enclavectl.backends.nitro.records import Record, load_record
from enclavectl.nitro_cli.hostlock import host_lock
from enclavectl.progress import Progress


def prune(home: Path, progress: Progress) -> None:
    """Remove the images under ``home`` that no existing or starting enclave uses.

    Raises:
        StateError: a record is damaged, so its image is unknown; nothing is removed.
    """
    with host_lock(home, "start of an enclave", progress):
        folders = enclave_folders(home / "enclaves")
        recorded = [folder for folder in folders if (folder / "record.json").exists()]
        remove_unused(home / "images", [load_record(folder) for folder in recorded])
        remove_halves(home / "images")
        for folder in set(folders) - set(recorded):
            if not is_kept(folder):  # its start was killed before the launch
                remove_enclave(folder)


def remove_unused(store: Path, used: list[Record]) -> None:
    """Remove the images that no enclave of these records uses."""
    kept = {record.image for record in used}
    try:
        for path in store.iterdir():
            if path.suffix == ".eif" and path not in kept:
                path.unlink(missing_ok=True)
    except FileNotFoundError:
        return
