"""A probe of KVM: a loop of real-mode code in a virtual CPU, with the time that it takes.

``python -m enclavectl.host.kvm`` runs it and ends with 0 if KVM is worth using. It is a process of
its own because a KVM that is broken may hang, and only another process can end it. A nested or paravirtual
KVM may work and be a thousand times slower than the processor; then emulation by QEMU is faster.
https://www.kernel.org/doc/html/latest/virt/kvm/api.html
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import signal
import struct
import sys
import time
from pathlib import Path

from enclavectl.errors import HostError
from enclavectl.run import Command, capture

# Of the whole process. The loop takes some milliseconds on a processor and seconds where it is emulated.
_PROCESS_S = 2.0
_LOOP_S = 0.5
_LOOPS = 2_000_000
_CREATE_VM, _CREATE_VCPU, _RUN = 0xAE01, 0xAE41, 0xAE80
_VCPU_MMAP_SIZE = 0xAE04
_SET_MEMORY, _GET_SREGS, _SET_SREGS, _SET_REGS = 0x4020AE46, 0x8138AE83, 0x4138AE84, 0x4090AE82
_EXIT_HLT = 5
# mov ecx, LOOPS; loop: dec ecx; jnz loop; hlt
_CODE = b"\x66\xb9" + struct.pack("<I", _LOOPS) + b"\x66\x49\x75\xfc\xf4"
_ADDRESS = 0x1000


def is_kvm_useful(folder: Path) -> str | None:
    """Run the probe; return None if KVM is worth using, else what is wrong with it."""
    if not Path("/dev/kvm").exists():
        return "this host has no /dev/kvm"
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "this user may not use /dev/kvm (on most systems: the group kvm)"
    try:
        done = capture(
            Command(argv=[sys.executable, "-EPB", "-m", "enclavectl.host.kvm"], cwd=folder),
            timeout_s=_PROCESS_S,
        )
    except HostError:
        return f"/dev/kvm is emulated itself, or hangs: a loop did not end within {_PROCESS_S:g} s"
    if done.status == 0:
        return None
    words = done.err.decode(errors="replace").strip().splitlines()
    return f"/dev/kvm does not work: {words[-1]:.120}" if words else "/dev/kvm does not work"


def main() -> None:
    """Run the loop once.

    Raises:
        HostError: KVM refuses, ends in another way than with ``hlt``, or is too slow.
    """
    kvm = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    machine = fcntl.ioctl(kvm, _CREATE_VM, 0)
    memory = mmap.mmap(-1, 4096, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
    memory[: len(_CODE)] = _CODE
    fcntl.ioctl(machine, _SET_MEMORY, struct.pack("<IIQQQ", 0, 0, _ADDRESS, 4096, _address_of(memory)))
    processor = fcntl.ioctl(machine, _CREATE_VCPU, 0)
    shared = mmap.mmap(processor, fcntl.ioctl(kvm, _VCPU_MMAP_SIZE, 0))
    registers = bytearray(0x138)
    fcntl.ioctl(processor, _GET_SREGS, registers)
    struct.pack_into("<QIH", registers, 0, 0, 0xFFFF, 0)  # cs: base 0, limit, selector 0
    fcntl.ioctl(processor, _SET_SREGS, bytes(registers))
    # Sixteen general registers, rip, rflags, whose bit 1 is always set.
    fcntl.ioctl(processor, _SET_REGS, struct.pack("<18Q", *([0] * 16), _ADDRESS, 2))
    start = time.monotonic()
    fcntl.ioctl(processor, _RUN, 0)
    elapsed_s = time.monotonic() - start
    reason = struct.unpack_from("<I", shared, 8)[0]
    if reason != _EXIT_HLT:
        raise HostError(f"a loop ended with KVM's exit {reason}, expected {_EXIT_HLT}")
    if elapsed_s > _LOOP_S:
        raise HostError(f"a loop took {elapsed_s:.1f} s, expected at most {_LOOP_S:g} s: it is emulated")


def _address_of(memory: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    main()
