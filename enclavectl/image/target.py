"""The Python and the system of a base image, which wheels must fit."""

from __future__ import annotations

import re
from dataclasses import dataclass

from enclavectl.eif.format import Arch
from enclavectl.errors import HostError
from enclavectl.image.engine import Engine
from enclavectl.json_object import JsonObject

# glibc and not musl: none of the TFLite runtimes has wheels for musl.
PROBE = (
    "import json, platform, sys; print(json.dumps({'python': sys.version_info[:2], "
    "'machine': platform.machine(), 'libc': platform.libc_ver(), 'implementation': sys.implementation.name}))"
)
_ARCHS = {arch.machine: arch for arch in Arch}
# PEP 600: a wheel for manylinux_2_N runs on every glibc from 2.N on. 2.17 is the oldest in use.
_OLDEST_GLIBC = 17


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The Python and the system in a base image; ``glibc`` is the minor version, so 36 for 2.36."""

    python: tuple[int, int]
    machine: str
    glibc: int

    @property
    def arch(self) -> Arch:
        """The architecture of enclave images for it."""
        return _ARCHS[self.machine]

    @property
    def abi(self) -> str:
        """The tag of its extension modules, such as cp311."""
        return f"cp{self.python[0]}{self.python[1]}"

    def platforms(self) -> list[str]:
        """List the platform tags of wheels that run there, newest first."""
        tags = [f"manylinux_2_{minor}_{self.machine}" for minor in range(self.glibc, _OLDEST_GLIBC - 1, -1)]
        return [*tags, f"manylinux2014_{self.machine}", f"linux_{self.machine}"]

    def to_json(self) -> dict[str, object]:
        """Return the object in the lock."""
        return {
            "python": f"{self.python[0]}.{self.python[1]}",
            "machine": self.machine,
            "glibc": f"2.{self.glibc}",
        }


def probe(engine: Engine, image: str) -> Target:
    """Find out which Python and system an image has.

    Raises:
        HostError: the engine failed; or the image has no Python, none that the payload runs on, or is for
            another kind of machine.
    """
    try:
        out = engine.run(image, ["python3", "-c", PROBE])
    except HostError as exc:
        if exc.code != "container":
            raise  # the engine failed, not the image
        raise HostError(
            f"the base image {image} has no python3 that runs ({exc.message})",
            hint="name one that has it: enclavectl build --base-image python:3.11-slim-bookworm",
            code="base-image",
        ) from exc
    return parse_probe(out, image)


def parse_probe(out: bytes, image: str) -> Target:
    """Parse the output of a probe.

    Raises:
        HostError: not the output of a probe, or a system that the payload does not run on.
    """
    try:
        value = JsonObject.parse(out)
        major, minor = value.integers("python")
        machine, implementation = value.string("machine"), value.string("implementation")
        libc, libc_version = value.strings("libc")
    except ValueError as exc:  # JsonError, or lists of another length
        raise HostError(f"{image}: expected the probe's JSON, found {out[:80]!r}", code="base-image") from exc
    version = re.fullmatch(r"2\.([0-9]{1,3})", libc_version)
    if implementation != "cpython" or libc != "glibc" or version is None or machine not in _ARCHS:
        raise HostError(
            f"the base image {image}: expected CPython with glibc 2 on x86_64 or aarch64, found "
            f"{implementation} with {libc or 'another C library'} {libc_version} on {machine}",
            hint="Alpine images have musl; take a Debian one, such as python:3.11-slim-bookworm",
            code="base-image",
        )
    if (major, minor) < (3, 11):
        raise HostError(
            f"the base image {image}: expected Python 3.11 or newer, found {major}.{minor}", code="base-image"
        )
    return Target(python=(major, minor), machine=machine, glibc=int(version[1]))
