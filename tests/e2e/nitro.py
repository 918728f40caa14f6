"""enclavectl on a fake Nitro host, for the end-to-end tests of the backend nitro."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.cli import Cli, wait_until
from tests.e2e.terminals import Terminal
from tests.nitro.host import FakeHost
from tests.nitro.hosts import make_host

MEMORY = ("--memory", "1024", "--cpus", "2")


@dataclass(frozen=True, slots=True)
class NitroStage:
    """A fake host, and the commands on it."""

    cli: Cli
    host: FakeHost

    @property
    def image(self) -> Path:
        """The image, with its lock beside it."""
        return self.host.eif

    def run(self, *arguments: str | Path) -> Terminal:
        """``enclavectl run`` of the image, running."""
        return Terminal(self.cli.start("run", self.image, *MEMORY, *arguments))

    def ran(self, *arguments: str | Path) -> dict[str, Any]:
        """The enclave that ``enclavectl run`` started."""
        value = self.cli.ok("run", self.image, *MEMORY, *arguments, "-o", "json").json()
        enclave = value["enclave"]
        assert isinstance(enclave, dict)
        return enclave

    def run_refused(self, code: int, *arguments: str | Path) -> dict[str, Any]:
        """The error of an ``enclavectl run`` that must fail, after which nothing is as it was not before."""
        before, folders = self.host.enclaves(), len(self.cli.enclave_folders())
        error = self.cli.refused(code, "run", self.image, *MEMORY, *arguments)
        # What is wrong with the words of a command, its message says in full.
        assert error["hint"] or (code == 2 and "expected" in error["message"])
        self.assert_only(before, folders)
        return error

    def states(self) -> dict[str, str]:
        """The state of each enclave that ``list`` shows, by name."""
        listed = self.cli.ok("list", "-o", "json").json()["enclaves"]
        return {one["name"]: one["state"] for one in listed}

    def launches(self) -> int:
        """How often nitro-cli was asked to launch."""
        return sum(argv[:1] == ["run-enclave"] for argv in self.host.argv())

    def assert_only(self, cids: list[int], folders: int = 0) -> None:
        """The host runs these enclaves and no other, and there are so many folders of ours."""
        wait_until(lambda: self.host.enclaves() == cids, f"the enclaves {cids} run, and no other")
        wait_until(lambda: len(self.cli.enclave_folders()) == folders, "folders go")
        if not cids:
            wait_until(lambda: not self.host.daemons(), "the fake host's processes end")
            wait_until(lambda: not self.cli.processes(), "keepers end")


@contextmanager
def nitro_stage(folder: Path, kind: str = "fake") -> Iterator[NitroStage]:
    """A host of that kind with enclavectl on it; at the end nothing of either is left."""
    (folder / "home").mkdir()
    with make_host(kind, folder / "host") as host:
        cli = Cli(folder, variables={**host.environment, "ENCLAVECTL_BACKEND": "nitro"})
        stage = NitroStage(cli, host)
        yield stage
        # A host that a test broke is repaired, so that what is left can be ended.
        host.set()
        for what in ("boot", "hash"):
            host.place.held_up(what).unlink(missing_ok=True)
        if host.enclaves():  # which may be no enclavectl's
            cli.run("terminate", "--all")
        cli.end_all()
        stage.assert_only([])
        cli.assert_nothing_left()
