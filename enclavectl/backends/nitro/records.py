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
                                 console.pid                 nitro-cli console, which reads for the keeper

nitro-cli's answer goes to a file and not to us, so that it is found even if nobody was left to read it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from enclavectl.backends.folders import read_record
from enclavectl.errors import HostError, StateError, UsageError
from enclavectl.files import read_bounded, write_atomic
from enclavectl.nitro_cli.answers import RunInfo
from enclavectl.nitro_cli.stream import AnswerError, one_object

RECORD_SCHEMA = "enclavectl.nitro-enclave/1"
_MAX_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What was asked for. ``pcrs`` are measured by us, from the very file that is launched."""

    name: str
    started: datetime
    detached: bool
    debug: bool
    memory_mib: int
    cpus: int
    cid: int | None
    port_in: int
    image: Path
    image_size: int
    image_sha256: str
    model_id: str | None
    model_sha256: str | None
    pcrs: dict[int, bytes]

    def to_json(self) -> bytes:
        """The content of ``record.json``."""
        return json.dumps(
            {
                "schema": RECORD_SCHEMA,
                "name": self.name,
                "started": self.started.isoformat(),
                "detached": self.detached,
                "debug": self.debug,
                "memory_mib": self.memory_mib,
                "cpus": self.cpus,
                "cid": self.cid,
                "port_in": self.port_in,
                "image": {"file": str(self.image), "size": self.image_size, "sha256": self.image_sha256},
                "model": None
                if self.model_id is None
                else {"id": self.model_id, "sha256": self.model_sha256},
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
        hint=f"nitro-cli describe-enclaves shows what runs; then: rm -r '{folder}'",
    )


def _parse_record(value: Any) -> Record:
    model = value["model"]
    return Record(
        name=str(value["name"]),
        started=_time(value["started"]),
        detached=bool(value["detached"]),
        debug=bool(value["debug"]),
        memory_mib=int(value["memory_mib"]),
        cpus=int(value["cpus"]),
        cid=None if value["cid"] is None else int(value["cid"]),
        port_in=int(value["port_in"]),
        image=Path(value["image"]["file"]),
        image_size=int(value["image"]["size"]),
        image_sha256=str(value["image"]["sha256"]),
        model_id=None if model is None else str(model["id"]),
        model_sha256=None if model is None else str(model["sha256"]),
        pcrs={int(index): bytes.fromhex(pcr) for index, pcr in value["pcrs"].items()},
    )


@dataclass(frozen=True, slots=True)
class Kept:
    """One enclave that this user's enclavectl started; ``info`` is None until it has booted."""

    folder: Path
    record: Record
    info: RunInfo | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """When an enclave ended and how, in words, as far as it can be known."""

    at: datetime
    how: str


def write_launched(folder: Path, info: RunInfo) -> None:
    """The enclave is known to run."""
    write_atomic(folder / "launched.json", json.dumps(info.to_json(), indent=2).encode())


def load_launched(folder: Path) -> RunInfo | None:
    """What nitro-cli answered to the launch; None while there is no answer, or if it was a failure.

    The answer is also taken from nitro-cli's own output: the keeper may have been killed before it came.
    """
    for name in ("launched.json", "launch.out"):
        try:
            return RunInfo.from_json(one_object(read_bounded(folder / name, _MAX_BYTES, what="answer")))
        except (UsageError, AnswerError):
            continue
    return None


def read_kept(home: Path) -> list[Kept]:
    """Every enclave that is written down in the folders of ``home``, running or dead.

    Raises:
        StateError: a record is damaged.
        HostError: the folder cannot be read.
    """
    kept = []
    for folder in _folders(home):
        try:
            record = load_record(folder)
        except StateError:
            if (folder / "record.json").exists():
                raise
            continue  # just being made, or just being removed
        kept.append(Kept(folder, record, load_launched(folder)))
    return kept


def _folders(home: Path) -> list[Path]:
    try:
        return sorted(path for path in home.iterdir() if path.name.startswith("enc"))
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise HostError(
            f"{home}: cannot be read ({exc.strerror})",
            hint="enclavectl config show says where state_dir comes from",
        ) from exc


def has_failed(folder: Path) -> bool:
    """Whether nitro-cli said that the launch failed, or never began it."""
    try:
        return b"[ E" in read_bounded(folder / "launch.err", _MAX_BYTES, what="answer")
    except UsageError:
        return True


def write_ended(folder: Path, ended: Ended) -> None:
    """The enclave is known to have ended."""
    value = {"at": ended.at.isoformat(), "how": ended.how}
    write_atomic(folder / "ended.json", json.dumps(value).encode())


def load_ended(folder: Path) -> Ended | None:
    """When and how it ended; None while it is not known to have."""
    try:
        value: Mapping[str, str] = json.loads(read_bounded(folder / "ended.json", _MAX_BYTES, what="record"))
        return Ended(at=_time(value["at"]), how=str(value["how"]))
    except (UsageError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def ask_to_end(folder: Path) -> None:
    """Whoever keeps the enclave will see that its end is meant. The folder may be gone already."""
    if folder.is_dir():
        try:
            write_atomic(folder / "ending", b"")
        except HostError:
            if folder.is_dir():
                raise


def is_asked_to_end(folder: Path) -> bool:
    """Whether ``ask_to_end`` was called."""
    return (folder / "ending").exists()


def _time(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)
