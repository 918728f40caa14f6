"""The backend qemu, emulated: ``python -m benchmarks.qemu {boot,memory,vsock} [IMAGE]``.

``boot`` is the time of each step until the image serves, with QEMU's CPU seconds beside it: on a busy machine
those say more. ``memory`` looks for the least memory that boots it. ``vsock`` compares our device with
vhost-device-vsock, if that is on the PATH or in the cache folder of the lanes. Run it in .ci/qemu-lane, or
have a QEMU where the backend finds it.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.common import machine
from benchmarks.qemu_machine import Parts, boot, echoing
from enclavectl.backends.qemu.boot import BootStep
from enclavectl.host.probe import LiveProbe
from enclavectl.host.qemu import cache_folder, find_qemu
from enclavectl.host.tree import Tree
from tests.image.echo import build_echo_image

_MIB = 1 << 20
_STEP_MIB = 16
_OTHER = "vhost-device-vsock"


def main(what: str, image: Path | None) -> None:
    """Print one table."""
    print(machine(), flush=True)
    qemu = find_qemu(LiveProbe(environ=os.environ), Tree(), os.environ, None).program
    with tempfile.TemporaryDirectory(prefix="e.") as folder:
        if what == "vsock":
            _vsock(qemu, Path(folder))
        elif image is None:
            sys.exit("name an image that enclavectl build wrote")
        elif what == "boot":
            _boot(Parts(qemu=qemu, image=image), Path(folder))
        else:
            _memory(qemu, image, Path(folder))


def _boot(parts: Parts, folder: Path) -> None:
    found = boot(parts, folder)
    if not found.serves:
        sys.exit(f"{found.failure}\n{found.console[-2000:]}")
    print("| until | s | QEMU's CPU, s |\n|---|---|---|")
    for mark in found.marks:
        words = "serving" if mark.step is BootStep.SERVING else f"the next step: {mark.step.value}"
        print(f"| {words} | {mark.wall_s:.1f} | {mark.cpu_s:.1f} |")


def _memory(qemu: Path, image: Path, folder: Path) -> None:
    """Halve the range between what is too little, as the image does not fit, and what is enough."""
    low, high = image.stat().st_size // _MIB // _STEP_MIB * _STEP_MIB, 1024
    why = "the image alone has as much"
    while high - low > _STEP_MIB:
        middle = (low + high) // 2 // _STEP_MIB * _STEP_MIB
        found = boot(Parts(qemu=qemu, image=image, memory_mib=middle), folder)
        print(f"{middle} MiB: {'serves' if found.serves else found.failure}", flush=True)
        if found.serves:
            high = middle
        else:
            low, why = middle, found.failure
    print(f"\nboots with {high} MiB; with {low} MiB: {why}")


def _vsock(qemu: Path, folder: Path) -> None:
    root = os.environ.get("ENCLAVECTL_TEST_KERNEL_ROOT")
    if root is None:
        sys.exit("ENCLAVECTL_TEST_KERNEL_ROOT is not set: .ci/qemu-lane sets it")
    other = find_other()
    devices = {"ours": None} if other is None else {"ours": None, _OTHER: other}
    parts = Parts(qemu=qemu, image=build_echo_image(Path(root), folder))
    print("| device | MiB/s there and back |\n|---|---|")
    for name, program in devices.items():
        place = folder / name
        place.mkdir()
        with echoing(parts, place, program) as (door, reactor):
            argv = [sys.executable, "-m", "benchmarks.qemu_client", str(door)]
            with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as client:
                ended = os.pidfd_open(client.pid)
                reactor.watch(ended, select.EPOLLIN, lambda _: None)
                while client.poll() is None:
                    reactor.turn()
                assert client.stdout is not None
                print(f"| {name} | {client.stdout.read().strip()} |", flush=True)
                reactor.forget(ended)
                os.close(ended)
    if other is None:
        print(f"\nskipped: there is no {_OTHER} on the PATH, nor in the cache folder")


def find_other() -> Path | None:
    """Return the program vhost-device-vsock, or None."""
    found = shutil.which(_OTHER)
    folder = cache_folder(os.environ)
    cached = sorted(folder.glob(f"{_OTHER}-*/usr/bin/{_OTHER}")) if folder is not None else []
    return Path(found) if found else (cached[-1] if cached else None)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]) if len(sys.argv) > 2 else None)
