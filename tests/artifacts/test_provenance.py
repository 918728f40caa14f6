"""The in-toto statement about an image, and the git commit in it, with the real git."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from enclavectl.artifacts.provenance import PREDICATE_TYPE, STATEMENT_TYPE, Checkout, statement
from enclavectl.image.checkout import find_checkout
from tests.artifacts.test_lock import locked_image

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="no git on the PATH")


def test_the_subject_is_the_image_and_its_registers(tmp_path: Path) -> None:
    lock, path = locked_image(tmp_path)
    image = tmp_path / "out" / "a.eif"
    with image.open("rb") as file:
        said = json.loads(statement(lock, file, lock_name=path.name, checkout=None))
    assert (said["_type"], said["predicateType"]) == (STATEMENT_TYPE, PREDICATE_TYPE)
    (subject,) = said["subject"]
    data = image.read_bytes()
    assert subject == {
        "name": "out/a.eif",
        "digest": {"sha256": hashlib.sha256(data).hexdigest(), "sha384": hashlib.sha384(data).hexdigest()},
        "annotations": {"pcrs": lock.pcrs},
    }
    (written,) = said["predicate"]["runDetails"]["byproducts"]
    assert written["digest"] == {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def test_every_input_of_the_lock_is_a_dependency_and_the_checkout_is_the_first(tmp_path: Path) -> None:
    lock, path = locked_image(tmp_path)
    with (tmp_path / "out" / "a.eif").open("rb") as file:
        checkout = Checkout(commit="c" * 40, is_dirty=True)
        said = json.loads(statement(lock, file, lock_name=path.name, checkout=checkout))
    first, *others = said["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert first == {"name": "checkout", "digest": {"gitCommit": "c" * 40}, "annotations": {"dirty": True}}
    digests = {one["digest"]["sha256"] for one in others}
    assert lock.model is not None
    assert digests >= {lock.model["sha256"], *(wheel.sha256 for wheel in lock.wheels)}
    assert digests >= {value for name, value in lock.blobs.items() if name != "cmdline"}
    assert said["predicate"]["runDetails"]["builder"]["version"] == lock.tools


def git(folder: Path, *words: str) -> str:
    names = ("-c", "user.name=n", "-c", "user.email=e@example.com")
    done = subprocess.run(["git", *names, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@needs_git
def test_a_commit_is_dirty_with_what_differs_and_with_what_it_does_not_know(tmp_path: Path) -> None:
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    assert find_checkout(tmp_path, environ) is None
    git(tmp_path, "init", "-q")
    assert find_checkout(tmp_path, environ) is None  # no commit yet
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert find_checkout(tmp_path, environ) == Checkout(commit=commit, is_dirty=False)
    (tmp_path / "new").touch()
    assert find_checkout(tmp_path, environ) == Checkout(commit=commit, is_dirty=True)
    (tmp_path / "new").unlink()
    (tmp_path / "Dockerfile").write_text("FROM other\n")
    assert find_checkout(tmp_path, environ) == Checkout(commit=commit, is_dirty=True)


@needs_git
def test_a_repository_cannot_have_a_program_of_its_own_started(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "one")
    monitor = tmp_path / "monitor"
    monitor.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    monitor.chmod(0o755)
    git(tmp_path, "config", "core.fsmonitor", str(monitor))
    assert find_checkout(tmp_path, {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}) is not None
    assert not (tmp_path / "started").exists()


def test_without_git_no_commit_is_named(tmp_path: Path) -> None:
    assert find_checkout(tmp_path, {"PATH": str(tmp_path)}) is None
