"""The two ways of writing ramdisks, on file systems made in code."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclavectl.eif.errors import CpioError, EifError, LayerError
from enclavectl.eif.file_range import FileRange, bytes_range
from enclavectl.eif.ramdisk.cpio import CpioEntry, CpioReader
from enclavectl.eif.ramdisk.entries import Entry, Kind
from enclavectl.eif.ramdisk.layers import ImpliedParents, flatten
from enclavectl.eif.ramdisk.ramdisks import (
    EPOCH,
    BootFile,
    Mode,
    application_entries,
    boot_entries,
    init_lines,
    relative_path,
    write_ramdisk,
)
from tests.eif.samples import directory, hardlink, layer, read_export, symlink, tar, text

Read = list[tuple[CpioEntry, bytes]]


def write(entries: list[Entry], mode: Mode) -> bytes:
    out = io.BytesIO()
    size = write_ramdisk(out, application_entries(entries, cmd=b"/bin/x\n", env=b"A=b\n"), mode)
    assert size == out.tell()
    assert size % 512 == 0
    return out.getvalue()


def read(data: bytes) -> Read:
    reader = CpioReader(io.BytesIO(data))
    return [(entry, b"".join(reader.data())) for entry in reader]


def export(*members: object) -> list[Entry]:
    return list(read_export(bytes_range(tar(members))))  # type: ignore[arg-type]  # the parameter takes any list


def flat(*layers: FileRange) -> list[Entry]:
    with flatten(layers, implied=ImpliedParents.KEEP) as image:
        return list(image.entries())


def test_an_empty_image_has_what_linuxkit_and_nitro_cli_add() -> None:
    found = read(write([], Mode.NITRO_CLI))
    assert [entry.name.decode() for entry, _ in found] == [
        "rootfs",
        *[f"rootfs/{name}" for name in ("dev", "dev/pts", "dev/shm", "etc", "etc/hosts", "etc/mtab")],
        *[f"rootfs/{name}" for name in ("etc/resolv.conf", "proc", "sys")],
        "rootfs",
        *[f"rootfs/{name}" for name in ("dev", "run", "sys", "var", "proc", "tmp")],
        "cmd",
        "env",
    ]
    assert [entry.ino for entry, _ in found] == list(range(721, 721 + len(found)))
    assert {entry.mtime for entry, _ in found} == {EPOCH}
    hosts = {entry.name: data for entry, data in found}[b"rootfs/etc/hosts"]
    assert len(hosts) == 160


def test_what_linuxkit_drops_and_normalizes() -> None:
    found = read(
        write(
            export(
                text(".dockerenv"),
                text("Dockerfile", b"lost"),
                directory("app"),
                text("app/Dockerfile", b"kept"),
                directory("etc", mtime=5),
                text("etc/hostname", b"h"),
                text("etc/resolv.conf", b"nameserver", mode=0o600),
            ),
            Mode.NITRO_CLI,
        )
    )
    by_name = {entry.name: (entry, data) for entry, data in found}
    assert not {b"rootfs/Dockerfile", b"rootfs/.dockerenv", b"rootfs/etc/hostname"} & by_name.keys()
    assert by_name[b"rootfs/app/Dockerfile"][1] == b"kept"
    assert by_name[b"rootfs/etc/"][0].mtime == EPOCH
    resolv, target = by_name[b"rootfs/etc/resolv.conf"]
    assert (resolv.mode, target) == (0o120600, b"/run/resolvconf/resolv.conf")


def test_hard_links_become_symbolic_or_stay_hard() -> None:
    entries = export(
        directory("bin"), text("bin/a", b"data"), hardlink("bin/b", "bin/a"), hardlink("c", "bin/a")
    )
    linuxkit = {entry.name: data for entry, data in read(write(entries, Mode.NITRO_CLI))}
    assert (linuxkit[b"rootfs/bin/b"], linuxkit[b"rootfs/c"]) == (b"a", b"bin/a")
    ours = {entry.name: (entry, data) for entry, data in read(write(entries, Mode.REPRODUCIBLE))}
    group = [ours[name] for name in (b"rootfs/bin/a", b"rootfs/bin/b", b"rootfs/c")]
    assert len({entry.ino for entry, _ in group}) == 1
    assert [entry.nlink for entry, _ in group] == [3, 3, 3]
    assert [data for _, data in group] == [b"", b"", b"data"]


def test_reproducible_has_each_path_once_sorted_with_one_time() -> None:
    found = read(write(flat(layer(directory("b"), text("b-x"), text("b/y", mtime=5))), Mode.REPRODUCIBLE))
    names = [entry.name for entry, _ in found]
    assert names == sorted(set(names), key=lambda name: name.split(b"/"))
    assert {entry.mtime for entry, _ in found} == {EPOCH}
    assert [entry.ino for entry, _ in found] == list(range(1, len(found) + 1))


def test_times_order_and_layering_do_not_change_a_reproducible_ramdisk() -> None:
    one = layer(directory("a", mtime=1), text("a/x", b"1", mtime=2), symlink("l", "a"), hardlink("h", "a/x"))
    other = [
        layer(symlink("l", "a", mtime=9), directory("a", mtime=8), text("a/x", b"0"), text("gone")),
        layer(text("h", b"1", mtime=7), hardlink("a/x", "h", mtime=6), text(".wh.gone")),
    ]
    assert write(flat(one), Mode.REPRODUCIBLE) == write(flat(*other), Mode.REPRODUCIBLE)
    assert write(flat(one), Mode.NITRO_CLI) != write(flat(*other), Mode.NITRO_CLI)


def test_what_a_reproducible_ramdisk_refuses() -> None:
    cases = {
        "ramdisk-duplicate": export(text("a"), text("./a")),
        "ramdisk-hardlink": export(text("etc/hostname"), hardlink("h", "etc/hostname")),
    }
    for code, entries in cases.items():
        with pytest.raises(LayerError) as caught:
            write(entries, Mode.REPRODUCIBLE)
        assert caught.value.code == code


@pytest.mark.parametrize("mode", Mode)
def test_what_no_ramdisk_can_hold(mode: Mode) -> None:
    huge = Entry(
        name=b"x", kind=Kind.FILE, perm=0o644, data=FileRange(file=io.BytesIO(), offset=0, size=1 << 32)
    )
    with pytest.raises(CpioError) as caught:
        write([huge], mode)
    assert caught.value.code == "cpio-range"
    with pytest.raises(LayerError) as refused:
        write(export(directory("etc"), directory("etc/hosts")), mode)
    assert refused.value.code == "ramdisk-hosts"


def test_the_boot_ramdisk_depends_on_its_files_alone() -> None:
    files = [BootFile(name="init", data=bytes_range(b"I")), BootFile(name="nsm.ko", data=bytes_range(b"N"))]
    outs = []
    for mode in Mode:
        out = io.BytesIO()
        write_ramdisk(out, boot_entries(files), mode)
        outs.append(out.getvalue())
        assert [entry.name for entry, _ in read(out.getvalue())] == [b"dev", b"init", b"nsm.ko"]
    assert outs[0] != outs[1]


def test_init_files_have_one_word_per_line() -> None:
    assert init_lines(["/bin/a", "x y", "é"]) == "/bin/a\nx y\né\n".encode()
    assert init_lines([]) == b""
    for word in ("a\nb", "a\0"):
        with pytest.raises(EifError) as caught:
            init_lines([word])
        assert caught.value.code == "init-line"


parts = st.lists(st.sampled_from([b"a", b"b", b"c"]), min_size=1, max_size=4)


@given(parts, parts)
def test_relative_paths_lead_from_the_link_to_the_target(target: list[bytes], link: list[bytes]) -> None:
    place = link[:-1]
    for step in relative_path(b"/".join(target), b"/".join(link)).split(b"/"):
        place = place[:-1] if step == b".." else [*place, step]
    assert place == target
