"""Where the nitro backend keeps what: one folder an enclave, in which each file is one fact, written once.

::

    <state>/nitro/images/<name>-<PCR0>-<SHA-256>.eif         read-only, whole, removed with its last enclave
    <state>/nitro/enclaves/<key>/record.json                 what was asked, written before the launch
                                 launch.out, launch.err      what nitro-cli run-enclave says
                                 launched.json               its answer: the enclave runs
                                 ending                      somebody asked for its end
                                 ended.json                  when and how it ended
                                 lock                        held by the keeper while it lives
                                 keeper.log, console.log
                                 console.json                nitro-cli console, which reads for the keeper

nitro-cli's answer goes to a file and not to us, so that it is found even if nobody was left to read it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from enclavectl.backends.keeping.ending import Ended
from enclavectl.backends.keeping.records import EnclaveRecord, enclave_folders, read_common, read_record
from enclavectl.errors import HostError, StateError, UsageError
from enclavectl.files import read_bounded, write_atomic
from enclavectl.json_object import JsonError, JsonObject
from enclavectl.nitro_cli.answers import RunInfo
from enclavectl.nitro_cli.stream import one_object

RECORD_SCHEMA = "enclavectl.nitro-enclave/1"
# nitro-cli's words about a launch; keeper.py reserves less of the disk for them.
_MAX_BYTES = 256 * 1024
_MAX_U32 = 2**32 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Record(EnclaveRecord):
    """What was asked for."""

    cpus: int
    cid: int | None
    port_in: int
    image: Path
    image_size: int
    image_sha256: str

    def to_json(self) -> bytes:
        """Return the content of ``record.json``."""
        value = {
            "schema": RECORD_SCHEMA,
            **EnclaveRecord.common_json(self),
            "cpus": self.cpus,
            "cid": self.cid,
            "port_in": self.port_in,
            "image": {"file": str(self.image), "size": self.image_size, "sha256": self.image_sha256},
        }
        return json.dumps(value, indent=2).encode()


def load_record(folder: Path) -> Record:
    """Read the record in an enclave's folder.

    Raises:
        StateError: there is none, or it is damaged.
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
    )


@dataclass(frozen=True, slots=True)
class LaunchRecord:
    """One enclave that this user's enclavectl started; ``info`` is None until it has booted."""

    folder: Path
    record: Record
    info: RunInfo | None


def write_launched(folder: Path, info: RunInfo) -> None:
    """Write down that the enclave runs."""
    write_atomic(folder / "launched.json", json.dumps(info.to_json(), indent=2).encode())


def load_launched(folder: Path) -> RunInfo | None:
    """Read what nitro-cli answered to the launch; None while there is no answer, or if it was a failure.

    The answer is also taken from nitro-cli's own output: the keeper may have been killed before it came.
    """
    for name in ("launched.json", "launch.out"):
        try:
            return RunInfo.from_json(one_object(read_bounded(folder / name, _MAX_BYTES, what="answer")))
        except (UsageError, JsonError):
            continue
    return None


def read_launch_records(home: Path) -> list[LaunchRecord]:
    """Read every enclave that is written down in the folders of ``home``, running or dead.

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
            continue  # just being made, or just being removed
        found.append(LaunchRecord(folder, record, load_launched(folder)))
    return found


def has_failed(folder: Path) -> bool:
    """Return whether nitro-cli said that the launch failed, or never began it."""
    try:
        return b"[ E" in read_bounded(folder / "launch.err", _MAX_BYTES, what="answer")
    except UsageError:
        return True


def write_ended(folder: Path, ended: Ended) -> None:
    """Write down that the enclave has ended."""
    value = {"at": None if ended.at is None else ended.at.isoformat(), "how": ended.how}
    write_atomic(folder / "ended.json", json.dumps(value).encode())


def load_ended(folder: Path) -> Ended | None:
    """Read when and how it ended; None while it is not known to have."""
    try:
        value = JsonObject.parse(read_bounded(folder / "ended.json", _MAX_BYTES, what="record"))
        return Ended(at=value.optional_time("at"), how=value.string("how"))
    except (UsageError, JsonError):
        return None


def ask_to_end(folder: Path) -> None:
    """Let whoever keeps the enclave know that its end is meant. The folder may be gone already."""
    if folder.is_dir():
        try:
            write_atomic(folder / "ending", b"")
        except HostError:
            if folder.is_dir():
                raise


def is_asked_to_end(folder: Path) -> bool:
    """Return whether ``ask_to_end`` was called."""
    return (folder / "ending").exists()
