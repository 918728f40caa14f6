"""Facts that several checks need, each read once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from enclavectl.artifacts.engine_address import EngineAddress, find_engine
from enclavectl.host.cgroup import PageLimits, read_page_limits
from enclavectl.host.cpus import Cpus, read_cpus
from enclavectl.host.enclaves import RunningEnclaves, find_running
from enclavectl.host.host import Host
from enclavectl.host.memory import Memory, read_memory
from enclavectl.host.pod import is_pod
from enclavectl.host.reservation import ALLOCATOR_FILE, AllocatorError, Reservation, parse_allocator
from enclavectl.nitro_cli.environment import logs_dir, sockets_dir
from enclavectl.nitro_cli.version import NitroVersion

DEVICE = "/dev/nitro_enclaves"
MODULE = "/sys/module/nitro_enclaves"
ENABLE_ENCLAVES = (
    "stop the instance, then: aws ec2 modify-instance-attribute --instance-id ID --attribute enclaveOptions "
    "--value true; or launch one with EnclaveOptions.Enabled=true"
)
_PCI_DIR = "/sys/bus/pci/devices"
# https://github.com/torvalds/linux/blob/v6.6/drivers/virt/nitro_enclaves/ne_pci_dev.h: PCI_DEVICE_ID_NE
_PCI_VENDOR, _PCI_DEVICE = "0x1d0f", "0xe4c1"
_VERSION = re.compile(r"([0-9]{1,4})\.([0-9]{1,4})\.([0-9]{1,5})", re.ASCII)

Version = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSettings:
    """The configuration's part of the checks: what this host is to run, and our own folders."""

    backend: str
    memory_mib: int
    cpus: int
    folder: Path
    state_dir: Path
    data_dir: Path
    qemu_program: Path | None = None


class Facts:
    """The facts of one host, cached; every property may raise HostError if a file cannot be read."""

    def __init__(self, host: Host, settings: HostSettings) -> None:
        """Store the host; nothing is read yet."""
        self.host = host
        self.tree = host.tree
        self.settings = settings

    @cached_property
    def pci_device(self) -> str | None:
        """The address of the Nitro Enclaves device on the PCI bus, or None."""
        for name in self.tree.names(_PCI_DIR):
            if (
                self.tree.word(f"{_PCI_DIR}/{name}/vendor") == _PCI_VENDOR
                and self.tree.word(f"{_PCI_DIR}/{name}/device") == _PCI_DEVICE
            ):
                return name
        return None

    @cached_property
    def is_nitro(self) -> bool:
        """True if the hypervisor gave this host the device, so it can run enclaves."""
        return self.pci_device is not None or self.tree.exists(DEVICE)

    @cached_property
    def is_ec2(self) -> bool:
        """True if the firmware identifies an EC2 instance."""
        return any(
            (self.tree.word(f"/sys/class/dmi/id/{name}") or "").startswith("Amazon EC2")
            for name in ("board_vendor", "sys_vendor")
        )

    @cached_property
    def expects_nitro(self) -> bool:
        """True if the settings or the files of this host are those of a Nitro host, even if it is none."""
        return (
            self.is_nitro
            or self.settings.backend == "nitro"
            or self.tree.exists(MODULE)
            or self.tree.exists(ALLOCATOR_FILE)
            or self.host.probe.find("nitro-cli") is not None
        )

    @cached_property
    def is_pod(self) -> bool:
        """True in a container of a pod: what sysfs shows is the node's."""
        return is_pod(self.tree, self.host.environ)

    @cached_property
    def cpus(self) -> Cpus:
        """The CPUs."""
        return read_cpus(self.tree)

    @cached_property
    def memory(self) -> Memory:
        """The memory."""
        return read_memory(self.tree)

    @cached_property
    def page_limits(self) -> PageLimits:
        """The cgroups' limits on this process's huge pages."""
        return read_page_limits(self.tree)

    @cached_property
    def running(self) -> RunningEnclaves:
        """The running enclaves."""
        return find_running(self.host)

    @cached_property
    def reservation(self) -> Reservation | AllocatorError | None:
        """The reservation in allocator.yaml, the error in it, or None without the file."""
        data = self.tree.data(ALLOCATOR_FILE)
        if data is None:
            return None
        try:
            return parse_allocator(data)
        except AllocatorError as exc:
            return exc

    @cached_property
    def groups(self) -> dict[str, tuple[int, frozenset[str]]]:
        """/etc/group: the number and the members of each group."""
        found = {}
        for line in (self.tree.text("/etc/group") or "").splitlines():
            fields = line.split(":")
            if len(fields) == 4 and fields[2].isdigit():
                found[fields[0]] = (int(fields[2]), frozenset(filter(None, fields[3].split(","))))
        return found

    @cached_property
    def nitro_cli(self) -> NitroVersion | None:
        """The version of nitro-cli; None if it is not installed or prints no version."""
        answer = self.host.probe.run("nitro-cli", "--version")
        try:
            return None if answer is None or answer.status != 0 else NitroVersion.from_text(answer.text)
        except ValueError:
            return None

    @cached_property
    def engine_address(self) -> EngineAddress:
        """The engine that ``build`` would use; HostError if a named context does not exist."""
        return find_engine(self.host.environ, self.tree.text)

    @cached_property
    def sockets_dir(self) -> str:
        """The folder of running enclaves' sockets."""
        return str(sockets_dir(self.host.environ))

    @cached_property
    def logs_dir(self) -> str:
        """The folder of nitro-cli's logs."""
        return str(logs_dir(self.host.environ))

    @cached_property
    def kernel(self) -> tuple[str, Version | None]:
        """The kernel's release and its first three numbers."""
        release = self.tree.word("/proc/sys/kernel/osrelease") or ""
        return release, parse_version(release)


def parse_version(text: str) -> Version | None:
    """Find the first three numbers joined by dots, or None."""
    match = _VERSION.search(text)
    return None if match is None else (int(match[1]), int(match[2]), int(match[3]))
