"""Evidence on the disk: new files only, private, and whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from enclavectl.errors import HostError
from enclavectl.evidence.file import EvidenceFile
from enclavectl.files import require_output
from enclavectl.new_files import append_whole, require_new, write_new


def check_new(option: str, path: Path, size: int = 1) -> None:
    """Check that new evidence of ``size`` bytes can be written at ``path``, before anything is sent.

    Evidence is never written over, not even by newer evidence.

    Raises:
        UsageError: something is there, or its folder is missing or takes no files.
    """
    hint = "evidence is never written over: name another file, or move this one away"
    require_new(option, path, hint=hint)
    require_output(option, path, size)


def write_evidence(path: Path, evidence: EvidenceFile) -> None:
    """Write an evidence file.

    Raises:
        HostError: something is there, or the file system refused.
    """
    write_new(path, [evidence.to_bytes()])


def receipts_path(path: Path) -> Path:
    """Return the file of a batch's receipts beside an evidence file: ``e.json`` has ``e.receipts.jsonl``."""
    return path.with_name(f"{path.stem}.receipts.jsonl")


def session_path(path: Path, number: int) -> Path:
    """Return the evidence file of a command's session; ``number`` counts from 0, and 1 has ``e-2.json``."""
    return path if number == 0 else path.with_name(f"{path.stem}-{number + 1}{path.suffix}")


def append_line(path: Path, line: bytes, *, is_first: bool) -> None:
    """Append a line to a file that this command made; ``is_first`` makes the file, of mode 0600.

    A line is on the disk when this returns: a listener may be killed at any time, and an answer is received
    only once. Of a line that does not fit nothing stays, or it would spoil those before it.

    Raises:
        HostError: the first line's file is there already, or the file system refused.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    if is_first:
        flags |= os.O_CREAT | os.O_EXCL
    try:
        descriptor = os.open(path, flags, 0o600)
        try:
            append_whole(descriptor, line, size=os.fstat(descriptor).st_size)
        except OSError:
            if is_first:
                path.unlink()
            raise
        finally:
            os.close(descriptor)
    except OSError as exc:
        raise HostError(f"{path}: cannot write ({exc.strerror})") from exc
