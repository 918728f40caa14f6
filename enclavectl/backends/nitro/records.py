"""The files of the nitro backend: one folder per enclave, in which each file is one fact, written once.

::

    <state>/nitro/images/<name>-<PCR0>-<SHA-256>.eif         read-only, whole, removed with its last enclave
    <state>/nitro/enclaves/<key>/record.json                 the requested enclave, written before the launch
                                 launch.out, launch.err      the output of nitro-cli run-enclave
                                 launched.json               its answer: the enclave runs
                                 settled                     its daemon has hashed the image, and answers
                                 ending                      a command has asked for its end
                                 ended.json                  when and how it ended
                                 lock                        held by the keeper while it lives
                                 keeper.log, console.log
                                 console.json                the identity of the process nitro-cli console

nitro-cli writes its answer to a file, not to a pipe, so that the answer survives the death of the keeper.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from enclavectl.backends.keeping.folders import enclave_folders
from enclavectl.backends.keeping.records import EnclaveRecord, read_common, read_lock_sha256, read_record
from enclavectl.errors import HostError, StateError, UsageError
from enclavectl.files import read_bounded, write_atomic
from enclavectl.json_object import JsonError, JsonObject
from enclavectl.nitro_cli.answers import RunInfo
from enclavectl.nitro_cli.stream import one_object

RECORD_SCHEMA = "enclavectl.nitro-enclave/1"
# The limit on nitro-cli's output of a launch; keeper.py reserves less of the disk for it.
_MAX_BYTES = 256 * 1024
_MAX_U32 = 2**32 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Record(EnclaveRecord):
    """The requested enclave."""

    cpus: int
    cid: int | None
    port_in: int
    image: Path
    image_size: int
    image_sha256: str
    lock_sha256: str | None

    def to_json(self) -> bytes:
        """Return the content of ``record.json``."""
        value = {
            "schema": RECORD_SCHEMA,
            **self.common_json(),
            "cpus": self.cpus,
            "cid": self.cid,
            "port_in": self.port_in,
            "image": {"file": str(self.image), "size": self.image_size, "sha256": self.image_sha256},
            "lock_sha256": self.lock_sha256,
        }
        return json.dumps(value, indent=2).encode()


def load_record(folder: Path) -> Record:
    """Read the record in an enclave's folder.

    Raises:
        StateError: it is missing or damaged.
    """
    return read_record(
        folder / "record.json",
        RECORD_SCHEMA,
        _parse_record,
        hint=f"nitro-cli describe-enclaves shows what runs; then: rm -r '{folder}'",
    )


def _parse_record(value: JsonObject) -> Record:
    image = value.object("image")
    return Record(
        **read_common(value),
        cpus=value.integer("cpus", minimum=1),
        cid=value.optional_integer("cid", maximum=_MAX_U32),
        port_in=value.integer("port_in", maximum=_MAX_U32),
        image=Path(image.string("file")),
        image_size=image.integer("size"),
        image_sha256=image.string("sha256"),
        lock_sha256=read_lock_sha256(value),
    )


@dataclass(frozen=True, slots=True)
class LaunchRecord:
    """One enclave that this user's enclavectl started; ``info`` is None until it has booted."""

    folder: Path
    record: Record
    info: RunInfo | None


def write_launched(folder: Path, info: RunInfo) -> None:
    """Record that the enclave runs."""
    write_atomic(folder / "launched.json", json.dumps(info.to_json(), indent=2).encode())


def load_launched(folder: Path) -> RunInfo | None:
    """Read nitro-cli's answer to the launch; None while there is no answer, or after a failure.

    The answer may also be in nitro-cli's own output, if the keeper was killed before it came.
    """
    for name in ("launched.json", "launch.out"):
        try:
            return RunInfo.from_json(one_object(read_bounded(folder / name, _MAX_BYTES, what="answer")))
        except (UsageError, JsonError):
            continue
    return None


def read_launch_records(home: Path) -> list[LaunchRecord]:
    """Read the records of all enclaves under ``home``, running or dead.

    Raises:
        StateError: a record is damaged.
        HostError: the folder cannot be read.
    """
    found = []
    for folder in enclave_folders(home):
        try:
            record = load_record(folder)
        except StateError:
            if (folder / "record.json").exists():
                raise
            continue  # it is just being created or removed
        found.append(LaunchRecord(folder, record, load_launched(folder)))
    return found


def has_failed(folder: Path) -> bool:
    """Return whether nitro-cli reported a failure of the launch, or never began it."""
    try:
        return b"[ E" in read_bounded(folder / "launch.err", _MAX_BYTES, what="answer")
    except UsageError:
        return True


def write_settled(folder: Path) -> None:
    """Record that the enclave's daemon answers. The disk may be full: then it is not recorded."""
    with suppress(OSError):
        (folder / "settled").touch()


def is_settled(folder: Path) -> bool:
    """Return whether the enclave's daemon has answered since its launch."""
    return (folder / "settled").exists()


def ask_to_end(folder: Path) -> None:
    """Tell the enclave's keeper that a command has asked for its end. The folder may be gone already."""
    if folder.is_dir():
        try:
            write_atomic(folder / "ending", b"")
        except HostError:
            if folder.is_dir():
                raise


def is_asked_to_end(folder: Path) -> bool:
    """Return whether a command has asked for the enclave's end."""
    return (folder / "ending").exists()
