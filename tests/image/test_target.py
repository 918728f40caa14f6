"""What a probe's output says of a base image."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from enclavectl.eif.format import Arch
from enclavectl.errors import HostError
from enclavectl.image.target import PROBE, parse_probe


def said(
    python: object = (3, 11),
    machine: str = "x86_64",
    libc: object = ("glibc", "2.36"),
    implementation: str = "cpython",
) -> bytes:
    value = {"python": python, "machine": machine, "libc": libc, "implementation": implementation}
    return json.dumps(value).encode()


def test_the_probe_runs_and_is_read() -> None:
    out = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, check=True).stdout
    found = parse_probe(out, "here")
    assert found.python == sys.version_info[:2]


def test_a_target_knows_its_architecture_and_abi() -> None:
    found = parse_probe(said(machine="aarch64"), "image")
    assert found.arch is Arch.ARM64
    assert found.abi == "cp311"
    assert found.to_json() == {"python": "3.11", "machine": "aarch64", "glibc": "2.36"}


@pytest.mark.parametrize(
    "out",
    [
        b"",
        b"{}",
        b"[1, 2]",
        b"\xff",
        said(python=(3, 10)),
        said(machine="riscv64"),
        said(libc=("", "")),
        said(libc=("glibc", "3.0")),
        said(implementation="pypy"),
        said(python=(3, 11, 1)),
        said(python=("3", "11")),
        said(python=(3.9, 11)),
    ],
)
def test_what_the_payload_cannot_run_on_is_refused(out: bytes) -> None:
    with pytest.raises(HostError) as caught:
        parse_probe(out, "image")
    assert caught.value.code == "base-image"
