"""A temporary database: where lists go that are as long as an image has files.

SQLite puts its file into ``SQLITE_TMPDIR``, ``TMPDIR`` or ``/var/tmp`` and unlinks it at once, and memory is
its page cache, whatever the image: https://sqlite.org/tempfiles.html
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

from enclavectl.errors import HostError

# The file is private and never outlives us, so nothing has to be undone or to be on the disk at a power cut.
_SETTINGS = """
PRAGMA cache_size = -{cache_kib};
PRAGMA temp_store = FILE;
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
"""


@contextmanager
def open_database(schema: str, *, what: str, cache_kib: int) -> Iterator[sqlite3.Connection]:
    """Open a database with the tables of ``schema``, deleted at the end of the block.

    ``what`` is what it holds, for messages; ``cache_kib`` are held in memory.

    Raises:
        HostError: there is no room for it.
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
