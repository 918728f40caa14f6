"""What the simulated hypervisor measures: PCR0, PCR1 and PCR2 of a payload that is no EIF.

The parts stand for those of an image: "boot" is the interpreter and the packages under the payload,
"application" is the payload's own files with the model. The registers follow the EIF's mathematics
(extend of SHA-384; PCR0 over both, PCR1 over boot, PCR2 over the application), so that changing one file
moves PCR0 and PCR2 as it would in an enclave.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import enclave_payload

PACKAGES = ("ai-edge-litert", "cbor2", "cryptography", "numpy", "Pillow", "tflite-runtime")


def payload_dir() -> Path:
    """Where the payload that this installation runs lies."""
    return Path(enclave_payload.__file__).parent


def measure(payload: Path, model: Path) -> dict[int, bytes]:
    """PCR0, PCR1 and PCR2 for the payload's sources in ``payload`` and the two files in ``model``.

    Raises:
        OSError: a file cannot be read.
    """
    boot = _boot_manifest()
    sources = sorted(path for path in payload.rglob("*.py"))
    application = "".join(
        [
            *(_line(path.relative_to(payload).as_posix(), path) for path in sources),
            *(_line(f"model/{name}", model / name) for name in ("model.json", "model.tflite")),
        ]
    ).encode()
    return {0: _extend([boot, application]), 1: _extend([boot]), 2: _extend([application])}


def _boot_manifest() -> bytes:
    lines = [f"{platform.python_implementation()} {platform.python_version()} {platform.machine()}"]
    for package in PACKAGES:
        try:
            lines.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue  # one of the two TFLite runtimes is always absent
    return "\n".join(lines).encode()


def _line(name: str, path: Path) -> str:
    with path.open("rb") as file:
        return f"{hashlib.file_digest(file, 'sha384').hexdigest()} {name}\n"


def _extend(parts: Iterable[bytes]) -> bytes:
    digest = hashlib.sha384(b"".join(parts)).digest()
    return hashlib.sha384(bytes(48) + digest).digest()
