"""The payload's dependencies as wheels, for the base image's Python, locked by SHA-256.

pip resolves and downloads them once, on the host, into ``data_dir/wheels``, where the hash is part of the
path. The next build takes the wheels that a fitting lock names, so they stay the same until
``--upgrade-wheels`` asks for newer ones.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from enclavectl.artifacts.wheel import Wheel
from enclavectl.errors import HostError, UsageError
from enclavectl.files import make_private_dir, open_regular, read_chunks, sha256_of
from enclavectl.image.target import Target
from enclavectl.run import Command, capture

# The payload's allow-list, with the bounds of pyproject.toml (a test compares them).
_COMMON = ("cryptography>=50.0", "isal>=1.9", "Pillow>=13.0")
# Wheels up to CPython 3.11, compiled against numpy 1.
_TFLITE = ("tflite-runtime>=2.14", "numpy>=1.26,<2")
_LITERT = ("ai-edge-litert>=2.1", "numpy>=2.1")
# It installs the other wheels in the build stage, since a base image may lack pip. Not in the finished image.
INSTALLER = "pip"
_PIP_TIMEOUT_S = 600  # tens of MB of wheels over a slow line; this ends a pip that hangs
_WHEEL = re.compile(r"([A-Za-z0-9_.]+)-([A-Za-z0-9_.!+]+?)(?:-[0-9][A-Za-z0-9_.]*)?-[^-]+-[^-]+-[^-]+\.whl")
# The variables of the user's environment that pip gets: where to download packages, and no others.
_PASSED_ON = re.compile(
    r"(PIP_.*|HOME|PATH|LANG|TMPDIR|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|XDG_CONFIG_(HOME|DIRS)"
    r"|(https?|all|no)_proxy)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelStore:
    """The folder of downloaded wheels, and the interpreter that runs pip."""

    folder: Path
    environ: Mapping[str, str]
    python: Path = Path(sys.executable)

    def path(self, wheel: Wheel) -> Path:
        """Return the path of this wheel in the store, whether it exists or not."""
        return self.folder / wheel.sha256 / wheel.file


class Runtime(StrEnum):
    """The interpreter of models in an image."""

    AUTO = "auto"
    TFLITE = "tflite-runtime"
    LITERT = "ai-edge-litert"

    def on(self, target: Target) -> Runtime:
        """Return the runtime that an image for this target gets.

        Raises:
            UsageError: the runtime has no wheels for this Python.
        """
        if self is Runtime.AUTO:
            return _DEFAULT
        if self is Runtime.TFLITE and target.python > _LAST_TFLITE:
            version = ".".join(map(str, target.python))
            raise UsageError(
                f"--runtime {self}: it has wheels up to CPython 3.11, and the base image has {version}",
                hint=f"--runtime {Runtime.LITERT}, or a base image with Python 3.11",
                code="runtime",
            )
        return self


# docs/building.md has the numbers: two to three times as fast, and a few MiB larger.
_DEFAULT = Runtime.LITERT
_LAST_TFLITE = (3, 11)


def requirements(target: Target, runtime: Runtime) -> tuple[str, ...]:
    """Return the payload's requirements on this target with this runtime.

    Raises:
        UsageError: the runtime has no wheels for this Python.
    """
    chosen = _LITERT if runtime.on(target) is Runtime.LITERT else _TFLITE
    return tuple(sorted((*_COMMON, *chosen), key=str.lower))


def resolve_wheels(store: WheelStore, target: Target, runtime: Runtime) -> tuple[Wheel, ...]:
    """Download the newest wheels that satisfy ``requirements``, and their dependencies; return them sorted.

    Raises:
        HostError: pip is missing or fails, or a package has no wheel for the target.
    """
    return _download(store, target, [*requirements(target, runtime), INSTALLER], extra=[])


def fetch_wheels(store: WheelStore, target: Target, wheels: Sequence[Wheel]) -> None:
    """Download those of these wheels that are not in the store.

    Raises:
        HostError: a wheel is no longer available, or has another hash now.
    """
    missing = [wheel for wheel in wheels if not _is_kept(store, wheel)]
    if not missing:
        return
    lines = [f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}" for wheel in missing]
    with tempfile.TemporaryDirectory(prefix="enclavectl-wheels-") as folder:
        listed = Path(folder) / "requirements.txt"
        listed.write_text("\n".join(lines) + "\n", encoding="utf-8")
        _download(store, target, [], extra=["--no-deps", "--require-hashes", "--requirement", str(listed)])
    lost = [wheel.file for wheel in missing if not _is_kept(store, wheel)]
    if lost:
        raise HostError(
            f"the lock names {', '.join(lost)}, but the package index gave another file of that version",
            hint="enclavectl build --upgrade-wheels takes what the index has now, and moves PCR0 and PCR2",
            code="wheel-hash",
        )


def _is_kept(store: WheelStore, wheel: Wheel) -> bool:
    path = store.path(wheel)
    return path.is_file() and _sha256(path) == wheel.sha256


def _download(
    store: WheelStore, target: Target, wanted: Sequence[str], *, extra: Sequence[str]
) -> tuple[Wheel, ...]:
    make_private_dir(store.folder)
    with tempfile.TemporaryDirectory(prefix="download-", dir=store.folder) as name:
        folder = Path(name)
        argv = [str(store.python), "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        argv += ["--no-input", "--only-binary", ":all:", "--dest", str(folder)]
        argv += ["--implementation", "cp", "--python-version", ".".join(map(str, target.python))]
        for abi in (target.abi, "abi3", "none"):
            argv += ["--abi", abi]
        for platform in target.platforms():
            argv += ["--platform", platform]
        environment = {key: value for key, value in store.environ.items() if _PASSED_ON.fullmatch(key)}
        command = Command(argv=[*argv, *extra, *wanted], cwd=folder, environment=environment)
        done = capture(command, timeout_s=_PIP_TIMEOUT_S)
        if done.status != 0:
            raise _pip_error(done.err.decode(errors="replace"), target)
        wheels = []
        for path in sorted(folder.glob("*.whl")):
            wheel = _locked(path)
            destination = store.path(wheel)
            make_private_dir(destination.parent)
            path.replace(destination)
            wheels.append(wheel)
    return tuple(sorted(wheels, key=lambda wheel: wheel.name))


def _locked(path: Path) -> Wheel:
    match = _WHEEL.fullmatch(path.name)
    if match is None:
        raise HostError(f"pip downloaded {path.name!r}, which is not the name of a wheel")
    name = re.sub(r"[-_.]+", "-", match[1]).lower()
    return Wheel(name=name, version=match[2], file=path.name, sha256=_sha256(path))


def _sha256(path: Path) -> str:
    with open_regular(path, what="wheel") as file:
        return sha256_of(read_chunks(file))


def _pip_error(words: str, target: Target) -> HostError:
    if "No module named pip" in words:
        return HostError(
            "this Python has no pip, which downloads the payload's wheels",
            hint=f"{sys.executable} -m ensurepip",
            code="pip-missing",
        )
    errors = [line.strip() for line in words.splitlines() if line.strip().startswith("ERROR:")]
    said = " | ".join(errors[-3:]) or words.strip()[-500:]
    fits = f"CPython {target.python[0]}.{target.python[1]}, {target.machine}, glibc 2.{target.glibc}"
    hint = None
    if re.search(r"connection|name resolution|timed? ?out", words, re.IGNORECASE):
        hint = "is there a network? wheels are downloaded once; PIP_INDEX_URL names another package index"
    elif "No matching distribution" in words:
        hint = (
            "python:3.11-slim-bookworm has wheels for all of them; if this base image should, "
            "is the package index reached? PIP_INDEX_URL names another"
        )
    return HostError(f"pip cannot get the payload's wheels for {fits}: {said}", hint=hint, code="wheels")


def store_of(data_dir: Path) -> WheelStore:
    """Return the store of this user."""
    return WheelStore(folder=data_dir / "wheels", environ=os.environ)
