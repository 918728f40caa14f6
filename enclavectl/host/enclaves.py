"""The running enclaves, found without connecting to their sockets, since that can end them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from enclavectl.host.host import Host
from enclavectl.host.tree import Tree
from enclavectl.nitro_cli.environment import sockets_dir


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningEnclaves:
    """The running enclaves: ``sockets`` of those that have booted; a booting one has only one of ``pids``."""

    sockets: tuple[str, ...]
    stale: tuple[str, ...]
    pids: tuple[int, ...]
    folder: str

    @property
    def any(self) -> bool:
        """True if any enclave runs or boots."""
        return bool(self.sockets or self.pids)

    @property
    def words(self) -> list[str]:
        """A description of each enclave for a person."""
        names = [f"enc{name.removesuffix('.sock')} ({self.folder}/{name})" for name in self.sockets]
        return names or [f"nitro-cli with process id {pid}" for pid in self.pids]


def find_running(host: Host) -> RunningEnclaves:
    """Find the enclaves of a host in its folders.

    A socket whose name the kernel has bound (/proc/net/unix) belongs to an enclave; any other is a leftover.
    A booting enclave has no socket yet, but a nitro-cli process.

    Raises:
        HostError: a folder exists and cannot be read.
    """
    tree, folder = host.tree, str(sockets_dir(host.environ))
    names = [name for name in tree.names(folder) if name.endswith(".sock")]
    bound = bound_names(tree.text("/proc/net/unix") or "")
    alive = tuple(name for name in names if f"{folder}/{name}" in bound)
    return RunningEnclaves(
        sockets=alive,
        stale=tuple(name for name in names if name not in alive),
        pids=tuple(_nitro_cli_pids(tree)),
        folder=folder,
    )


def bound_names(table: str) -> frozenset[str]:
    """Return the path names in /proc/net/unix, the eighth column of its lines."""
    rows = (line.split(maxsplit=7) for line in table.splitlines()[1:])
    return frozenset(row[7] for row in rows if len(row) == 8)


def _nitro_cli_pids(tree: Tree) -> Sequence[int]:
    # An enclave's daemon is forked from run-enclave and keeps its command line; other nitro-cli commands are
    # no enclaves. A process that ends after the listing has no command line any more.
    return [
        int(name)
        for name in tree.names("/proc")
        if name.isdigit()
        and tree.word(f"/proc/{name}/comm") == "nitro-cli"
        and "run-enclave" in (tree.text(f"/proc/{name}/cmdline") or "").split("\0")
    ]
