"""The peak memory of the native build, by the number of files: ``python -m benchmarks.image_paths [N ...]``.

Each image is made here, with N small files in one layer and, in a second run, half as many with a hard link
each; no Docker engine is needed. The interpreter and what it imports are part of the peak. A million paths,
about our limit, take some 3 GiB of disk and several minutes.
"""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from benchmarks.common import machine

LIMIT_MIB = 128
_DEFAULT = (1_000, 100_000, 1_000_000)
# All of a build that comes after Docker, lint and all.
_BUILD = """
import re, sys
from pathlib import Path
from enclavectl.eif.ramdisk.application import write_application
from enclavectl.eif.ramdisk.archive import open_archive
from enclavectl.eif.file_range import bytes_range, whole_file
from enclavectl.eif.build import ImageSpec, build_image
from enclavectl.eif.format import Arch
from enclavectl.eif.metadata import Metadata
from enclavectl.eif.ramdisk.ramdisks import Mode, boot_entries, write_ramdisk
from enclavectl.image.lint import lint_config, lint_layers, lint_ramdisk
from enclavectl.image.scratch import scratch_file
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
archive_path, output, mode = Path(sys.argv[1]), Path(sys.argv[2]), Mode(sys.argv[3])
metadata = Metadata(image_name="b", image_version="1", build_time="2024-01-01T00:00:00+00:00", build_tool="b",
                    build_tool_version="0", operating_system="Linux", kernel_version="0")
folder = output.parent
with open_archive(archive_path) as archive, scratch_file(folder) as boot, scratch_file(folder) as app:
    findings = [*lint_config(archive.config), *lint_layers(archive, mode)]
    write_ramdisk(boot, boot_entries(()), mode)
    write_application(app, archive, mode)
    ramdisks = (whole_file(boot), whole_file(app))
    findings += [one for ramdisk in ramdisks for one in lint_ramdisk(ramdisk, "ramdisk")]
    build_image(ImageSpec(kernel=bytes_range(b"kernel" * 1000), cmdline="quiet", ramdisks=ramdisks,
                          metadata=metadata, arch=Arch.X86_64), output)
print(peak())
"""


def main() -> None:
    counts = [int(text) for text in sys.argv[1:]] or _DEFAULT
    print(machine())
    for count in counts:
        for linked in (False, True):
            with tempfile.TemporaryDirectory(prefix="enclavectl-bench-") as name:
                archive = Path(name) / "image.tar"
                paths = _make_archive(archive, count, linked=linked)
                for mode in ("reproducible", "nitro-cli"):
                    started = time.perf_counter()
                    peak = _peak_mib(archive, mode)
                    seconds = time.perf_counter() - started
                    verdict = "ok" if peak <= LIMIT_MIB else "MISSED"
                    print(
                        f"{paths:>9,} paths{', half of them hard links' if linked else '':<26}{mode:>13}: "
                        f"{peak} MiB (limit {LIMIT_MIB}, {verdict}), {seconds:.1f} s"
                    )


def _peak_mib(archive: Path, mode: str) -> int:
    argv = [sys.executable, "-c", _BUILD, str(archive), str(archive.with_name("bench.eif")), mode]
    return int(subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout) >> 10


def _make_archive(path: Path, count: int, *, linked: bool) -> int:
    """Write an archive like ``docker save``, with ``count`` paths in all, directories included."""
    with tempfile.TemporaryFile() as layer:
        folders = count // 100
        files = (count - folders) // (2 if linked else 1)
        names = [f"usr/lib/package-{index % folders}/module-{index}.py" for index in range(files)]
        for index in range(folders):
            layer.write(_header(f"usr/lib/package-{index}", tarfile.DIRTYPE))
        for name in names:
            layer.write(_header(name, tarfile.REGTYPE, size=len(name)) + name.encode().ljust(512, b"\0"))
        for name in names if linked else ():
            layer.write(_header(f"{name}c", tarfile.LNKTYPE, target=name))
        layer.write(bytes(1024))
        size = layer.tell()
        layer.seek(0)
        diff_id = hashlib.file_digest(layer, "sha256").hexdigest()
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["/bin/true"], "Env": []},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]},
        }
        manifest = [{"Config": "config.json", "RepoTags": [], "Layers": ["layer.tar"]}]
        with tarfile.open(path, "w") as archive:
            for name, value in (("config.json", config), ("manifest.json", manifest)):
                data = json.dumps(value).encode()
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
            info = tarfile.TarInfo("layer.tar")
            info.size = size
            layer.seek(0)
            archive.addfile(info, layer)
    return folders + files * (2 if linked else 1)


def _header(name: str, kind: bytes, *, size: int = 0, target: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, target
    return info.tobuf(tarfile.USTAR_FORMAT)


if __name__ == "__main__":
    main()
