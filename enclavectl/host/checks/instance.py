"""Checks of the instance: whether it can run enclaves and has the driver."""

from __future__ import annotations

import stat

from enclavectl.host.checks.base import Check, Scope, State, Verdict, fail, fix_with, ok, skip, warn
from enclavectl.host.checks.facts import DEVICE, ENABLE_ENCLAVES, MODULE, Facts, Version
from enclavectl.host.distro import detect_distro

# The first kernels with the driver; Amazon Linux 2 backported it to its 4.14.
# https://github.com/aws/aws-nitro-enclaves-cli/blob/v1.4.2/README.md
_UPSTREAM = {"x86_64": (5, 10, 0), "aarch64": (5, 16, 0)}
_AL2_414 = {"x86_64": (4, 14, 198), "aarch64": (4, 14, 252)}


def _pci_device(facts: Facts) -> Verdict:
    if facts.pci_device is not None:
        return ok(f"the Nitro Enclaves device 1d0f:e4c1 at {facts.pci_device}")
    if facts.is_nitro:
        return warn(f"{DEVICE}, but no device 1d0f:e4c1 on the PCI bus", "lspci -d 1d0f:e4c1")
    if facts.is_ec2:
        return fail(
            "an EC2 instance without the Nitro Enclaves device: enclaves are not enabled", ENABLE_ENCLAVES
        )
    return fail("no Nitro Enclaves device: this is no EC2 instance with enclaves", ENABLE_ENCLAVES)


def _ec2(facts: Facts) -> Verdict:
    if facts.is_nitro:
        return ok("an EC2 instance with enclaves enabled")
    if facts.is_ec2:
        return warn("an EC2 instance on which enclaves are not enabled", ENABLE_ENCLAVES)
    return ok("no Nitro host: enclaves are simulated (backend local) or emulated (backend qemu) here")


def _driver(facts: Facts) -> Verdict:
    if facts.tree.exists(MODULE):
        return ok("the module nitro_enclaves is loaded")
    if facts.pci_device is None:
        return fail("the module nitro_enclaves is not loaded, and there is no device for it", ENABLE_ENCLAVES)
    return fix_with(State.FAIL, "the module nitro_enclaves is not loaded", "modprobe", "nitro_enclaves")


def _device_node(facts: Facts) -> Verdict:
    found = facts.tree.facts(DEVICE)
    if found is None:
        if facts.tree.exists(MODULE):
            return fail(
                f"no {DEVICE} although the driver is loaded: enclaves are not enabled", ENABLE_ENCLAVES
            )
        return fix_with(State.FAIL, f"no {DEVICE}: the driver is not loaded", "modprobe", "nitro_enclaves")
    if not stat.S_ISCHR(found.mode):
        return fail(
            f"{DEVICE} is no device", f"sudo rm {DEVICE}, then sudo modprobe -r and modprobe the driver"
        )
    return ok(f"{DEVICE}, mode {found.permissions:04o}")


def _kernel(facts: Facts) -> Verdict:
    release, version = facts.kernel
    least = least_kernel(facts.host.machine, version)
    if version is None or least is None:
        return skip(f"kernel {release or 'unknown'} on {facts.host.machine}: no rule for it")
    words = ".".join(map(str, least))
    if version < least:
        return fail(
            f"kernel {release}, the driver came with {words}", "upgrade the kernel, then: sudo reboot"
        )
    return ok(f"kernel {release}, at least {words}")


def least_kernel(machine: str, version: Version | None) -> Version | None:
    """Return the first kernel of this line that has the driver, or None if no rule is known."""
    return (_AL2_414 if version and version[:2] == (4, 14) else _UPSTREAM).get(machine)


def _distribution(facts: Facts) -> Verdict:
    distro = detect_distro(facts.tree)
    if distro.family.has_nitro_cli:
        return ok(f"{distro.name}, which has nitro-cli as a package")
    return warn(f"{distro.name}, for which there is no package of nitro-cli", "enclavectl setup --dry-run")


CHECKS = (
    Check(
        id="instance.kind",
        why="it decides which backends there are",
        examine=_ec2,
    ),
    Check(
        id="instance.pci-device",
        scope=Scope.NITRO,
        why="the hypervisor gives this device to instances that were launched with enclaves enabled, only",
        examine=_pci_device,
    ),
    Check(
        id="instance.driver",
        scope=Scope.NITRO,
        why="without the driver nitro-cli ends with E19 before it does anything",
        examine=_driver,
    ),
    Check(
        id="instance.device-node",
        scope=Scope.NITRO,
        why="every enclave is made through this device",
        examine=_device_node,
    ),
    Check(
        id="instance.kernel",
        scope=Scope.NITRO,
        why="older kernels have no driver",
        examine=_kernel,
    ),
    Check(
        id="instance.distribution",
        scope=Scope.NITRO,
        why="it decides how nitro-cli is installed",
        examine=_distribution,
    ),
)
