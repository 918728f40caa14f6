"""Which enclave a connection gets: the least loaded one of its release that has proved to be alive."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from enclavectl.errors import UsageError
from enclavectl.net.address import HostAddress, parse_host_address

# Labels come from `run` (16 hex digits) or from whoever starts the gateway. They stand in URLs and metrics.
_RELEASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)


class Health(StrEnum):
    """What the last challenge, or a session, told of an enclave."""

    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """An enclave's address and the label of its release; ``name`` is its id in metrics and logs."""

    name: str
    address: HostAddress
    release: str

    def __post_init__(self) -> None:
        """Refuse a label that a URL or a metric could not have.

        Raises:
            UsageError: it has another form.
        """
        if _RELEASE.fullmatch(self.release) is None:
            raise UsageError(
                f"release: expected up to 64 letters, digits, and _ . - behind the first, "
                f"found {self.release!r:.80}",
                hint="enclavectl policy show prints the labels of a policy's releases",
            )


def parse_destination(text: str) -> Destination:
    """Read ``RELEASE@ADDRESS``, as ``--to`` has it.

    Raises:
        UsageError: it has another form.
    """
    release, at, address = text.partition("@")
    if not at:
        raise UsageError(
            f"--to: expected RELEASE@ADDRESS, found {text!r:.100}", hint="such as skin-1@vsock:16:5005"
        )
    return Destination(name=address, address=parse_host_address(address), release=release)


@dataclass(slots=True, kw_only=True, eq=False)
class Enclave:
    """One destination with what the gateway knows of it."""

    destination: Destination
    health: Health = Health.UNKNOWN
    sessions: int = 0
    in_flight: int = 0
    probe_seconds: float | None = None
    # Called when a session suspects that the enclave has ended, so that the next probe comes at once.
    wake: Callable[[], None] = field(default=lambda: None)

    def suspect(self) -> None:
        """Take the enclave out of the routing until it answers a challenge again."""
        self.health = Health.DOWN
        self.wake()


class NoEnclave(Exception):
    """No enclave takes a connection now."""


class Routes:
    """The enclaves, and the choice among them."""

    def __init__(self, per_enclave: int) -> None:
        self._per_enclave = per_enclave
        self._enclaves: dict[Destination, Enclave] = {}

    @property
    def enclaves(self) -> list[Enclave]:
        """All enclaves, whatever their health."""
        return list(self._enclaves.values())

    @property
    def releases(self) -> list[str]:
        """The labels of the releases that are here, in order."""
        return sorted({destination.release for destination in self._enclaves})

    @property
    def is_ready(self) -> bool:
        """True while at least one enclave has proved to be alive."""
        return any(enclave.health is Health.UP for enclave in self._enclaves.values())

    def replace(self, destinations: Iterable[Destination]) -> tuple[list[Enclave], list[Enclave]]:
        """Make these the destinations; return the enclaves that came and those that went.

        An enclave whose destination stays keeps what is known of it.
        """
        wanted = list(dict.fromkeys(destinations))
        went = [self._enclaves.pop(gone) for gone in set(self._enclaves) - set(wanted)]
        came = []
        for destination in wanted:
            if destination not in self._enclaves:
                self._enclaves[destination] = Enclave(destination=destination)
                came.append(self._enclaves[destination])
        return came, went

    def choose(self, release: str | None) -> Enclave:
        """Return the enclave with the fewest sessions, of that release if one is named.

        Raises:
            NoEnclave: the release is not here, none of its enclaves is up, or all are full.
        """
        fitting = [
            enclave
            for enclave in self._enclaves.values()
            if release is None or enclave.destination.release == release
        ]
        if not fitting:
            raise NoEnclave("there is no enclave of this release here")
        alive = [enclave for enclave in fitting if enclave.health is Health.UP]
        free = [enclave for enclave in alive if enclave.sessions < self._per_enclave]
        if not free:
            raise NoEnclave("every enclave is full" if alive else "no enclave answers")
        return min(free, key=lambda enclave: (enclave.sessions, enclave.in_flight))
