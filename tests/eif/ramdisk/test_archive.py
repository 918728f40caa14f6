"""Image archives: docker save in both dialects, OCI layouts, and what is refused."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from enclavectl.eif.errors import EifError
from enclavectl.eif.format import Arch
from enclavectl.eif.ramdisk.archive import open_archive
from enclavectl.eif.ramdisk.cpio import CpioReader
from enclavectl.errors import StateError
from tests.eif.ramdisk.layouts import INDEX, LAYERS, Layout, config, legacy, ramdisk, refused, save
from tests.eif.samples import pack_zstd, skippable, tar, text
from tests.eif.vectors import real_archive


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
