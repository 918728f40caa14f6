"""The command line of the Docker engine, and containers of the parent's image that stay."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.control_plane_process import wait_until

# As restricted as the containers of a pod.
RESTRICTIONS = (
    *("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
    *("--env", "ENCLAVECTL_STATE_DIR=/dev/shm/enclavectl", "--env", "HOME=/tmp", "--tmpfs", "/tmp"),
)


@dataclass(frozen=True, slots=True)
class Engine:
    """The engine's command line."""

    environ: Mapping[str, str]

    def run(self, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["docker", *map(str, arguments)],
            env=dict(self.environ),
            capture_output=True,
            text=True,
            check=False,
            timeout=500,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def once(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """A container that ends by itself and has no network."""
        return self.run("run", "--rm", "--network", "none", *RESTRICTIONS, *arguments, check=False)

    def start(self, *arguments: str | Path) -> Container:
        """A container that stays."""
        return Container(self, self.run("run", "--detach", *RESTRICTIONS, *arguments).stdout.strip())


@dataclass(frozen=True, slots=True)
class Container:
    """A container by its id."""

    engine: Engine
    name: str

    @property
    def logs(self) -> str:
        done = self.engine.run("logs", self.name)
        return done.stdout + done.stderr

    @property
    def pid(self) -> int:
        """The host's number of its first process; 0 if it has ended."""
        return int(self.engine.run("inspect", "--format", "{{.State.Pid}}", self.name).stdout)

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until it is true while this container runs; one that has ended says why in its logs."""

        def is_over() -> bool:
            return condition() or self.pid == 0

        wait_until(is_over, what)
        assert condition(), f"it ended before {what}:\n{self.logs}"

    def zombies(self) -> list[str]:
        """Processes that have ended and that its first process has not reaped."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        found = [Path(f"/proc/{one}/stat") for one in children]
        lines = [path.read_text() for path in found if path.exists()]
        return [line for line in lines if line.rpartition(")")[2].split()[0] == "Z"]

    def stop(self, *, within_s: int) -> int:
        """Send SIGTERM, and SIGKILL after that time; the exit code."""
        self.engine.run("stop", "--time", str(within_s), self.name)
        return int(self.engine.run("wait", self.name).stdout)

    def remove(self) -> None:
        self.engine.run("rm", "--force", self.name, check=False)


def mounts(paths: Sequence[Path], *, read_only: bool) -> list[str]:
    """Options that show folders of this machine at the same place in a container."""
    mode = ",readonly" if read_only else ""
    return [word for path in paths for word in ("--mount", f"type=bind,source={path},target={path}{mode}")]
