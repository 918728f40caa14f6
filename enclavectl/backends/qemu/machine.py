"""The command line of QEMU for one enclave."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

# A guess for a processor that does not tell its clock; any value near the truth will do.
_CLOCK_KHZ = 2_000_000
# Without AVX, whose wide vectors cost more to emulate than they save: a picture takes a third of the time.
# Without LA57, whose page tables have a level more. Without fast string moves: the kernel copies memory with
# them where it has them, and TCG emulates one byte at a time. Without SMAP, two instructions around each copy
# from and to user space that end a block of translated code.
_LACKING = "-avx,-avx2,-fma,-f16c,-la57,-erms,-fsrm,-fzrm,-fsrs,-fsrc,-smap,-mpx"
_EMULATED = ("-accel", "tcg", "-cpu", f"max,{_LACKING}")
_KVM = ("-accel", "kvm", "-cpu", "host")
# What QEMU appends to the kernel's command line, it does not measure. tsc: the kernel would measure the clock
# against an emulated timer. On a busy host that fails, and as a machine with ACPI has no other clock, it
# would hang. The others save an emulated boot a fifth of its time. They turn off what protects from
# processors and programs that are not here, and nothing that the payload relies on.
_QUICK = (
    "mitigations=off init_on_alloc=0 edd=off nokaslr audit=0 transparent_hugepage=always tsc=reliable"
    # No tests of ciphers, and only the security modules that a payload can use.
    " cryptomgr.notests lsm=landlock,lockdown,yama rcupdate.rcu_expedited=1"
    # They wait for the ramdisks to be unpacked, or are not used: then the second CPU boots on meanwhile.
    " ipv6.disable=1 initcall_blacklist=crypto_kdf108_init,jent_mod_init,load_system_certificate_list"
)
_CLOCK = re.compile(r"^cpu MHz\s*: ([0-9]{1,6})", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class QemuMachine:
    """A machine that boots ``image``. ``frontend_fd`` is QEMU's end of the vsock device's socket."""

    program: Path
    image: Path
    module_id: str
    memory_mib: int
    cpus: int
    uses_kvm: bool
    frontend_fd: int
    clock_khz: int

    def to_argv(self) -> list[str]:
        """Return the program and its arguments."""
        return [
            str(self.program),
            *("-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none"),
            # acpi: else the devices are named on the kernel's command line, which Debian's does not read.
            *("-M", f"nitro-enclave,vsock=vsock,id={self.module_id},acpi=on"),
            *("-kernel", str(self.image), "-m", f"{self.memory_mib}M", "-smp", str(self.cpus)),
            *(_KVM if self.uses_kvm else _EMULATED),
            *("-chardev", f"socket,id=vsock,fd={self.frontend_fd}"),
            *("-serial", "stdio", "-no-reboot"),
            *([] if self.uses_kvm else ["-append", f"{_QUICK} tsc_early_khz={self.clock_khz}"]),
        ]


def clock_khz(cpuinfo: str) -> int:
    """Return about how fast this machine's time stamp counter runs, from the text of /proc/cpuinfo."""
    found = _CLOCK.search(cpuinfo)
    return int(found[1]) * 1000 if found and int(found[1]) else _CLOCK_KHZ
