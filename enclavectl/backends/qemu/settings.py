"""The settings of the qemu backend, and what this host has for it."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from enclavectl.config.choices import Accelerator
from enclavectl.errors import HostError
from enclavectl.host.kvm import is_kvm_useful
from enclavectl.host.probe import LiveProbe
from enclavectl.host.qemu import Qemu, find_qemu
from enclavectl.host.tree import Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Emulator:
    """The QEMU that will run an enclave, and how. ``notes`` are what a user should know of it."""

    qemu: Qemu
    uses_kvm: bool
    cpus: int
    notes: tuple[str, ...]

    @property
    def accelerator(self) -> str:
        """What runs the guest's instructions."""
        return "kvm" if self.uses_kvm else "tcg"


@dataclass(frozen=True, slots=True, kw_only=True)
class QemuSettings:
    """The backend's settings. ``program`` is the QEMU to use; None: the first that is found."""

    state_dir: Path
    environ: Mapping[str, str]
    program: Path | None = None
    accelerator: Accelerator = Accelerator.AUTO

    def choose(self, cpus: int) -> Emulator:
        """Find QEMU and what accelerates it. A machine gets no more CPUs than this host has.

        Raises:
            HostError: this host has no QEMU with the machine, or not the accelerator that is demanded.
        """
        if platform.machine() != "x86_64":
            raise HostError(
                f"backend qemu: expected an x86_64 host, found {platform.machine()}: QEMU's nitro-enclave "
                "machine has no other processor",
                hint="use --backend local, whose enclaves are simulated",
                code="no-qemu",
            )
        qemu = find_qemu(LiveProbe(environ=self.environ), Tree(), self.environ, self.program)
        notes = []
        lacking = self._lack_of_kvm(qemu)
        if lacking is not None and self.accelerator is Accelerator.KVM:
            raise HostError(
                f"qemu.accelerator: expected KVM, but {lacking}", hint="set it to auto", code="no-kvm"
            )
        if lacking is not None and self.accelerator is Accelerator.AUTO:
            notes.append(f"QEMU emulates the processor, which is slow: {lacking}")
        here = len(os.sched_getaffinity(0))
        if cpus > here:
            notes.append(f"the enclave gets {here} CPUs, as this host has, not {cpus}")
        return Emulator(qemu=qemu, uses_kvm=lacking is None, cpus=min(cpus, here), notes=tuple(notes))

    def _lack_of_kvm(self, qemu: Qemu) -> str | None:
        """Return why KVM is not used, or None if it is."""
        if self.accelerator is Accelerator.TCG:
            return "qemu.accelerator is tcg"
        if not qemu.has_kvm:
            return f"{qemu.program} was built without KVM"
        return is_kvm_useful(Path("/"))
