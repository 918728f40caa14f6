"""The turn of a boot among launches that our locks do not reach, such as those of a node's other pods.

nitro-cli listens on vsock port 9000 of the parent while an enclave boots; a node has one such port for all
of its pods. Our lock on launches is a lock on a folder, which each pod has for itself. So a launch that finds
the port taken (https://github.com/aws/aws-nitro-enclaves-cli/issues/516) is tried again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from random import SystemRandom

from enclavectl.errors import StateError
from enclavectl.nitro_cli.failure import read_error_log, read_failure
from enclavectl.nitro_cli.reasons import PORT_TAKEN
from enclavectl.run import Output

# Seconds between two tries. Boots take from 3 s on; the spread lets one of four waiting pods come first.
_SHORTEST_S = 1.0
_LONGEST_S = 10.0
# How soon an end that was asked for is noticed.
_POLL_S = 0.2
_TELL_EVERY_S = 30.0


def is_port_taken(output: Output) -> bool:
    """Return whether a launch failed because something else has vsock port 9000."""
    return output.status != 0 and read_failure(output, read_error_log).reason == PORT_TAKEN


@dataclass(frozen=True, slots=True)
class BootTurn:
    """Launches that may wait ``bound_s`` seconds in all; ``is_unwanted`` ends the wait."""

    bound_s: float
    note: Callable[[str], None]
    is_unwanted: Callable[[], bool]
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def take(self, launch: Callable[[], Output]) -> Output:
        """Launch, and again while the port is taken and time is left; return the last output.

        Raises:
            StateError: the end of the enclave was asked for meanwhile.
        """
        began_at = self.clock()
        tell_at = began_at
        while is_port_taken(output := launch()):
            now = self.clock()
            pause_s = SystemRandom().uniform(_SHORTEST_S, _LONGEST_S)
            if now + pause_s - began_at > self.bound_s:
                break
            if now >= tell_at:
                tell_at = now + _TELL_EVERY_S
                self.note(
                    "vsock port 9000 is taken: another enclave of this machine boots, perhaps another pod's; "
                    f"trying again, {self.bound_s - (now - began_at):.0f} s at most"
                )
            self._pause(now + pause_s)
        return output

    def _pause(self, until: float) -> None:
        while self.clock() < until:
            if self.is_unwanted():
                raise StateError("its end was asked for while it waited for another boot")
            self.sleep(_POLL_S)
