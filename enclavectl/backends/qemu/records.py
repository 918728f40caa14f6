"""The files of the qemu backend: one folder per enclave, and the outbound sockets.

::

    <state>/qemu/out-<port>.sock                           bound by `listen`
    <state>/qemu/enclaves/<id>/record.json                 the requested enclave
                               image/<name>-....eif        the copy that is booted, until its kernel reports
                               ended.json                  when and how it ended
                               in.vsock                    hybrid vsock: CONNECT <port>
                               lock, keeper.log, console.log

An enclave is running exactly as long as its keeper holds the lock: QEMU ends with its keeper.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from enclavectl.backends.keeping.identity import ProcessIdentity
from enclavectl.backends.keeping.records import KeptRecord, read_common, read_lock_sha256, read_record
from enclavectl.json_object import JsonObject

RECORD_SCHEMA = "enclavectl.qemu-enclave/1"
SOCKET_NAME = "in.vsock"
_MAX_U32 = 2**32 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Record(KeptRecord):
    """The requested enclave. ``image`` is the file that the user named; a copy of it is booted."""

    cpus: int
    cid: int
    port_in: int
    image: Path
    lock_sha256: str | None
    accelerator: str

    def to_json(self) -> bytes:
        """Return the content of ``record.json``."""
        value = {
            "schema": RECORD_SCHEMA,
            **self.common_json(),
            "supervisor": self.supervisor.to_json(),
            "cpus": self.cpus,
            "cid": self.cid,
            "port_in": self.port_in,
            "image": str(self.image),
            "lock_sha256": self.lock_sha256,
            "accelerator": self.accelerator,
        }
        return json.dumps(value, indent=2).encode()


def load_record(folder: Path) -> Record:
    """Read the record in an enclave's folder.

    Raises:
        StateError: there is none, or it is damaged.
    """
    return read_record(folder / "record.json", RECORD_SCHEMA, _parse_record)


def _parse_record(value: JsonObject) -> Record:
    return Record(
        **read_common(value),
        supervisor=ProcessIdentity.from_json(value.object("supervisor")),
        cpus=value.integer("cpus", minimum=1),
        cid=value.integer("cid", maximum=_MAX_U32),
        port_in=value.integer("port_in", maximum=_MAX_U32),
        image=Path(value.string("image")),
        lock_sha256=read_lock_sha256(value),
        accelerator=value.string("accelerator"),
    )
