"""Random images through a real dockerd: our ramdisk from the layers must be the one from ``docker export``.

All layers list their directories, as builders' layers do; otherwise Docker's own result depends on the hour.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from enclavectl.eif.file_range import whole_file
from enclavectl.eif.ramdisk.archive import open_archive
from enclavectl.eif.ramdisk.entries import Entry
from enclavectl.eif.ramdisk.layers import ImpliedDirectories, flatten
from enclavectl.eif.ramdisk.ramdisks import Mode, application_entries, write_ramdisk
from tests.eif.samples import read_export

pytestmark = pytest.mark.docker
NAMES = [
    "a",
    "b",
    "c",
    "d-e",
    "d",
    "d.x",
    "é",
    "etc",
    "dev",
    "tmp",
    "hosts",
    "mtab",
    "pts",
    "proc",
    "Dockerfile",
    "L" * 120,
]
MODES = [0o755, 0o644, 0o4755, 0o2755, 0o1777, 0o600]


def docker(*words: str) -> str:
    return subprocess.run(["docker", *words], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module", autouse=True)
def daemon() -> None:
    if shutil.which("docker") is None:
        pytest.skip("no docker command on the PATH")
    found = subprocess.run(["docker", "info"], capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip(f"no Docker engine answers: {found.stderr.strip()[:200]}")


class RandomLayer:
    """One layer under construction; ``below`` are the paths of lower layers."""

    def __init__(self, chance: random.Random, below: set[str]) -> None:
        self.chance, self.below = chance, below
        self.own: dict[str, bytes | None] = {}  # the type of each path, None for a whiteout
        self.out = io.BytesIO()
        self.tar = tarfile.TarFile.open(
            fileobj=self.out, mode="w", format=chance.choice([1, 2])
        )  # GNU or pax

    def build(self) -> bytes:
        for _ in range(self.chance.randrange(1, 25)):
            self.step()
        self.tar.close()
        return self.out.getvalue()

    def step(self) -> None:
        kind = self.chance.choice([b"0", b"0", b"0", b"1", b"2", b"3", b"4", b"5", b"5", b"6", b"w", b"w"])
        hidden = sorted(self.below - self.own.keys())
        if kind == b"w":
            if hidden:
                self.hide(self.chance.choice(hidden))
            return
        depth = self.chance.randrange(1, 4)
        path = "/".join(self.chance.choice(NAMES) for _ in range(depth))
        if path in self.own or not self.parents(path):
            return
        links = sorted(name for name, found in self.own.items() if found in (b"0", b"2"))
        if kind == b"1" and not links:
            return
        target = self.chance.choice(links) if kind == b"1" else "../x" if kind == b"2" else ""
        self.add(path, kind, target)
        self.own[path] = b"0" if kind == b"1" else kind
        if kind == b"5" and self.chance.random() < 0.5:
            self.add(f"{path}/.wh..wh..opq", b"0", "")

    def hide(self, path: str) -> None:
        parent, _, base = path.rpartition("/")
        if self.parents(path):
            self.add(f"{parent}/.wh.{base}".lstrip("/"), b"0", "")
            self.own[path] = None

    def parents(self, path: str) -> bool:
        parts = path.split("/")[:-1]
        for end in range(1, len(parts) + 1):
            name = "/".join(parts[:end])
            if self.own.get(name, b"5") != b"5":
                return False
            if name not in self.own:
                self.add(name, b"5", "")
                self.own[name] = b"5"
        return True

    def add(self, name: str, kind: bytes, target: str) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.mode = kind, target, self.chance.choice(MODES)
        info.uid, info.gid = self.chance.choice([0, 0, 5, 70000]), self.chance.choice([0, 3])
        info.mtime = self.chance.randrange(1, 2**31)
        info.devmajor, info.devminor = self.chance.randrange(1, 200), self.chance.randrange(200)
        # dockerd can load markers with content, but not save such an image again.
        is_file = kind == b"0" and "/.wh." not in f"/{name}"
        data = self.chance.randbytes(self.chance.randrange(300)) if is_file else b""
        info.size = len(data)
        self.tar.addfile(info, io.BytesIO(data))


def random_layers(chance: random.Random) -> list[bytes]:
    layers, below = [], set[str]()
    for _ in range(chance.randrange(1, 4)):
        layer = RandomLayer(chance, below)
        layers.append(layer.build())
        below = (below | layer.own.keys()) - {name for name, found in layer.own.items() if found is None}
    return layers


def save(path: Path, layers: list[bytes]) -> str:
    diff_ids = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    inner = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/x"]}, "history": []}
    config = json.dumps(inner | {"rootfs": {"type": "layers", "diff_ids": diff_ids}}).encode()
    name = hashlib.sha256(config).hexdigest()
    files = {f"{index}/layer.tar": layer for index, layer in enumerate(layers)}
    manifest = [{"Config": f"{name}.json", "RepoTags": None, "Layers": list(files)}]
    files |= {f"{name}.json": config, "manifest.json": json.dumps(manifest).encode()}
    with tarfile.open(path, "w") as archive:
        for member, data in files.items():
            info = tarfile.TarInfo(member)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return name


def ramdisk(entries: Iterator[Entry]) -> bytes:
    out = io.BytesIO()
    write_ramdisk(out, application_entries(entries, cmd=b"/x\n", env=b""), Mode.NITRO_CLI)
    return out.getvalue()


@pytest.mark.parametrize("seed", range(8))
def test_layers_give_the_ramdisk_that_docker_export_gives(seed: int, tmp_path: Path) -> None:
    image = save(tmp_path / "ours.tar", random_layers(random.Random(seed)))
    docker("load", "--input", str(tmp_path / "ours.tar"))
    try:
        container = docker("create", image)
        try:
            docker("export", "--output", str(tmp_path / "export.tar"), container)
        finally:
            docker("rm", container)
        docker("save", "--output", str(tmp_path / "theirs.tar"), image)
    finally:
        docker("rmi", "--force", image)
    with (tmp_path / "export.tar").open("rb") as file:
        expected = ramdisk(read_export(whole_file(file)))
    for name in ("ours.tar", "theirs.tar"):
        with open_archive(tmp_path / name) as archive, flatten(archive.layers) as flattened:
            assert flattened.implied == ImpliedDirectories()
            assert ramdisk(flattened.entries()) == expected
