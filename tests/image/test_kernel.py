"""``kernel prepare`` on a kernel tree made in code, and the init that it compiles."""

from __future__ import annotations

import gzip
import lzma
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from enclavectl.artifacts.boot_files import BlobPaths, open_blobs
from enclavectl.eif.format import Arch
from enclavectl.errors import HostError, StateError, UsageError
from enclavectl.image.kernel import (
    CMDLINE,
    KernelSource,
    build_init,
    find_compiler,
    find_kernel,
    load_modules,
    prepare_kernel,
)
from tests.cli.command import enclavectl
from tests.eif import samples

RELEASE = "6.12.9-cloud-amd64"
# Module and what its .modinfo says that it depends on.
DEPENDENCIES = {
    "net/vmw_vsock/vsock": "",
    "net/vmw_vsock/vmw_vsock_virtio_transport_common": "vsock",
    "net/vmw_vsock/vmw_vsock_virtio_transport": "vmw_vsock_virtio_transport_common,vsock,virtio",
    "drivers/misc/nsm": "rng-core",
    "drivers/char/hw_random/rng-core": "",
    "drivers/virtio/virtio_mmio": "virtio",
}


def module(depends: str) -> bytes:
    return b"\x7fELF\0license=GPL\0depends=" + depends.encode() + b"\0name=x\0"


def kernel_tree(
    root: Path, *, release: str = RELEASE, dependencies: Mapping[str, str] = DEPENDENCIES
) -> KernelSource:
    (root / "boot").mkdir(exist_ok=True)
    (root / "boot" / f"vmlinuz-{release}").write_bytes(samples.bzimage())
    modules = root / "lib" / "modules" / release
    modules.mkdir(parents=True)
    (modules / "modules.builtin").write_text("kernel/drivers/virtio/virtio.ko\n")
    for name, depends in dependencies.items():
        path = modules / "kernel" / f"{name}.ko.xz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(lzma.compress(module(depends)))
    return KernelSource(root=root, release=release)


@pytest.fixture(scope="module")
def cc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compiler that links static programs."""
    try:
        found = find_compiler(os.environ.get("PATH"))
        build_init(tmp_path_factory.mktemp("init") / "init", compiler=found)
    except HostError as exc:
        pytest.skip(f"no C compiler that links static programs: {exc.message}")
    return found


def test_modules_come_in_an_order_in_which_they_load(tmp_path: Path) -> None:
    assert list(load_modules(kernel_tree(tmp_path))) == [
        "virtio_mmio",
        "vsock",
        "vmw_vsock_virtio_transport_common",
        "vmw_vsock_virtio_transport",
        "rng_core",
        "nsm",
    ]


def test_what_is_built_in_is_left_out(tmp_path: Path) -> None:
    source = kernel_tree(tmp_path)
    (source.module_folder / "modules.builtin").write_text(
        "kernel/drivers/virtio/virtio_mmio.ko\nkernel/drivers/virtio/virtio.ko\n"
    )
    assert "virtio_mmio" not in load_modules(source)


def test_a_kernel_without_the_nsm_driver_is_refused(tmp_path: Path) -> None:
    old = {name: depends for name, depends in DEPENDENCIES.items() if "nsm" not in name}
    with pytest.raises(HostError, match="no module nsm") as caught:
        load_modules(kernel_tree(tmp_path, dependencies=old))
    assert "6.8" in str(caught.value.hint)


def test_modules_that_need_each_other_end(tmp_path: Path) -> None:
    source = kernel_tree(tmp_path, dependencies={"a": "b", "b": "a"})
    with pytest.raises(HostError, match="no module a, which b needs"):
        load_modules(KernelSource(root=tmp_path, release=source.release, modules=("a",)))


def test_a_prepared_set_is_one_that_build_takes(tmp_path: Path, cc: Path) -> None:
    folder = tmp_path / "set"
    tree = tmp_path / "tree"
    tree.mkdir()
    prepare_kernel(kernel_tree(tree), folder, compiler=cc)
    with open_blobs(BlobPaths(folder=folder), Arch.X86_64, environ={}) as blobs:
        assert [file.name for file in blobs.files][:3] == ["init", "01-virtio_mmio.ko", "02-vsock.ko"]
        assert b"".join(blobs.files[1].data.chunks()) == module("virtio")
        assert blobs.cmdline == CMDLINE
    with pytest.raises(StateError):
        prepare_kernel(KernelSource(root=tree, release=RELEASE), folder, compiler=cc)


def test_the_init_is_static_and_the_same_each_time(tmp_path: Path, cc: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        build_init(tmp_path / name / "init", compiler=cc)
    data = (tmp_path / "first" / "init").read_bytes()
    assert data == (tmp_path / "second" / "init").read_bytes()
    assert data.startswith(b"\x7fELF")
    assert b"/ld-linux" not in data


def test_the_init_does_nothing_where_it_is_not_the_first_process(tmp_path: Path, cc: Path) -> None:
    """As root it would mount file systems on this machine, and reboot it."""
    build_init(tmp_path / "init", compiler=cc)
    done = subprocess.run([tmp_path / "init"], capture_output=True, timeout=20, check=False)
    assert done.returncode == 1
    assert b"first process of an enclave" in done.stderr


def test_a_failed_compilation_leaves_nothing(tmp_path: Path) -> None:
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\necho no static libc >&2\nexit 1\n")
    broken.chmod(0o755)
    tree = tmp_path / "tree"
    tree.mkdir()
    with pytest.raises(HostError, match="no static libc"):
        prepare_kernel(kernel_tree(tree), tmp_path / "set", compiler=broken)
    assert {path.name for path in tmp_path.iterdir()} == {"cc", "tree"}


def test_which_kernel(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="found none"):
        find_kernel(tmp_path, None)
    kernel_tree(tmp_path)
    assert find_kernel(tmp_path, None).release == RELEASE
    kernel_tree(tmp_path, release="6.13.0")
    with pytest.raises(StateError, match=r"6\.12.*6\.13"):
        find_kernel(tmp_path, None)
    assert find_kernel(tmp_path, "6.13.0").release == "6.13.0"
    with pytest.raises(UsageError):
        find_kernel(tmp_path, "../6.13.0")


def test_an_arm64_kernel_is_unpacked(tmp_path: Path, cc: Path) -> None:
    source = kernel_tree(tmp_path)
    image = bytearray(4096)
    image[56:60] = b"ARM\x64"
    source.image.write_bytes(gzip.compress(bytes(image)))
    folder = tmp_path / "set"
    prepare_kernel(source, folder, compiler=cc)
    assert (folder / "Image").read_bytes() == bytes(image)


@pytest.mark.parametrize("data", [b"", b"MZ" + bytes(100), b"\x1f\x8b damaged"])
def test_what_is_no_kernel_is_refused(tmp_path: Path, data: bytes) -> None:
    source = kernel_tree(tmp_path)
    source.image.write_bytes(data)
    with pytest.raises(UsageError):
        prepare_kernel(source, tmp_path / "set", compiler=Path("/bin/false"))


def test_the_command(tmp_path: Path, cc: Path) -> None:
    assert cc
    kernel_tree(tmp_path)
    to = tmp_path / "set"
    done = enclavectl("kernel", "prepare", "--root", tmp_path, "--to", to, "--output", "json", home=tmp_path)
    assert done.status == 0, done.err
    assert done.json()["release"] == RELEASE
    assert (to / "bzImage").is_file()
    again = enclavectl("kernel", "prepare", "--root", tmp_path, "--to", to, "--output", "json", home=tmp_path)
    assert again.status == 6
