"""Image archives: docker save in both dialects, OCI layouts, and what is refused."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from enclavectl.eif.errors import EifError
from enclavectl.eif.format import Arch
from enclavectl.eif.ramdisk.application import write_application
from enclavectl.eif.ramdisk.archive import open_archive
from enclavectl.eif.ramdisk.cpio import CpioReader
from enclavectl.eif.ramdisk.platform import parse_platform
from enclavectl.eif.ramdisk.ramdisks import Mode
from enclavectl.errors import StateError, UsageError
from tests.eif.samples import directory, pack_zstd, skippable, symlink, tar, text
from tests.eif.vectors import real_archive

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


def test_every_dialect_gives_the_same_ramdisk(tmp_path: Path) -> None:
    conf = config(LAYERS)
    layout = Layout()
    oci = ramdisk(layout.write(tmp_path, layout.image(LAYERS, conf)))
    packed = Layout()
    two_members = gzip.compress(LAYERS[1][:700]) + gzip.compress(LAYERS[1][700:])
    stored = [gzip.compress(LAYERS[0]), two_members]
    zipped = ramdisk(packed.write(tmp_path, packed.image(LAYERS, conf, stored)))
    plain = ramdisk(legacy(tmp_path, LAYERS, conf))
    assert oci == zipped == plain
    reader = CpioReader(io.BytesIO(plain))
    found = {entry.name: b"".join(reader.data()) for entry in reader}
    assert (found[b"rootfs/app/a"], found[b"rootfs/app/b"]) == (b"1", b"2")
    assert b"rootfs/gone" not in found
    assert (found[b"cmd"], found[b"env"]) == (b"/app/a\n", b"A=b\n")


def test_older_docker_wrote_links_for_repeated_layers(tmp_path: Path) -> None:
    conf = config([LAYERS[0], LAYERS[0]])
    names = ["aa/layer.tar", "bb/layer.tar"]
    entry = {"Config": "c.json", "Layers": names}
    files = {"manifest.json": json.dumps([entry]).encode(), "c.json": conf, names[0]: LAYERS[0]}
    with open_archive(save(tmp_path, files, {names[1]: "../aa/layer.tar"})) as archive:
        assert [layer.size for layer in archive.layers] == [len(LAYERS[0])] * 2


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


def test_the_command_is_the_one_that_nitro_cli_takes(tmp_path: Path) -> None:
    cases: list[tuple[dict[str, object], tuple[str, ...]]] = [
        ({"Entrypoint": ["/e"], "Cmd": ["/c"]}, ("/c",)),
        ({"Entrypoint": ["/e"], "Cmd": None}, ("/e",)),
        ({"Entrypoint": ["/e"], "Cmd": []}, ()),
    ]
    for extra, expected in cases:
        with open_archive(legacy(tmp_path, LAYERS, config(LAYERS, "amd64", **extra))) as archive:
            assert archive.config.command() == expected
    conf = config(LAYERS, Cmd=None, User="nobody", WorkingDir="/app")
    with open_archive(legacy(tmp_path, LAYERS, conf)) as archive:
        assert archive.config.ignored == ("User", "WorkingDir")
        with pytest.raises(EifError) as caught:
            archive.config.command()
    assert caught.value.code == "image-command"


def test_layers_and_blobs_must_hash_to_what_they_are_called(tmp_path: Path) -> None:
    assert refused(legacy(tmp_path, LAYERS, config(LAYERS[::-1]))) == "layer-digest"
    assert refused(legacy(tmp_path, LAYERS, config(LAYERS[:1]))) == "image-layers"
    assert refused(legacy(tmp_path, LAYERS, config(LAYERS), Config=f"{'0' * 64}.json")) == "image-format"
    layout = Layout()
    image = layout.image(LAYERS, config(LAYERS))
    name = next(name for name in layout.files if layout.files[name] == config(LAYERS))
    layout.files[name] += b" "
    assert refused(layout.write(tmp_path, image)) == "image-digest"


def test_damaged_and_unknown_compression(tmp_path: Path) -> None:
    packed = gzip.compress(LAYERS[0])
    zstd = pack_zstd(LAYERS[0])
    damaged = zstd[:-1] + bytes([zstd[-1] ^ 1])
    for stored in (
        packed[:-1],
        packed[:30],
        packed + b"junk",
        zstd[:-1],
        damaged,
        zstd + b"junk",
    ):
        layout = Layout()
        path = layout.write(tmp_path, layout.image(LAYERS[:1], config(LAYERS[:1]), [stored]))
        assert refused(path) == "layer-compression"


def test_a_real_image_of_ko_is_taken(tmp_path: Path) -> None:
    """Its layers have names such as /ko-app/hello and /var/run/ko/..., below no listed folder."""
    reader = CpioReader(io.BytesIO(ramdisk(real_archive("ko.tar"))))
    found = {entry.name: entry for entry in reader}
    assert found[b"rootfs/ko-app/hello"].kind == "file"
    assert b"rootfs/var/run/ko" in found


def test_an_image_may_name_its_architecture_as_the_kernel_does(tmp_path: Path) -> None:
    layout = Layout()
    images = [layout.image(LAYERS, config(LAYERS, arch)) for arch in ("x86_64", "aarch64")]
    for arch in Arch:
        with open_archive(layout.write(tmp_path, *images), preferred=arch) as archive:
            assert archive.config.architecture == arch.value


@pytest.mark.parametrize(
    "pack",
    [
        gzip.compress,
        bz2.compress,
        lzma.compress,
        pack_zstd,
        lambda data: skippable() + pack_zstd(data),
        lambda data: pack_zstd(data[:700]) + skippable(b"") + pack_zstd(data[700:]),
    ],
    ids=["gzip", "bzip2", "xz", "zstd", "zstd-skippable-first", "zstd-frames"],
)
def test_layers_are_unpacked_whatever_they_are_packed_with(
    pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    layout = Layout()
    image = layout.image(LAYERS, config(LAYERS), [pack(data) for data in LAYERS])
    with open_archive(layout.write(tmp_path, image)) as archive:
        assert [layer.read(1 << 20) for layer in archive.layers] == LAYERS


@pytest.mark.parametrize(
    ("head", "name"),
    [(b"\x04\x22\x4d\x18", "lz4"), (b"\x02\x21\x4c\x18", "lz4"), (b"\x89LZO", "lzo")],
)
def test_a_packing_that_is_not_read_is_named(head: bytes, name: str, tmp_path: Path) -> None:
    layout = Layout()
    image = layout.image(LAYERS[:1], config(LAYERS[:1]), [head + LAYERS[0]])
    with (
        pytest.raises(EifError, match=f"compressed with {name}"),
        open_archive(layout.write(tmp_path, image)),
    ):
        pass


def test_layers_may_be_packed_each_in_its_way(tmp_path: Path) -> None:
    layout = Layout()
    image = layout.image(LAYERS, config(LAYERS), [gzip.compress(LAYERS[0]), pack_zstd(LAYERS[1])])
    with open_archive(layout.write(tmp_path, image)) as archive:
        assert [layer.read(1 << 20) for layer in archive.layers] == LAYERS


def test_a_tar_whose_first_name_looks_packed_is_a_tar(tmp_path: Path) -> None:
    layers = [tar([text("BZh91AY", b"1")])]
    layout = Layout()
    with open_archive(layout.write(tmp_path, layout.image(layers, config(layers)))) as archive:
        assert archive.layers[0].read(1 << 20) == layers[0]


@pytest.mark.parametrize(("depth", "is_taken"), [(7, True), (8, False), (3000, False)])
def test_indexes_within_each_other_end(depth: int, is_taken: bool, tmp_path: Path) -> None:
    layout = Layout()
    inner = layout.image(LAYERS, config(LAYERS))
    for _ in range(depth):
        inner = layout.blob(json.dumps({"manifests": [inner]}).encode(), INDEX)
    path = layout.write(tmp_path, inner)
    if is_taken:
        with open_archive(path) as archive:
            assert len(archive.layers) == len(LAYERS)
    else:
        assert refused(path) == "image-format"


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({"x": b""}, "image-format"),
        ({"manifest.json": b"{}"}, "image-format"),
        ({"manifest.json": b"[1]"}, "image-format"),
        ({"manifest.json": b"[]"}, "image-choice"),
        ({"manifest.json": b"[{},{}]"}, "image-choice"),
        ({"manifest.json": b'[{"Config":"c","Layers":[1]}]'}, "image-format"),
        ({"manifest.json": b"\xff"}, "image-json"),
        ({"index.json": b'{"manifests":[{"digest":"md5:0"}]}'}, "image-format"),
        ({"index.json": b'{"manifests":[],"manifests":[]}'}, "image-duplicate-key"),
    ],
)
def test_archives_that_are_no_image(files: dict[str, bytes], code: str, tmp_path: Path) -> None:
    assert refused(save(tmp_path, files)) == code


@pytest.mark.slow
def test_an_archive_of_any_number_of_files_is_not_held(tmp_path: Path) -> None:
    (tmp_path / "image.tar").write_bytes(tar(text(f"{number}") for number in range((1 << 14) + 1)))
    with pytest.raises(EifError) as caught, open_archive(tmp_path / "image.tar"):
        pass
    assert caught.value.code == "image-format"
    assert "not an image archive" in caught.value.reason


def test_an_absent_archive(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="cannot read"), open_archive(tmp_path / "absent"):
        pass
