"""Image archives as docker and other tools write them, made piece by piece."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from enclavectl.eif.errors import EifError
from enclavectl.eif.format import Arch
from enclavectl.eif.ramdisk.application import write_application
from enclavectl.eif.ramdisk.archive import open_archive
from enclavectl.eif.ramdisk.platform import parse_platform
from enclavectl.eif.ramdisk.ramdisks import Mode
from tests.eif.samples import directory, symlink, tar, text

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
LAYERS = [
    tar([directory("app"), text("app/a", b"1"), text("gone", b"x" * 2000)]),
    tar([directory("app"), text("app/b", b"2"), text(".wh.gone")]),
]


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def config(layers: list[bytes], arch: str = "amd64", **extra: object) -> bytes:
    inner: dict[str, object] = {"Cmd": ["/app/a"], "Env": ["A=b"], **extra}
    diff_ids = [f"sha256:{sha(data)}" for data in layers]
    return json.dumps(
        {"architecture": arch, "config": inner, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    ).encode()


class Layout:
    """An OCI layout under construction."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}

    def blob(self, data: bytes, media_type: str = "x", **extra: object) -> dict[str, object]:
        self.files[f"blobs/sha256/{sha(data)}"] = data
        return {"mediaType": media_type, "digest": f"sha256:{sha(data)}", "size": len(data), **extra}

    def image(self, layers: list[bytes], conf: bytes, stored: list[bytes] | None = None) -> dict[str, object]:
        manifest = {
            "schemaVersion": 2,
            "config": self.blob(conf),
            "layers": [self.blob(data) for data in stored or layers],
        }
        return self.blob(json.dumps(manifest).encode(), MANIFEST)

    def write(self, folder: Path, *manifests: dict[str, object]) -> Path:
        self.files["index.json"] = json.dumps({"manifests": manifests}).encode()
        return save(folder, self.files)


def save(folder: Path, files: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    path = folder / "image.tar"
    members: list[tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]] = [
        text(name, data) for name, data in files.items()
    ]
    members += [symlink(name, target) for name, target in (links or {}).items()]
    path.write_bytes(tar(members))
    return path


def legacy(folder: Path, layers: list[bytes], conf: bytes, **changes: object) -> Path:
    names = [f"{index}/layer.tar" for index in range(len(layers))]
    entry = {"Config": f"{sha(conf)}.json", "RepoTags": None, "Layers": names, **changes}
    files = dict(zip(names, layers, strict=True)) | {f"{sha(conf)}.json": conf}
    return save(folder, {"manifest.json": json.dumps([entry]).encode(), **files})


def ramdisk(path: Path, mode: Mode = Mode.REPRODUCIBLE) -> bytes:
    out = io.BytesIO()
    with open_archive(path) as archive:
        write_application(out, archive, mode)
    return out.getvalue()


def refused(path: Path, platform: str | None = None, preferred: Arch | None = None) -> str:
    chosen = None if platform is None else parse_platform(platform)
    with (
        pytest.raises(EifError) as caught,
        open_archive(path, platform=chosen, preferred=preferred),
    ):
        pass
    return caught.value.code
