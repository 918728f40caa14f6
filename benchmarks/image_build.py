"""From a Docker image to an enclave image against ``docker save | tar x``, in time and memory; and sizes.

``python -m benchmarks.image_build IMAGE``: needs a Docker engine that has the image. Each run is a process
of its own; runs alternate. ``tar x`` writes each file, we write one archive and measure it.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from benchmarks.common import machine
from enclavectl.eif.ramdisk.archive import open_archive
from enclavectl.eif.ramdisk.layers import flatten

ROUNDS = 3
LIMIT_MIB = 128
_SAVE = """
import sys
from enclavectl.image.engine import connect
with connect() as engine:
    engine.save(sys.argv[1], sys.stdout.buffer)
"""
_OURS = """
import re, sys
from pathlib import Path
from enclavectl.eif.ramdisk.application import write_application
from enclavectl.eif.ramdisk.archive import open_archive
from enclavectl.eif.file_range import bytes_range, whole_file
from enclavectl.eif.build import ImageSpec, build_image
from enclavectl.eif.format import Arch
from enclavectl.eif.metadata import Metadata
from enclavectl.eif.ramdisk.ramdisks import Mode, boot_entries, write_ramdisk
from enclavectl.image.scratch import scratch_file
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
before = peak()
archive_path, output = Path(sys.argv[1]), Path(sys.argv[2])
metadata = Metadata(image_name="b", image_version="1", build_time="2024-01-01T00:00:00+00:00", build_tool="b",
                    build_tool_version="0", operating_system="Linux", kernel_version="0")
folder = output.parent
with open_archive(archive_path) as archive, scratch_file(folder) as boot, scratch_file(folder) as app:
    write_ramdisk(boot, boot_entries(()), Mode.REPRODUCIBLE)
    write_application(app, archive, Mode.REPRODUCIBLE)
    ramdisks = (whole_file(boot), whole_file(app))
    build_image(ImageSpec(kernel=bytes_range(b"kernel" * 1000), cmdline="quiet", ramdisks=ramdisks,
                          metadata=metadata, arch=Arch.X86_64), output)
print(peak() - before)
"""


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    image = sys.argv[1]
    print(machine())
    with tempfile.TemporaryDirectory(prefix="enclavectl-bench-") as name:
        folder = Path(name)
        saved = folder / "image.tar"
        save, unpack, ours, memory = [], [], [], []
        for _ in range(ROUNDS):
            save.append(_timed(lambda: _save(image, saved)))
            unpack.append(_timed(lambda: _unpack(saved, folder)))
            started = time.perf_counter()
            memory.append(_build(saved, folder / "bench.eif"))
            ours.append(time.perf_counter() - started)
        mib = saved.stat().st_size / 2**20
        print(f"image {image}: {mib:.0f} MiB saved; medians of {ROUNDS} alternating runs")
        for what, times in (("docker save", save), ("tar x of all layers", unpack), ("native build", ours)):
            seconds = statistics.median(times)
            print(f"{what:>20}: {seconds:6.2f} s, {mib / seconds:6.0f} MiB/s")
        ratio = statistics.median((a + c) / (a + b) for a, b, c in zip(save, unpack, ours, strict=True))
        peak = max(memory) / 1024
        print(f"save and native build take {ratio:.2f} times what docker save | tar x takes")
        print(f"peak memory +{peak:.0f} MiB (limit {LIMIT_MIB}, {'ok' if peak <= LIMIT_MIB else 'MISSED'})")
        _sizes(saved)


def _timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _save(image: str, saved: Path) -> None:
    with saved.open("wb") as file:
        subprocess.run([sys.executable, "-c", _SAVE, image], stdout=file, check=True)


def _unpack(saved: Path, folder: Path) -> None:
    """Unpack the archive and then each layer, as a script without enclavectl would."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        subprocess.run(["tar", "xf", saved, "-C", name], check=True)
        for layer in Path(name).glob("*/layer.tar"):
            (layer.parent / "files").mkdir()
            subprocess.run(["tar", "xf", layer, "-C", layer.parent / "files"], check=True)


def _build(saved: Path, output: Path) -> int:
    argv = [sys.executable, "-c", _OURS, str(saved), str(output)]
    return int(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)


def _sizes(saved: Path) -> None:
    """Print the parts of the root file system, largest first."""
    sizes: Counter[str] = Counter()
    with open_archive(saved) as archive, flatten(archive.layers, init_layer=False) as image:
        for entry in image.entries():
            parts = entry.name.decode(errors="replace").split("/")
            if "dist-packages" in parts or "site-packages" in parts:
                folder = "dist-packages" if "dist-packages" in parts else "site-packages"
                name = "/".join(parts[parts.index(folder) : parts.index(folder) + 2])
            else:
                name = "/".join(parts[:3])
            sizes[name] += entry.data.size if entry.data else 0
    print(f"root file system: {sum(sizes.values()) / 2**20:.1f} MiB")
    for name, size in sizes.most_common(12):
        print(f"{size / 2**20:8.1f} MiB  {name}")


if __name__ == "__main__":
    main()
