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
from pathlib import Path

from enclavectl.backends.keeping.identity import ProcessIdentity
from enclavectl.backends.keeping.records import KeptRecord, read_common, read_record
from enclavectl.json_object import JsonObject

RECORD_SCHEMA = "enclavectl.local-enclave/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record(KeptRecord):
    """The facts of a local enclave at its start."""

    def to_json(self) -> bytes:
        """Return the content of ``record.json``."""
        value = {
            "schema": RECORD_SCHEMA,
            **self.common_json(),
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
