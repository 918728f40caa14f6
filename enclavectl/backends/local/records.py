"""The files of the local backend: one folder per enclave, the development root, the outbound socket.

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
from typing import TYPE_CHECKING

from enclavectl.backends.keeping.identity import ProcessIdentity
from enclavectl.backends.keeping.locks import exclusive
from enclavectl.backends.keeping.records import EnclaveRecord, read_common, read_record
from enclavectl.errors import HostError
from enclavectl.files import make_private_dir, read_bounded, require_private_dir, write_atomic
from enclavectl.json_object import JsonObject

if TYPE_CHECKING:
    from enclavectl.backends.local.pki import DevelopmentRoot

# A PEM certificate or key of P-384 has less than 1 KiB.
_MAX_PEM_BYTES = 64 * 1024
RECORD_SCHEMA = "enclavectl.local-enclave/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record(EnclaveRecord):
    """The facts of a local enclave at its start."""

    supervisor: ProcessIdentity

    def to_json(self) -> bytes:
        """Return the content of ``record.json``."""
        value = {
            "schema": RECORD_SCHEMA,
            **EnclaveRecord.common_json(self),
            "supervisor": self.supervisor.to_json(),
        }
        return json.dumps(value, indent=2).encode()


def load_record(folder: Path) -> Record:
    """Read the record in an enclave's folder.

    Raises:
        StateError: there is none, or it is damaged.
    """
    return read_record(folder / "record.json", RECORD_SCHEMA, _parse_record)


def _parse_record(value: JsonObject) -> Record:
    return Record(**read_common(value), supervisor=ProcessIdentity.from_json(value.object("supervisor")))


def module_id(enclave_id: str) -> str:
    """Return a module id of AWS's form whose instance part no EC2 instance has."""
    return f"i-{0:017x}-{enclave_id}"


def ensure_root(folder: Path) -> None:
    """Make a development root of this machine's own in ``folder``, unless there is one.

    Only this user can read its key.

    Raises:
        HostError: the folder or its files cannot be written.
    """
    if require_private_dir(folder) and (folder / "certificate.pem").exists():
        return
    from enclavectl.backends.local.pki import DevelopmentRoot

    make_private_dir(folder)
    with exclusive(folder):
        if (folder / "certificate.pem").exists():
            return
        root = DevelopmentRoot.create(datetime.now(UTC))
        write_atomic(folder / "key.pem", root.key_pem)
        # The certificate is written last: if it exists, the key exists.
        write_atomic(folder / "certificate.pem", root.certificate_pem)


def load_root(folder: Path) -> DevelopmentRoot:
    """Read the root that ``ensure_root`` made.

    Raises:
        HostError: somebody else may read the key: what it signed proves nothing, not even here.
        UsageError: the files are missing or damaged.
    """
    from enclavectl.backends.local.pki import DevelopmentRoot

    require_private_dir(folder)
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
