"""The simulated hypervisor's measurements: PCR0, PCR1 and PCR2 of a payload that is no EIF.

The parts stand for those of an image: "boot" is the interpreter and the packages under the payload,
"application" is the payload's own files with the model. The registers follow the EIF's mathematics
(extend of SHA-384; PCR0 over both, PCR1 over boot, PCR2 over the application), so that changing one file
moves PCR0 and PCR2 as it would in an enclave.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path

import enclave_payload
from enclavectl.backends.local.modules import import_path

# As installed: lower case, with underscores (PEP 427). One of the two TFLite runtimes is always absent.
PACKAGES = {"ai_edge_litert", "cryptography", "isal", "numpy", "pillow", "tflite_runtime"}


def payload_dir() -> Path:
    """Return the folder of this installation's payload."""
    return Path(enclave_payload.__file__).parent


def measure(payload: Path, model: Path) -> dict[int, bytes]:
    """PCR0, PCR1 and PCR2 for the payload's sources in ``payload`` and the files in ``model``.

    Raises:
        OSError: a file cannot be read.
    """
    boot = _boot_manifest()
    sources = sorted(path for path in payload.rglob("*.py"))
    application = "".join(
        [
            *(_line(path.relative_to(payload).as_posix(), path) for path in sources),
            *(_line(f"model/{path.name}", path) for path in sorted(model.iterdir())),
        ]
    ).encode()
    return {0: _extend([boot, application]), 1: _extend([boot]), 2: _extend([application])}


def _boot_manifest() -> bytes:
    # Not platform and importlib.metadata: they take as long to import as all that is measured takes to hash.
    lines = [f"{sys.implementation.name} {sys.version.partition(' ')[0]} {os.uname().machine}"]
    for folder in filter(Path.is_dir, map(Path, import_path())):
        for entry in folder.glob("*.dist-info"):
            name, _, version = entry.stem.partition("-")
            if name.lower() in PACKAGES:
                lines.append(f"{name.lower()} {version}")
    return "\n".join([lines[0], *sorted(lines[1:])]).encode()


def _line(name: str, path: Path) -> str:
    with path.open("rb") as file:
        return f"{hashlib.file_digest(file, 'sha384').hexdigest()} {name}\n"


def _extend(parts: Iterable[bytes]) -> bytes:
    digest = hashlib.sha384(b"".join(parts)).digest()
    return hashlib.sha384(bytes(48) + digest).digest()
