"""Which wheels are asked for, and which of a lock still fit."""

from __future__ import annotations

import hashlib
import sys
import tomllib
from pathlib import Path

import pytest

from enclavectl.artifacts.wheel import Wheel
from enclavectl.errors import HostError, UsageError
from enclavectl.image.plan import lock_wheels
from enclavectl.image.target import Target
from enclavectl.image.wheels import Runtime, WheelStore, fetch_wheels, requirements, resolve_wheels

PROJECT = Path(__file__).resolve().parents[2]
BOOKWORM = Target(python=(3, 11), machine="x86_64", glibc=36)


def wheel(file: str, name: str = "numpy") -> Wheel:
    return Wheel(name=name, version="1.26.4", file=file, sha256="0" * 64)


def offline(folder: Path) -> WheelStore:
    """A store whose pip has no index, so that whatever it is asked for fails."""
    return WheelStore(folder=folder / "wheels", environ={"PIP_NO_INDEX": "1", "HOME": str(folder)})


@pytest.mark.parametrize(
    ("python", "runtime"),
    [
        ((3, 11), Runtime.TFLITE),
        ((3, 11), Runtime.LITERT),
        ((3, 11), Runtime.AUTO),
        ((3, 12), Runtime.AUTO),
        ((3, 13), Runtime.LITERT),
    ],
)
def test_requirements_are_those_of_the_project(python: tuple[int, int], runtime: Runtime) -> None:
    declared = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["dependencies"]
    bounds = {line.partition(";")[0].strip() for line in declared}
    asked = requirements(Target(python=python, machine="x86_64", glibc=36), runtime)
    assert set(asked) <= bounds
    expected = Runtime.LITERT if runtime is Runtime.AUTO else runtime
    assert any(one.startswith(expected) for one in asked)
    assert ("numpy>=1.26,<2" in asked) is (runtime is Runtime.TFLITE)  # it was compiled against numpy 1


def test_a_runtime_without_wheels_for_a_python_is_refused() -> None:
    with pytest.raises(UsageError, match=r"up to CPython 3\.11, and the base image has 3\.12"):
        requirements(Target(python=(3, 12), machine="x86_64", glibc=36), Runtime.TFLITE)


def test_a_lock_with_the_other_runtime_is_resolved_anew(tmp_path: Path) -> None:
    store = offline(tmp_path)
    names = [name.partition(">")[0].lower() for name in requirements(BOOKWORM, Runtime.TFLITE)]
    locked = tuple(kept(store, name, "py3-none-any") for name in names)
    assert lock_wheels(locked, store, BOOKWORM, Runtime.TFLITE) == locked
    with pytest.raises(HostError):  # it asks pip, and this pip has nothing
        lock_wheels(locked, store, BOOKWORM, Runtime.LITERT)


def test_platform_tags_run_from_the_newest_glibc_to_the_oldest() -> None:
    tags = BOOKWORM.platforms()
    assert tags[0] == "manylinux_2_36_x86_64"
    assert "manylinux_2_17_x86_64" in tags
    assert "manylinux_2_37_x86_64" not in tags


@pytest.mark.parametrize(
    "file",
    [
        "numpy-1.26.4-cp312-cp312-manylinux_2_17_x86_64.whl",
        "numpy-1.26.4-cp311-cp311-manylinux_2_17_aarch64.whl",
    ],
)
def test_a_lock_for_another_target_is_resolved_anew(tmp_path: Path, file: str) -> None:
    with pytest.raises(HostError):  # it asks pip, and this pip has nothing
        lock_wheels((wheel(file),), offline(tmp_path), BOOKWORM, Runtime.AUTO)


def kept(store: WheelStore, name: str, tags: str) -> Wheel:
    """A locked wheel that is in the store, so that nothing is asked of an index."""
    data = name.encode()
    file = f"{name.replace('-', '_')}-9.9-{tags}.whl"
    one = Wheel(name=name, version="9.9", file=file, sha256=hashlib.sha256(data).hexdigest())
    store.path(one).parent.mkdir(parents=True, mode=0o700)
    store.path(one).write_bytes(data)
    return one


@pytest.mark.parametrize(
    "tags", ["cp311-cp311-manylinux_2_17_x86_64", "cp39-abi3-manylinux_2_28_x86_64", "py3-none-any"]
)
def test_locked_wheels_that_fit_are_taken_again(tmp_path: Path, tags: str) -> None:
    """Wheels for the stable ABI (abi3, as cryptography's are) fit every later CPython."""
    store = offline(tmp_path)
    names = [name.partition(">")[0].lower() for name in requirements(BOOKWORM, Runtime.AUTO)]
    locked = tuple(kept(store, name, tags) for name in names)
    assert lock_wheels(locked, store, BOOKWORM, Runtime.AUTO) == locked


def test_a_wheel_that_is_not_to_be_had_is_explained(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"CPython 3\.11, x86_64, glibc 2\.36") as caught:
        resolve_wheels(offline(tmp_path), BOOKWORM, Runtime.AUTO)
    assert caught.value.code == "wheels"
    assert "python:3.11-slim-bookworm" in str(caught.value.hint)
    assert [path.name for path in (tmp_path / "wheels").iterdir()] == []


def test_an_index_that_is_not_reached_is_not_taken_for_a_missing_wheel(tmp_path: Path) -> None:
    environ = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "1", "HOME": str(tmp_path)}
    with pytest.raises(HostError) as caught:
        resolve_wheels(WheelStore(folder=tmp_path / "wheels", environ=environ), BOOKWORM, Runtime.AUTO)
    assert "network" in str(caught.value.hint)


def test_a_kept_wheel_needs_no_index_and_a_damaged_one_is_not_taken(tmp_path: Path) -> None:
    store = offline(tmp_path)
    data = b"wheel"
    kept = Wheel(name="x", version="1", file="x-1-py3-none-any.whl", sha256=hashlib.sha256(data).hexdigest())
    store.path(kept).parent.mkdir(parents=True, mode=0o700)
    store.folder.chmod(0o700)
    store.path(kept).write_bytes(data)
    fetch_wheels(store, BOOKWORM, [kept])
    store.path(kept).write_bytes(b"other")
    with pytest.raises(HostError):
        fetch_wheels(store, BOOKWORM, [kept])


def test_a_python_without_pip_is_explained(tmp_path: Path) -> None:
    fake = tmp_path / "python"
    fake.write_text(f"#!/bin/sh\necho '{sys.executable}: No module named pip' >&2\nexit 1\n")
    fake.chmod(0o755)
    store = WheelStore(folder=tmp_path / "wheels", environ={}, python=fake)
    with pytest.raises(HostError, match="no pip") as caught:
        resolve_wheels(store, BOOKWORM, Runtime.AUTO)
    assert "ensurepip" in str(caught.value.hint)
