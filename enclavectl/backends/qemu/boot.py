"""The steps of a boot as its console shows them: for people only, since a console can say anything."""

from __future__ import annotations

from enum import Enum

# Of a line that is looked at; the words that count stand at the beginning.
_LINE_BYTES = 200


class BootStep(Enum):
    """A step, in the order of a boot; the value says what goes on during it."""

    FIRMWARE = "the firmware unpacks the kernel"
    KERNEL = "the kernel boots"
    INIT = "the init prepares the file system"
    IMPORTS = "the payload imports its modules"
    MODEL = "the payload loads its model"
    SERVING = "the payload serves"


_ORDER = list(BootStep)
_BEGINNINGS = (
    (b"Linux version ", BootStep.KERNEL),
    (b"Run /init as init process", BootStep.INIT),
    (b"TensorFlow Lite", BootStep.MODEL),
    (b"enclave_payload: serving", BootStep.SERVING),
)


class BootProgress:
    """The newest step. It never goes back, whatever the console says."""

    def __init__(self) -> None:
        self.step = BootStep.FIRMWARE

    def see_line(self, line: bytes) -> BootStep | None:
        """Look at a line of the console; return the step that begins with it, or None."""
        head = line[:_LINE_BYTES]
        found = next((step for words, step in _BEGINNINGS if words in head), None)
        return None if found is None else self.see(found)

    def see(self, step: BootStep) -> BootStep | None:
        """Begin a step; return it, or None if the boot is there already."""
        if _ORDER.index(step) <= _ORDER.index(self.step):
            return None
        self.step = step
        return step
