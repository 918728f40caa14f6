"""Where a fake host keeps what, and what kind of host it is today."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """``fake.json``. Every program start reads it anew, so a test can change the host in between."""

    version: str = "1.5.2"
    # Who calls: the owner of an enclave and root may end it, others may only look.
    user: str = "ec2-user"
    instance: str = "i-0f1a2b3c4d5e6f708"
    # The daemons end with this process, however it ends.
    owner_pid: int = 0
    module: bool = True
    device: str = "ok"  # or missing, denied
    # The pool, as whole cores: each inner list has the siblings of one core.
    cores: tuple[tuple[int, ...], ...] = ((1, 9), (2, 10), (3, 11), (4, 12))
    # Free hugepages: size in MiB to number.
    pages: Mapping[int, int] = field(default_factory=lambda: {1024: 16})
    boot_s: float = 0.0
    # None: the documented bound, of at least 180 s.
    boot_timeout_s: float | None = None
    heartbeat: bool = True
    hash_s: float = 0.0
    # How long after the heartbeat the application listens: run-enclave does not wait for it.
    application_s: float = 0.0
    dies_after_s: float | None = None
    port_9000_taken: bool = False
    # The errno with which the driver refuses memory, and how many launches it refuses; None: all.
    driver_error: int | None = None
    driver_error_times: int | None = None
    console_end: str = "eof"  # or reset
    guest_ports: tuple[int, ...] = (5005,)
    # Whether its enclaves have no weights: they listen on 5007, and on 5005 once they serve.
    sealed: bool = False
    # What a connection to a CID that no enclave has ends with; 0: nobody answers.
    absent_cid: int = 104
    # Whether the pool and the pages can be seen from outside, in the folder ``tree``.
    sysfs: bool = True

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """The settings in a file; what it does not name has its default."""
        value: dict[str, Any] = json.loads(text)
        known = {one.name for one in fields(cls)}
        if odd := set(value) - known:
            raise ValueError(f"fake.json: unknown {', '.join(sorted(odd))}")
        if "cores" in value:
            value["cores"] = tuple(tuple(core) for core in value["cores"])
        if "pages" in value:
            value["pages"] = {int(size): count for size, count in value["pages"].items()}
        return cls(**value)

    @property
    def release(self) -> tuple[int, ...]:
        """The version, to compare."""
        return tuple(int(part) for part in self.version.split("."))

    @property
    def pool(self) -> list[int]:
        """The CPUs of the pool, in the order of ne_cpus."""
        return sorted(cpu for core in self.cores for cpu in core)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The folders of one fake host."""

    home: Path
    sockets: Path
    logs: Path
    settings: Settings

    @classmethod
    def of(cls, program: str, environ: Mapping[str, str]) -> Place:
        """The host whose ``bin`` folder ``program`` is in."""
        home = Path(program).resolve().parents[1]
        return cls(
            home=home,
            sockets=Path(environ.get("NITRO_CLI_SOCKETS_PATH") or home / "run"),
            logs=Path(environ.get("NITRO_CLI_LOGS_PATH") or home / "log"),
            settings=Settings.from_json((home / "fake.json").read_text()),
        )

    @property
    def vsock(self) -> Path:
        """Hybrid vsock: CID.vsock leads into an enclave, host.vsock_PORT is dialed from inside."""
        return self.home / "vsock"

    @property
    def held(self) -> Path:
        """What the driver has given to whom."""
        return self.home / "held"

    @property
    def tree(self) -> Path:
        """The host's /sys and /proc, as far as enclaves are concerned."""
        return self.home / "tree"

    @property
    def root(self) -> Path:
        """The development root that stands for AWS's, with its key."""
        return self.home / "root"

    @property
    def image(self) -> Path:
        """What is in every enclave: the folder ``model``."""
        return self.home / "image"

    @property
    def said(self) -> Path:
        """What is written here, every debug-mode enclave that runs prints."""
        return self.home / "said"

    def held_up(self, what: str) -> Path:
        """The file that keeps every boot, or every hash, from ending for as long as it exists."""
        return self.home / f"hold-{what}"

    def log(self, who: str, level: str, message: str) -> None:
        """A line in nitro-cli's own log; whoever cannot write it goes on, as the real one does later on."""
        from datetime import UTC, datetime

        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
        line = f"[{who}:{os.getpid()}][{level}][{stamp}Z][src/fake.rs:1] {message}\n"
        try:
            with (self.logs / "nitro_enclaves.log").open("a") as file:
                file.write(line)
        except OSError:
            return
