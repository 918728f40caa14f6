"""QEMU on this host: which one has the machine for enclave images, and whether KVM can help it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from enclavectl.errors import HostError
from enclavectl.host.distro import Family, detect_distro
from enclavectl.host.probe import HostProbe
from enclavectl.host.tree import Tree

PROGRAM = "qemu-system-x86_64"
# The first with -M nitro-enclave: https://wiki.qemu.org/ChangeLog/9.2
LEAST = (9, 2, 0)
_LEAST_TEXT = "9.2"
_MACHINE = re.compile(r"^nitro-enclave\s", re.MULTILINE)
_NUMBER = re.compile("[0-9]{1,9}", re.ASCII)
_KVM = re.compile(r"^kvm$", re.MULTILINE)
_VERSION = re.compile(r"QEMU emulator version ([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})", re.ASCII)
_BUILD = "make qemu, in a checkout of enclavectl: it builds one in the cache folder, in about 5 minutes"
# Fedora builds it with libcbor and gnutls, which the machine needs; Debian and Ubuntu without. As of 2026.
_HOW_TO_GET = {
    Family.FEDORA: "sudo dnf install qemu-system-x86-core",
    Family.DEBIAN: f"{_BUILD} (Debian's own lacks the machine)",
    Family.UBUNTU: "build QEMU with libcbor and gnutls, as docs/qemu.md says (Ubuntu's own has neither)",
}
_ARCH = "Arch: sudo pacman -S qemu-system-x86, if its -M help lists nitro-enclave; else "


@dataclass(frozen=True, slots=True, kw_only=True)
class Qemu:
    """A QEMU that has the machine. ``has_kvm``: it was built with KVM, which says nothing of this host."""

    program: Path
    version: tuple[int, int, int]
    has_kvm: bool

    @property
    def version_text(self) -> str:
        """The version as people write it."""
        return ".".join(map(str, self.version))


def find_qemu(probe: HostProbe, tree: Tree, environ: Mapping[str, str], setting: Path | None) -> Qemu:
    """Find a QEMU with the machine: the configured one alone; else that of the PATH, else of the cache.

    Raises:
        HostError: there is none; the message says what the ones that are there lack.
    """
    lacking = []
    for program in _candidates(probe, tree, environ, setting):
        found = examine_qemu(probe, program)
        if isinstance(found, Qemu):
            return found
        lacking.append(found)
    raise HostError(
        "; ".join(lacking)
        or f"expected QEMU {_LEAST_TEXT} or newer with the machine nitro-enclave, found none",
        hint="correct qemu.program, or leave it out" if setting else how_to_get(tree),
        code="no-qemu",
    )


def examine_qemu(probe: HostProbe, program: str) -> Qemu | str:
    """Ask a program whether it has the machine; return what it lacks if it has not."""
    try:
        told = probe.run(program, "--version")
        match = None if told is None else _VERSION.search(told.text)
        if match is None:
            return f"{program}: expected QEMU, found another program or none"
        version = (int(match[1]), int(match[2]), int(match[3]))
        if version < LEAST:
            return f"{program}: expected QEMU {_LEAST_TEXT} or newer, found {'.'.join(map(str, version))}"
        machines = probe.run(program, "-M", "help")
        if machines is None or not _MACHINE.search(machines.text):
            return (
                f"{program}: QEMU {'.'.join(map(str, version))} was built without the machine nitro-enclave"
            )
        accelerators = probe.run(program, "-accel", "help")
    except HostError as exc:
        return exc.message  # it names the program: "did not end within 5 s"
    has_kvm = accelerators is not None and _KVM.search(accelerators.text) is not None
    return Qemu(program=Path(program), version=version, has_kvm=has_kvm)


def how_to_get(tree: Tree) -> str:
    """Return how to get such a QEMU on this distribution."""
    try:
        return _HOW_TO_GET.get(detect_distro(tree).family, _BUILD)
    except HostError:
        return _ARCH + _BUILD if tree.exists("/etc/arch-release") else _BUILD


def cache_folder(environ: Mapping[str, str]) -> Path | None:
    """Return the folder in which ``make qemu`` keeps what it built; None for a user without a home."""
    if base := environ.get("XDG_CACHE_HOME"):
        return Path(base) / "enclavectl-ci"
    home = environ.get("HOME")
    return Path(home) / ".cache" / "enclavectl-ci" if home else None


def _candidates(
    probe: HostProbe, tree: Tree, environ: Mapping[str, str], setting: Path | None
) -> Iterator[str]:
    if setting is not None:
        yield str(setting)
        return
    if (found := probe.find(PROGRAM)) is not None:
        yield found
    folder = cache_folder(environ)
    built = [] if folder is None else [name for name in tree.names(str(folder)) if name.startswith("qemu-")]
    # The newest first: the numbers of a version sort, its text does not.
    for name in sorted(built, key=lambda name: [int(part) for part in _NUMBER.findall(name)], reverse=True):
        yield f"{folder}/{name}/bin/{PROGRAM}"
