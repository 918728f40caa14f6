"""Which image is taken of an archive that holds several, and how platforms are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from enclavectl.eif.errors import EifError
from enclavectl.eif.format import Arch
from enclavectl.eif.ramdisk.archive import open_archive
from enclavectl.eif.ramdisk.platform import parse_platform
from enclavectl.errors import UsageError
from tests.eif.ramdisk.layouts import INDEX, LAYERS, MANIFEST, Layout, config, legacy, refused, sha


def test_the_architecture_chooses_in_an_index(tmp_path: Path) -> None:
    layout = Layout()
    attestation = layout.blob(b"{}", MANIFEST, platform={"os": "unknown", "architecture": "unknown"})
    elsewhere = {"mediaType": MANIFEST, "digest": f"sha256:{'0' * 64}"}
    images = [layout.image(LAYERS, config(LAYERS, arch)) for arch in ("amd64", "arm64")]
    nested = layout.blob(json.dumps({"manifests": [*images, attestation, elsewhere]}).encode(), INDEX)
    path = layout.write(tmp_path, nested, nested)
    with open_archive(path, preferred=Arch.ARM64) as archive:
        assert archive.config.architecture == "arm64"
    assert refused(path) == "image-choice"


def plat(architecture: str, variant: str = "", system: str = "linux") -> dict[str, object]:
    words = {"os": system, "architecture": architecture, "variant": variant}
    return {"platform": {key: word for key, word in words.items() if word}}


def several(kind: str) -> Layout:
    """An index with one image of two layers, which amd64 takes, and something beside it."""
    layout = Layout()
    image = {**layout.image(LAYERS, config(LAYERS)), **plat("amd64")}
    files = dict(layout.files)
    other = {**layout.image(LAYERS[:1], config(LAYERS[:1], "arm64")), **plat("arm64", "v8")}
    manifest = {
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", **layout.blob(b"{}")},
        "layers": [],
    }
    artifact = json.dumps({"artifactType": "application/x", **manifest}).encode()
    beside: dict[str, dict[str, object]] = {
        "both-here": other,
        "other-manifest-only": other,
        "other-without-layers": other,
        "damaged-other": other,
        "windows": {**other, **plat("amd64", system="windows")},
        "variant": {**other, **plat("amd64", "v3")},
        "attestation-platform": {**other, **plat("unknown", system="unknown")},
        "attestation-annotation": {
            **other,
            "platform": None,
            "annotations": {"vnd.docker.reference.type": "attestation-manifest"},
        },
        "artifact-descriptor": layout.blob(artifact, MANIFEST, artifactType="application/x"),
        "artifact-manifest": layout.blob(artifact, MANIFEST),
    }
    name = f"blobs/{str(other['digest']).replace(':', '/')}"
    if kind == "other-manifest-only":
        layout.files = {**files, name: layout.files[name]}
    if kind == "other-without-layers":
        layout.files.pop(f"blobs/sha256/{sha(config(LAYERS[:1], 'arm64'))}")
    if kind == "damaged-other":
        layout.files[name] = b"junk"
    if kind in ("variant", "windows"):
        other["platform"] = beside[kind]["platform"]
    index = {"manifests": [beside[kind], image]}
    layout.files["index"] = json.dumps(index).encode()
    return layout


@pytest.mark.parametrize(
    "kind",
    [
        "both-here",
        "other-manifest-only",
        "other-without-layers",
        "damaged-other",
        "windows",
        "variant",
        "attestation-platform",
        "attestation-annotation",
        "artifact-descriptor",
        "artifact-manifest",
    ],
)
def test_of_several_platforms_the_kernels_is_taken(kind: str, tmp_path: Path) -> None:
    layout = several(kind)
    nested = layout.blob(layout.files.pop("index"), INDEX)
    with open_archive(layout.write(tmp_path, nested), preferred=Arch.X86_64) as archive:
        assert archive.config.architecture == "amd64"
        assert len(archive.layers) == 2


def test_a_platform_that_was_named_must_be_there(tmp_path: Path) -> None:
    layout = several("both-here")
    path = layout.write(tmp_path, layout.blob(layout.files.pop("index"), INDEX))
    with open_archive(path, platform=parse_platform("linux/arm64/v8"), preferred=Arch.X86_64) as archive:
        assert archive.config.architecture == "arm64"
    assert refused(path) == "image-choice"
    assert refused(path, platform="linux/arm64/v9") == "image-choice"
    single = Layout()
    one = single.write(tmp_path, single.image(LAYERS, config(LAYERS)))
    assert refused(one, platform="arm64") == "image-choice"
    assert refused(legacy(tmp_path, LAYERS, config(LAYERS)), platform="arm64") == "image-choice"


def test_a_variant_is_taken_if_it_is_named(tmp_path: Path) -> None:
    layout = several("variant")
    path = layout.write(tmp_path, layout.blob(layout.files.pop("index"), INDEX))
    named = open_archive(path, platform=parse_platform("linux/amd64/v3"))
    with pytest.raises(EifError, match="expected an image for linux/amd64/v3, found one for arm64"), named:
        pass


@pytest.mark.parametrize(
    ("said", "name"), [("x86_64", "amd64"), ("AArch64", "arm64"), ("riscv64", "riscv64")]
)
def test_architectures_have_dockers_names(said: str, name: str, tmp_path: Path) -> None:
    layout = Layout()
    with open_archive(layout.write(tmp_path, layout.image(LAYERS, config(LAYERS, said)))) as archive:
        assert archive.config.architecture == name


@pytest.mark.parametrize(
    ("text", "platform"),
    [("linux/arm64/v8", "linux/arm64"), ("aarch64", "linux/arm64"), ("linux/amd64/v3", "linux/amd64/v3")],
)
def test_platforms_are_read_as_docker_reads_them(text: str, platform: str) -> None:
    assert str(parse_platform(text)) == platform


@pytest.mark.parametrize(
    "text", ["", "linux", "linux/", "windows/amd64", "linux/riscv64", "linux/arm64/v8/x"]
)
def test_what_is_no_platform_of_enclaves_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected linux/amd64 or linux/arm64"):
        parse_platform(text)
