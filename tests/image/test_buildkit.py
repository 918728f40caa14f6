"""How BuildKit is found and given its context: an executable stands for the docker command."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest

from enclavectl.eif.ramdisk.ramdisks import EPOCH
from enclavectl.errors import HostError, UsageError
from enclavectl.image.builder import ImageRecipe
from enclavectl.image.buildkit import choose_builder
from enclavectl.image.context import folder_context
from enclavectl.image.engine import BuildOptions, OnLine

DOCKER = """#!/bin/sh
case "$1" in
  buildx) exit ${buildx} ;;
  info) echo "the engine" ;;
  build)
    printf '%s\\n' "$@" >{folder}/argv
    env | cut -d= -f1 | sort >{folder}/environ
    for last; do :; done
    if [ "$last" = - ]; then
      cat >{folder}/context.tar
    else
      ls -A "$last" >{folder}/context
      stat -c '%a %n' "$last"/* | sed "s#$last/##" >{folder}/modes
    fi
    while [ "$1" != --iidfile ]; do shift; done; iid=$2
    while [ "$1" != --file ]; do shift; done
    if [ "$last" != - ]; then
      cat "$2" >{folder}/Dockerfile.seen; cat "$2.dockerignore" >{folder}/ignore.seen
    fi
    echo '#5 [2/2] RUN x'; echo '#5 0.1 the reason'
    if [ -e {folder}/fails ]; then
      printf '%s\\n' '------' ' > [2/2] RUN x:' '0.1 the reason' '------' 'Dockerfile:2' '   1 | FROM a' \
        'ERROR: failed to solve: process x did not complete' >&2
      exit 1
    fi
    printf sha256:1234 >"$iid" ;;
esac
"""


class FakeEngine:
    """An engine that only says who it is, and remembers what it was asked to name."""

    identity = "the engine"

    def __init__(self) -> None:
        self.names: list[str] = []

    def build(self, context: BinaryIO, options: BuildOptions, *, on_line: OnLine) -> str:
        raise AssertionError(f"the classic builder was asked: {context} {options} {on_line}")

    @contextmanager
    def named(self, image: str) -> Iterator[str]:
        self.names.append(image)
        yield f"name-of-{image}"


def docker(folder: Path, *, buildx: int = 0) -> dict[str, str]:
    """An environment with a docker command."""
    (folder / "bin").mkdir()
    program = folder / "bin" / "docker"
    program.write_text(DOCKER.replace("{folder}", str(folder)).replace("${buildx}", str(buildx)))
    program.chmod(0o755)
    path = f"{folder}/bin:{os.environ['PATH']}"
    return {
        "PATH": path,
        "HOME": "/root",
        "BUILDX_BUILDER": "other",
        "DOCKER_CONTEXT": "c",
        "AWS_SECRET": "s",
    }


def context(folder: Path) -> Path:
    made = folder / "source"
    (made / "sub").mkdir(parents=True)
    (made / "Dockerfile").write_text("FROM a\nCOPY . /\n")
    (made / ".dockerignore").write_text("Dockerfile\n.dockerignore\n*.csv\n")
    (made / "a.csv").write_text("patient")
    (made / "run.sh").write_text("#!/bin/sh\n")
    (made / "run.sh").chmod(0o775)
    (made / "link").symlink_to("run.sh")
    return made


def build(folder: Path, environ: dict[str, str], engine: FakeEngine, lines: list[str]) -> str:
    builder = choose_builder(engine, environ)
    assert builder.name == "buildkit"
    files = folder_context(context(folder))
    recipe = ImageRecipe(
        files=files,
        dockerfile=files.folder / files.dockerfile,
        base="sha256:base",
        has_network=False,
        labels={"enclavectl": "1"},
    )
    return builder.build(recipe, folder, lines.append)


def test_a_build_gets_the_chosen_files_and_nothing_else_of_the_caller(tmp_path: Path) -> None:
    engine, lines = FakeEngine(), list[str]()
    assert build(tmp_path, docker(tmp_path), engine, lines) == "sha256:1234"
    assert (tmp_path / "context").read_text().split() == ["link", "run.sh", "sub"]
    assert (tmp_path / "Dockerfile.seen").read_text() == "FROM a\nCOPY . /\n"
    assert (tmp_path / "ignore.seen").read_text().startswith("#")
    modes = [line.split() for line in (tmp_path / "modes").read_text().splitlines()]
    assert modes == [["777", "link"], ["755", "run.sh"], ["755", "sub"]]
    argv = (tmp_path / "argv").read_text().split("\n")
    assert argv[:3] == ["build", "--progress", "plain"]
    for option in ("--network\nnone", "BASE_IMAGE=name-of-sha256:base", "--label\nenclavectl=1"):
        assert option in "\n".join(argv)
    assert engine.names == ["sha256:base"]
    environ = set((tmp_path / "environ").read_text().split())
    assert {"DOCKER_CONTEXT", "DOCKER_BUILDKIT", "HOME"} <= environ
    assert not {"BUILDX_BUILDER", "AWS_SECRET"} & environ
    assert lines == ["#5 [2/2] RUN x", "#5 0.1 the reason"]
    assert {path.name for path in tmp_path.iterdir() if path.name.startswith(".")} == set()


def test_a_context_that_has_its_dockerfile_goes_as_one_tar(tmp_path: Path) -> None:
    """BuildKit would take a file of a folder for the one of a build before that is as large and as old."""
    made = context(tmp_path)
    (made / ".dockerignore").write_text("*.csv\n")
    files = folder_context(made)
    recipe = ImageRecipe(files=files, dockerfile=made / "Dockerfile", has_network=True)
    assert choose_builder(FakeEngine(), docker(tmp_path)).build(recipe, tmp_path, lambda _: None)
    with tarfile.open(tmp_path / "context.tar") as sent:
        members = sent.getmembers()
    assert [one.name for one in members] == [".dockerignore", "Dockerfile", "link", "run.sh", "sub"]
    assert {one.mtime for one in members} == {EPOCH}
    argv = (tmp_path / "argv").read_text().split("\n")
    assert argv[-4:] == ["--file", "Dockerfile", "-", ""]
    assert "--network" not in argv


def test_a_failed_step_is_told_by_its_own_words(tmp_path: Path) -> None:
    (tmp_path / "fails").touch()
    with pytest.raises(HostError) as caught:
        build(tmp_path, docker(tmp_path), FakeEngine(), [])
    assert caught.value.message.startswith(
        "docker build failed: failed to solve: process x did not complete; its last lines: "
    )
    assert "the reason" in caught.value.message
    assert "FROM a" not in caught.value.message


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("absent", "there is no docker command on the PATH"),
        ("no buildx", "has no buildx plugin"),
        ("another engine", "does not talk to the engine"),
        ("DOCKER_BUILDKIT=0", "DOCKER_BUILDKIT is 0"),
    ],
)
def test_without_buildkit_its_words_are_refused_with_the_reason(
    tmp_path: Path, case: str, reason: str
) -> None:
    environ = docker(tmp_path, buildx=int(case == "no buildx"))
    engine = FakeEngine()
    if case == "absent":
        environ["PATH"] = str(tmp_path)
    if case == "another engine":
        engine.identity = "another"
    if case == "DOCKER_BUILDKIT=0":
        environ["DOCKER_BUILDKIT"] = "0"
    builder = choose_builder(engine, environ)
    assert builder.name == "classic"
    (tmp_path / "Dockerfile").write_text("FROM a\nRUN <<EOF\ntrue\nEOF\n")
    with pytest.raises(UsageError) as caught:
        builder.require(tmp_path / "Dockerfile")
    assert reason in caught.value.message


def test_a_dockerfile_of_any_name_has_its_folder_and_its_own_ignore_file(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile.prod").write_text("FROM a\n")
    (tmp_path / "Dockerfile.prod.dockerignore").write_text("a\n")
    (tmp_path / ".dockerignore").write_text("b\n")
    (tmp_path / "a").touch()
    (tmp_path / "b").touch()
    names = [file.name for file in folder_context(tmp_path / "Dockerfile.prod")]
    assert names == [".dockerignore", "Dockerfile.prod", "Dockerfile.prod.dockerignore", "b"]
    with pytest.raises(UsageError) as caught:
        folder_context(tmp_path)
    assert "--dockerfile FOLDER/NAME" in str(caught.value.hint)
