"""Where the local backend keeps what: one folder an enclave, the development root, the outbound socket.

::

    <state>/local/root/{key.pem, certificate.pem}          0600
    <state>/local/out-<port>.sock                          bound by `listen`
    <state>/local/enclaves/<id>/{record.json, lock, in.sock, console.log, model/}

An enclave is running exactly as long as somebody holds the lock on its ``lock`` file: the kernel drops it
however the supervisor ends, and no other process can have it by accident, as with a process id.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enclavectl.backends.folders import exclusive, read_record
from enclavectl.errors import HostError
from enclavectl.files import make_private_dir, read_bounded, write_atomic

if TYPE_CHECKING:
    from enclavectl.backends.local.pki import DevelopmentRoot

_MAX_PEM_BYTES = 64 * 1024
RECORD_SCHEMA = "enclavectl.local-enclave/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What was known when an enclave was started."""

    name: str
    started: datetime
    supervisor_pid: int
    detached: bool
    debug: bool
    memory_mib: int
    model_id: str
    model_sha256: str
    pcrs: dict[int, bytes]

    def to_json(self) -> bytes:
        """The content of ``record.json``."""
        return json.dumps(
            {
                "schema": RECORD_SCHEMA,
                "name": self.name,
                "started": self.started.isoformat(),
                "supervisor_pid": self.supervisor_pid,
                "detached": self.detached,
                "debug": self.debug,
                "memory_mib": self.memory_mib,
                "model": {"id": self.model_id, "sha256": self.model_sha256},
                "pcrs": {str(index): value.hex() for index, value in self.pcrs.items()},
            },
            indent=2,
        ).encode()


def load_record(folder: Path) -> Record:
    """The record in an enclave's folder.

    Raises:
        StateError: there is none, or it is damaged.
    """
    return read_record(
        folder / "record.json",
        RECORD_SCHEMA,
        _parse_record,
        hint=f"if no enclave of yours is in there: rm -r '{folder}'",
    )


def _parse_record(value: Any) -> Record:
    return Record(
        name=str(value["name"]),
        started=datetime.fromisoformat(value["started"]),
        supervisor_pid=int(value["supervisor_pid"]),
        detached=bool(value["detached"]),
        debug=bool(value["debug"]),
        memory_mib=int(value["memory_mib"]),
        model_id=str(value["model"]["id"]),
        model_sha256=str(value["model"]["sha256"]),
        pcrs={int(index): bytes.fromhex(pcr) for index, pcr in value["pcrs"].items()},
    )


def module_id(enclave_id: str) -> str:
    """A module id of AWS's form whose instance part no EC2 instance has."""
    return f"i-{0:017x}-{enclave_id}"


def ensure_root(folder: Path) -> None:
    """A development root of this machine's own is in ``folder``, its key readable by this user only.

    Raises:
        HostError: the folder or its files cannot be written.
    """
    if (folder / "certificate.pem").exists():
        return
    from enclavectl.backends.local.pki import DevelopmentRoot

    make_private_dir(folder)
    with exclusive(folder):
        if (folder / "certificate.pem").exists():
            return
        root = DevelopmentRoot.create(datetime.now(UTC))
        write_atomic(folder / "key.pem", root.key_pem)
        # The certificate comes last: where it is, the key is.
        write_atomic(folder / "certificate.pem", root.certificate_pem)


def load_root(folder: Path) -> DevelopmentRoot:
    """The root that ``ensure_root`` made.

    Raises:
        HostError: somebody else may read the key: what it signed proves nothing, not even here.
        UsageError: the files are missing or damaged.
    """
    from enclavectl.backends.local.pki import DevelopmentRoot

    key = folder / "key.pem"
    if key.exists() and key.stat().st_mode & 0o077:
        raise HostError(
            f"{key}: expected mode 0600, found {key.stat().st_mode & 0o777:04o}",
            hint=f"rm -r '{folder}' and run again: a new root is made",
        )
    return DevelopmentRoot.from_pem(
        read_bounded(key, _MAX_PEM_BYTES, what="key"),
        read_bounded(folder / "certificate.pem", _MAX_PEM_BYTES, what="certificate"),
    )
