"""``eif pcrs`` on a 1 GiB image against ``openssl dgst -sha384`` over as many bytes as the PCRs hash.

PCR0 and PCR1 or PCR2 each hash every measured byte, so openssl is given the image twice. Runs alternate, each
in a process of its own; the limit is 1.15, and 64 MiB of memory. ``python -m benchmarks.eif_pcrs [MIB]``.
"""

from __future__ import annotations

import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from enclavectl.eif.build import ImageSpec, build_image
from enclavectl.eif.file_range import bytes_range, whole_file
from enclavectl.eif.format import Arch
from tests.eif.samples import CMDLINE, METADATA

LIMIT = 1.15
LIMIT_MIB = 64
ROUNDS = 5
# VmHWM and not ru_maxrss, which keeps the peak of the parent process over fork and exec.
_CHILD = """
import os, re, sys
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
if sys.argv[2] == "one core":
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from enclavectl.eif.examine import read_verified
before = peak()
with open(sys.argv[1], "rb") as file:
    read_verified(file)
print(peak() - before)
"""


def main() -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        sys.exit("this benchmark compares with openssl, which is not on the PATH")
    mib = int(sys.argv[1]) if len(sys.argv) > 1 else 1024
    with tempfile.TemporaryDirectory(prefix="enclavectl-bench-") as folder:
        path = _image(Path(folder), mib)
        print(f"image: {path.stat().st_size / 2**20:.0f} MiB; median of {ROUNDS} alternating runs")
        _compare(path, openssl, "all cores")
        _compare(path, openssl, "one core")


def _image(folder: Path, mib: int) -> Path:
    """Write an image of pseudo-random data, which no disk or cache can compress or share."""
    source = random.Random(1)
    filler = folder / "application.cpio"
    with filler.open("wb") as file:
        for _ in range(mib - 16):
            file.write(source.randbytes(1 << 20))
    output = folder / "bench.eif"
    with filler.open("rb") as file:
        spec = ImageSpec(
            kernel=bytes_range(source.randbytes(12 << 20)),
            cmdline=CMDLINE.decode(),
            ramdisks=(bytes_range(source.randbytes(4 << 20)), whole_file(file)),
            metadata=METADATA,
            arch=Arch.X86_64,
        )
        build_image(spec, output)
    filler.unlink()
    return output


def _compare(path: Path, openssl: str, cores: str) -> None:
    ours, theirs, memory = [], [], []
    for _ in range(ROUNDS):
        seconds, out = _run([sys.executable, "-c", _CHILD, str(path), cores])
        ours.append(seconds)
        memory.append(int(out) / 1024)
        theirs.append(_run([openssl, "dgst", "-sha384", str(path), str(path)])[0])
    ratio = statistics.median(ours) / statistics.median(theirs)
    best = min(ours) / min(theirs)
    peak = max(memory)
    print(
        f"{cores:>9}: ours {statistics.median(ours):.2f} s, openssl {statistics.median(theirs):.2f} s, "
        f"ratio {ratio:.2f} (limit {LIMIT}, {'ok' if ratio <= LIMIT else 'MISSED'}), of the best {best:.2f}, "
        f"peak memory +{peak:.0f} MiB (limit {LIMIT_MIB}, {'ok' if peak <= LIMIT_MIB else 'MISSED'})"
    )


def _run(argv: list[str]) -> tuple[float, str]:
    started = time.perf_counter()
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    return time.perf_counter() - started, done.stdout


if __name__ == "__main__":
    main()
