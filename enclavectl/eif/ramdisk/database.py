"""A temporary database for lists with a row per file of an image.

SQLite puts its file into ``SQLITE_TMPDIR``, ``TMPDIR`` or ``/var/tmp`` and unlinks it at once. Its memory is
the page cache, however large the image: https://sqlite.org/tempfiles.html
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

from enclavectl.errors import HostError

# The file is private and ends with this process, so it needs neither rollback nor durability.
_SETTINGS = """
PRAGMA cache_size = -{cache_kib};
PRAGMA temp_store = FILE;
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
"""


@contextmanager
def open_database(schema: str, *, what: str, cache_kib: int) -> Iterator[sqlite3.Connection]:
    """Open a database with the tables of ``schema``; delete it at the end of the block.

    ``what`` names its content in messages; ``cache_kib`` bounds its memory.

    Raises:
        HostError: the disk has no room for it.
    """
    try:
        with closing(sqlite3.connect("", isolation_level=None)) as database:
            database.executescript(f"{_SETTINGS.format(cache_kib=cache_kib)}{schema}BEGIN;")
            yield database
    except sqlite3.OperationalError as exc:
        raise HostError(
            f"cannot keep {what} in the temporary folder: {exc}",
            hint="set TMPDIR to a folder with more room; each file takes its path and some 200 bytes",
        ) from exc
