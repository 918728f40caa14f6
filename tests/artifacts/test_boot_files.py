"""Which kernel, init and modules a build takes."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from enclavectl.artifacts.boot_files import BlobPaths, likely_arch, open_blobs, require_blobs
from enclavectl.eif.format import Arch
from enclavectl.errors import HostError, UsageError
from tests.eif import samples


def nitro_folder(folder: Path) -> Path:
    (folder / "bzImage").write_bytes(samples.bzimage())
    (folder / "bzImage.config").write_text("#\n#\n# Linux/x86_64 4.14.256-209.484.amzn2 Kernel\n")
    (folder / "init").write_bytes(b"init")
    (folder / "nsm.ko").write_bytes(b"nsm")
    (folder / "cmdline").write_text("reboot=k panic=30\n")
    return folder


def test_an_empty_command_line_is_not_taken_for_none(tmp_path: Path) -> None:
    """No image may have it, and the builder says so."""
    paths = BlobPaths(folder=nitro_folder(tmp_path), cmdline="")
    with open_blobs(paths, Arch.X86_64, environ={}) as blobs:
        assert blobs.cmdline == ""


def test_nitro_clis_folder(tmp_path: Path) -> None:
    paths = BlobPaths(folder=nitro_folder(tmp_path))
    require_blobs(paths, {})
    with open_blobs(paths, Arch.X86_64, environ={}) as blobs:
        assert [file.name for file in blobs.files] == ["init", "nsm.ko"]
        assert blobs.cmdline == "reboot=k panic=30"
        assert blobs.kernel_arch is Arch.X86_64
        assert blobs.kernel_system == ("Linux", "4.14.256")
        assert set(blobs.hashes) == {"kernel", "init", "nsm.ko"}


def test_the_kernel_says_for_which_architecture_an_image_will_be(tmp_path: Path) -> None:
    assert likely_arch(BlobPaths(folder=nitro_folder(tmp_path)), {}) is Arch.X86_64
    arm = tmp_path / "arm"
    arm.mkdir()
    (arm / "Image").write_bytes(bytes(56) + b"ARM\x64" + bytes(600))
    assert likely_arch(BlobPaths(folder=arm), {}) is Arch.ARM64
    assert likely_arch(BlobPaths(folder=tmp_path, kernel=arm / "Image"), {}) is Arch.ARM64


def test_the_environment_names_the_folder_as_it_does_for_nitro_cli(tmp_path: Path) -> None:
    environ = {"NITRO_CLI_BLOBS": str(nitro_folder(tmp_path))}
    with open_blobs(BlobPaths(), Arch.X86_64, environ=environ) as blobs:
        assert blobs.kernel_path == tmp_path / "bzImage"


def test_numbered_modules_are_taken_in_order(tmp_path: Path) -> None:
    folder = nitro_folder(tmp_path)
    (folder / "nsm.ko").unlink()
    (folder / "modules").mkdir()
    for name in ("02-vsock.ko", "10-nsm.ko", "01-virtio_mmio.ko"):
        (folder / "modules" / name).write_bytes(name.encode())
    with open_blobs(BlobPaths(folder=folder), Arch.X86_64, environ={}) as blobs:
        names = [file.name for file in blobs.files]
    assert names == ["init", "01-virtio_mmio.ko", "02-vsock.ko", "10-nsm.ko"]


def test_single_files_need_no_folder_and_have_nitro_clis_command_line(tmp_path: Path) -> None:
    nitro_folder(tmp_path)
    paths = BlobPaths(kernel=tmp_path / "bzImage", init=tmp_path / "init", nsm_module=tmp_path / "nsm.ko")
    require_blobs(paths, {})
    with open_blobs(paths, Arch.X86_64, environ={}) as blobs:
        assert "nomodules" in blobs.cmdline


def test_the_version_of_a_kernel_without_its_config(tmp_path: Path) -> None:
    kernel = bytearray(samples.bzimage())
    struct.pack_into("<H", kernel, 0x20E, 0x100)
    kernel[0x300:0x320] = b"6.12.9-cloud (debian)".ljust(32, b"\0")
    nitro_folder(tmp_path)
    (tmp_path / "bzImage.config").unlink()
    (tmp_path / "bzImage").write_bytes(kernel)
    with open_blobs(BlobPaths(folder=tmp_path), Arch.X86_64, environ={}) as blobs:
        assert blobs.kernel_system == ("Linux", "6.12.9-cloud")


def test_what_is_missing_is_said_before_anything_is_built(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="bzImage") as caught:
        require_blobs(BlobPaths(), {"NITRO_CLI_BLOBS": str(tmp_path)})
    assert "kernel prepare" in str(caught.value.hint)
    (tmp_path / "bzImage").write_bytes(b"")
    with pytest.raises(HostError, match="init"):
        require_blobs(BlobPaths(folder=tmp_path), {})
    with (
        pytest.raises(UsageError),
        open_blobs(BlobPaths(kernel=tmp_path / "none", init=tmp_path / "none"), Arch.X86_64, environ={}),
    ):
        pass
