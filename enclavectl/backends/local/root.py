"""The files of the development root, which signs for every local enclave of this user.

Apart from the records, whose classes take longer to make than the root to read: the supervisor reads it while
the payload boots.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from enclavectl.backends.keeping.locks import exclusive
from enclavectl.errors import HostError
from enclavectl.files import make_private_dir, read_bounded, require_private_dir, write_atomic

if TYPE_CHECKING:
    from enclavectl.backends.local.pki import DevelopmentRoot

# A PEM certificate or key of P-384 has less than 1 KiB.
_MAX_PEM_BYTES = 64 * 1024


def ensure_root(folder: Path) -> None:
    """Make a development root of this machine's own in ``folder``, unless there is one.

    Only this user can read its key.

    Raises:
        HostError: the folder or its files cannot be written.
    """
    if require_private_dir(folder) and (folder / "certificate.pem").exists():
        return
    from enclavectl.backends.local.pki import DevelopmentRoot

    make_private_dir(folder)
    with exclusive(folder):
        if (folder / "certificate.pem").exists():
            return
        root = DevelopmentRoot.create(datetime.now(UTC))
        write_atomic(folder / "key.pem", root.key_pem)
        # The certificate is written last: if it exists, the key exists.
        write_atomic(folder / "certificate.pem", root.certificate_pem)


def load_root(folder: Path) -> DevelopmentRoot:
    """Read the root that ``ensure_root`` made.

    Raises:
        HostError: somebody else may read the key: what it signed proves nothing, not even here.
        UsageError: the files are missing or damaged.
    """
    from enclavectl.backends.local.pki import DevelopmentRoot

    require_private_dir(folder)
    key = folder / "key.pem"
    if key.exists() and key.stat().st_mode & 0o077:
        raise HostError(
            f"{key}: expected mode 0600, found {key.stat().st_mode & 0o777:04o}",
            hint=f"rm -r '{folder}' and run again: a new root is made",
        )
    return DevelopmentRoot.from_pem(
        read_bounded(key, _MAX_PEM_BYTES, what="key"),
        read_bounded(folder / "certificate.pem", _MAX_PEM_BYTES, what="certificate"),
    )
