"""Checks of what the backend qemu needs. Without that backend in the configuration they are no defects."""

from __future__ import annotations

import os

from enclavectl.errors import HostError
from enclavectl.host.checks.base import Check, Verdict, fail, not_applicable, ok, warn
from enclavectl.host.checks.facts import Facts
from enclavectl.host.qemu import Qemu, find_qemu

_KVM = "/dev/kvm"
_UNUSED = "no QEMU with the machine nitro-enclave, and the configuration does not name the backend qemu"


def _program(facts: Facts) -> Verdict:
    found = _find(facts)
    if isinstance(found, Qemu):
        return ok(f"QEMU {found.version_text} with the machine nitro-enclave, {found.program}")
    if facts.settings.backend != "qemu":
        return not_applicable(_UNUSED)
    return fail(found.message, found.hint or "")


def _kvm(facts: Facts) -> Verdict:
    found = _find(facts)
    if not isinstance(found, Qemu):
        return not_applicable(_UNUSED)
    slow = "the processor is emulated: a boot takes some 15 s, a picture some 3 s"
    node = facts.tree.facts(_KVM)
    if node is None:
        return ok(f"no {_KVM}; {slow}")
    if not found.has_kvm:
        return ok(f"{found.program} was built without KVM; {slow}")
    user = facts.host.user
    if not node.allows(os.R_OK | os.W_OK, uid=user.uid, gids=user.gids):
        return warn(f"{_KVM} is not open to {user.name}; {slow}", f"sudo usermod -aG kvm {user.name}")
    return ok(f"{_KVM} is there; `run` uses it if a loop in it is fast enough")


def _machine(facts: Facts) -> Verdict:
    if facts.settings.backend != "qemu":
        return not_applicable("the configuration does not name the backend qemu")
    if facts.host.machine != "x86_64":
        return fail(
            f"a {facts.host.machine} host; QEMU's machine nitro-enclave is an x86_64 one",
            "use an x86_64 host, or set backend to local",
        )
    return ok("an x86_64 host")


def _find(facts: Facts) -> Qemu | HostError:
    try:
        return find_qemu(facts.host.probe, facts.tree, facts.host.environ, facts.settings.qemu_program)
    except HostError as exc:
        if exc.code != "no-qemu":
            raise
        return exc


CHECKS = (
    Check(
        id="qemu.machine",
        why="the image is booted as it is, and QEMU has this machine for one processor only",
        examine=_machine,
    ),
    Check(
        id="qemu.program",
        why="only QEMU 9.2 and newer, built with libcbor and gnutls, has a machine for enclave images",
        examine=_program,
    ),
    Check(
        id="qemu.kvm",
        why="with KVM an emulated enclave is about as fast as a real one",
        examine=_kvm,
    ),
)
