"""A limit on the work that the ramdisks of one file may cause, in proportion to the file's size.

A file of 2 MB may unpack to 2 GB or to a million names. Programs pack to a quarter or a third of their size;
a file far beyond that is not meant to boot. So ``eif verify`` answers within seconds even for a hostile file.
"""

from __future__ import annotations

from dataclasses import dataclass

from enclavectl.eif.errors import CpioError

# Fixed allowances beside the shares of the file's size: a small archive of zeros may pack a thousandfold.
_BYTES, _BYTES_PER_BYTE = 64 << 20, 32
_ENTRIES, _BYTES_PER_ENTRY = (
    10_000,
    64,
)  # a plain record takes 112 bytes or more
_NAMES, _NAMES_PER_BYTE = 16 << 20, 4  # diff keeps names on the disk


@dataclass(slots=True)
class ReadBudget:
    """The remaining allowance of unpacked bytes, entries and bytes of names."""

    size: int
    unpacked: int
    entries: int
    names: int

    @classmethod
    def for_size(cls, size: int) -> ReadBudget:
        """Return the budget for ramdisks of ``size`` bytes in all."""
        return cls(
            size=size,
            unpacked=_BYTES + _BYTES_PER_BYTE * size,
            entries=_ENTRIES + size // _BYTES_PER_ENTRY,
            names=_NAMES + _NAMES_PER_BYTE * size,
        )

    def spend_bytes(self, count: int) -> None:
        """Spend unpacked bytes.

        Raises:
            CpioError: ``ramdisk-budget``.
        """
        self.unpacked -= count
        if self.unpacked < 0:
            limit = _BYTES + _BYTES_PER_BYTE * self.size
            raise self._error(
                f"expected at most {limit >> 20} MiB unpacked ({_BYTES_PER_BYTE} times its size and 64 MiB)"
            )

    def spend_entry(self, name: bytes) -> None:
        """Spend one entry and its name.

        Raises:
            CpioError: ``ramdisk-budget``.
        """
        self.entries -= 1
        self.names -= len(name)
        if self.entries < 0:
            raise self._error(
                f"expected at most {_ENTRIES + self.size // _BYTES_PER_ENTRY} entries for its size"
            )
        if self.names < 0:
            limit = _NAMES + _NAMES_PER_BYTE * self.size
            raise self._error(f"expected names of at most {limit >> 20} MiB in all for its size")

    def _error(self, text: str) -> CpioError:
        return CpioError(f"{text}, found more; the rest was not looked at", code="ramdisk-budget")
