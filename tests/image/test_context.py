"""The build context: everything that is needed, and the same bytes each time."""

from __future__ import annotations

import ast
import hashlib
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from enclavectl.artifacts.wheel import Wheel
from enclavectl.errors import HostError, UsageError
from enclavectl.image.context import folder_context, payload_context, warmup_sources, write_context
from enclavectl.image.wheels import WheelStore
from enclavectl.models.find import PACKAGED_ID, find_model


def kept(store: WheelStore, name: str) -> Wheel:
    data = name.encode()
    file = f"{name}-1-py3-none-any.whl"
    wheel = Wheel(name=name, version="1", file=file, sha256=hashlib.sha256(data).hexdigest())
    store.path(wheel).parent.mkdir(parents=True)
    store.path(wheel).write_bytes(data)
    return wheel


def test_the_payloads_context_is_complete_and_has_no_cache(tmp_path: Path) -> None:
    store = WheelStore(folder=tmp_path, environ={})
    wheels = [kept(store, "numpy"), kept(store, "pip")]
    files = payload_context(find_model(PACKAGED_ID, data_dir=tmp_path), wheels, store)
    names = [file.name for file in files]
    assert names == sorted(names)
    assert {"Dockerfile", "assemble.py", "enclave_payload/__main__.py", "wheels/pip.whl"} <= set(names)
    assert not [name for name in names if "__pycache__" in name or name.endswith(".yaml")]
    # What only a client runs is inside warmup.py, which is not copied: no file that could get into the image.
    assert not [name for name in names if "enclavectl" in name or "protocol" in name]
    sink = io.BytesIO()
    write_context(files, sink)
    sink.seek(0)
    with tarfile.open(fileobj=sink) as archive:
        requirements = archive.extractfile("wheels/requirements.txt")
        assert requirements is not None
        assert requirements.read() == f"numpy==1 --hash=sha256:{wheels[0].sha256}\n".encode()


def test_times_and_places_do_not_change_a_context(tmp_path: Path) -> None:
    tars = []
    for number, name in enumerate(("first", "second")):
        folder = tmp_path / name
        (folder / "sub").mkdir(parents=True)
        for path in ("Dockerfile", "sub/a"):
            (folder / path).write_text(path)
            os.utime(folder / path, (number, number))
        (folder / "sub/a").chmod(0o750 if number else 0o700)
        sink = io.BytesIO()
        write_context(folder_context(folder), sink)
        tars.append(sink.getvalue())
    assert tars[0] == tars[1]


def written(folder: Path) -> dict[str, tarfile.TarInfo]:
    sink = io.BytesIO()
    write_context(folder_context(folder), sink)
    sink.seek(0)
    with tarfile.open(fileobj=sink) as archive:
        return {member.name: member for member in archive.getmembers()}


def test_links_stay_links_and_are_not_followed_out_of_a_context(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch")
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "folder").symlink_to("/etc")
    members = written(tmp_path)
    assert set(members) == {"Dockerfile", "link", "folder"}
    assert (members["link"].issym(), members["link"].linkname) == (True, "/etc/passwd")


def test_empty_folders_are_part_of_a_context(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch")
    (tmp_path / "data/empty").mkdir(parents=True)
    members = written(tmp_path)
    assert [name for name, member in members.items() if member.isdir()] == ["data", "data/empty"]


def test_what_is_neither_file_nor_folder_nor_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(HostError, match="something else"):
        written(tmp_path)
    (tmp_path / ".dockerignore").write_text("fifo\n")
    assert "fifo" not in written(tmp_path)


def test_a_folder_without_a_dockerfile_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Dockerfile"):
        folder_context(tmp_path)


IGNORE = """# a comment
.git
**/*.pem
node_modules
!node_modules/kept
Dockerfile
/docs/*.md
!docs/README.md
"""


def test_what_the_users_ignore_file_names_is_left_out(tmp_path: Path) -> None:
    names = [
        "Dockerfile", ".git/config", "a.pem", "sub/b.pem", "sub/c", "node_modules/x/y", "node_modules/kept/z",
        "docs/a.md", "docs/README.md",
    ]  # fmt: skip
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / ".dockerignore").write_text(IGNORE)
    found = {name for name, member in written(tmp_path).items() if member.isfile()}
    assert found == {"Dockerfile", ".dockerignore", "sub/c", "node_modules/kept/z", "docs/README.md"}


PEAK = """
import pathlib, sys, tracemalloc
from enclavectl.image.context import folder_context, write_context
folder = pathlib.Path(sys.argv[1])
with open("/dev/null", "wb") as sink:
    write_context([], sink)
    list(folder_context(folder))  # whatever is loaded once
    tracemalloc.start()
    write_context(folder_context(folder), sink)
    print(tracemalloc.get_traced_memory()[1])
"""


@pytest.mark.slow
def test_a_context_of_many_files_is_not_held(tmp_path: Path) -> None:
    """In a process of its own: elsewhere a dictionary of the interpreter's may grow just then."""
    (tmp_path / "Dockerfile").write_text("FROM scratch")
    for number in range(20):
        (tmp_path / f"{number:03}").mkdir()
        for file in range(100):
            (tmp_path / f"{number:03}" / f"{file:03}").touch()
    argv = [sys.executable, "-c", PEAK, str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    assert int(done.stdout) < 300_000


def test_the_warm_up_brings_all_that_it_imports_of_this_package() -> None:
    """In the image there is no enclavectl: a module that is not brought ends the build."""
    sources = warmup_sources()
    for name, source in sources.items():
        for node in ast.walk(ast.parse(source)):
            imported = [node.module] if isinstance(node, ast.ImportFrom) else []
            imported += [one.name for one in node.names] if isinstance(node, ast.Import) else []
            ours = {one for one in imported if one and one.split(".")[0] == "enclavectl"}
            assert ours <= sources.keys(), f"{name} imports {ours - sources.keys()}"
