"""What the backends local and qemu need."""

from __future__ import annotations

import os

from enclavectl.host.checks.base import Check, Group, Scope, Verdict, fail, ok, skip, warn
from enclavectl.host.checks.facts import Facts
from enclavectl.host.host import RUNTIMES

_LEAST_PYTHON = (3, 11, 0)  # requires-python of pyproject.toml
_PROGRAMS = {"x86_64": "qemu-system-x86_64", "aarch64": "qemu-system-aarch64"}
_MACHINE = (
    "nitro-enclave"  # QEMU 9.2 and newer: https://www.qemu.org/docs/master/system/i386/nitro-enclave.html
)
# The machine is there if QEMU was configured with both; Fedora's is, Debian's and Ubuntu's are not.
_GET_QEMU = "install QEMU 9.2 or newer that was built with libcbor and gnutls, such as Fedora's"
_PRIVATE = 0o077


def _python(facts: Facts) -> Verdict:
    version = facts.host.python.version
    shown = ".".join(map(str, version))
    if version < _LEAST_PYTHON:
        return fail(f"Python {shown}", "install Python 3.11 or newer")
    return ok(f"Python {shown}")


def _runtime(facts: Facts) -> Verdict:
    found = [name for name in RUNTIMES if name in facts.host.python.modules]
    if not found:
        return fail("no TFLite runtime", "pip install --force-reinstall enclavectl: it requires one")
    return ok(" and ".join(found))


def _namespaces(facts: Facts) -> Verdict:
    if facts.host.user.uid == 0:
        return ok("root may make namespaces")
    tree = facts.tree
    closed = {
        "/proc/sys/user/max_user_namespaces": 0,
        "/proc/sys/kernel/unprivileged_userns_clone": 0,  # Debian's
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": 1,  # Ubuntu's
    }
    for name, value in closed.items():
        if tree.number(name) == value:
            return warn(
                f"{name} is {value}: users may make no namespaces here",
                "the payload of the local backend then keeps its network; it is a simulation all the same",
            )
    return ok("users may make namespaces")


def _state_dir(facts: Facts) -> Verdict:
    name = str(facts.settings.state_dir)
    found = facts.tree.facts(name)
    if found is None:
        return ok(f"{name} will be made")
    if found.uid != facts.host.user.uid:
        return fail(f"{name} belongs to user {found.uid}", "set ENCLAVECTL_STATE_DIR to a folder of your own")
    if found.permissions & _PRIVATE:
        return fail(f"{name} has mode {found.permissions:04o}, others may enter", f"chmod 700 '{name}'")
    return ok(f"{name}, mode {found.permissions:04o}")


def _wanted(facts: Facts, found: str, fix: str) -> Verdict:
    """Return a failure if the configuration names QEMU, else a warning."""
    return fail(found, fix) if facts.settings.backend == "qemu" else warn(found, fix)


def _qemu(facts: Facts) -> Verdict:
    program = _PROGRAMS.get(facts.host.machine)
    if program is None:
        return skip(f"no rule for {facts.host.machine}")
    found = facts.host.probe.find(program)
    if found is None:
        return _wanted(facts, f"{program} is not installed", _GET_QEMU)
    return ok(found)


def _machine(facts: Facts) -> Verdict:
    program = _PROGRAMS.get(facts.host.machine, "")
    answer = facts.host.probe.run(program, "-machine", "help") if program else None
    if answer is None:
        return skip("QEMU is not installed")
    if not any(line.split()[:1] == [_MACHINE] for line in answer.text.splitlines()):
        return _wanted(facts, f"{program} has no machine {_MACHINE}", _GET_QEMU)
    return ok(f"{program} has the machine {_MACHINE}")


def _vhost(facts: Facts) -> Verdict:
    found = facts.host.probe.find("vhost-device-vsock")
    if found is None:
        return _wanted(
            facts,
            "vhost-device-vsock is not installed",
            "cargo install vhost-device-vsock, or the package of that name",
        )
    return ok(found)


def _kvm(facts: Facts) -> Verdict:
    found = facts.tree.facts("/dev/kvm")
    if found is None:
        return warn("no /dev/kvm: QEMU emulates every instruction", "use a machine with virtualization")
    user = facts.host.user
    if not found.allows(os.R_OK | os.W_OK, uid=user.uid, gids=user.gids):
        return warn(f"/dev/kvm cannot be opened by {user.name}", f"sudo usermod -aG kvm {user.name}")
    return ok("/dev/kvm can be opened")


CHECKS = (
    Check(id="local.python", group=Group.LOCAL, why="enclavectl and the payload need it", examine=_python),
    Check(
        id="local.runtime",
        group=Group.LOCAL,
        why="the payload classifies with it; it is looked for without being imported",
        examine=_runtime,
    ),
    Check(
        id="local.namespaces",
        group=Group.LOCAL,
        why="the local payload leaves the network by making a namespace of its own",
        examine=_namespaces,
    ),
    Check(
        id="local.state-dir",
        group=Group.LOCAL,
        why="keys and records are in there, so nobody else may enter",
        examine=_state_dir,
    ),
    Check(
        id="qemu.program",
        group=Group.QEMU,
        scope=Scope.ELSEWHERE,
        why="it boots the same EIF bytes without Nitro hardware",
        examine=_qemu,
    ),
    Check(
        id="qemu.machine",
        group=Group.QEMU,
        scope=Scope.ELSEWHERE,
        why="only this machine type has the security module that enclaves ask for evidence",
        examine=_machine,
    ),
    Check(
        id="qemu.vhost-device-vsock",
        group=Group.QEMU,
        scope=Scope.ELSEWHERE,
        why="it carries the enclave's vsock to a socket of this machine",
        examine=_vhost,
    ),
    Check(
        id="qemu.kvm",
        group=Group.QEMU,
        scope=Scope.ELSEWHERE,
        why="without it a boot takes minutes",
        examine=_kvm,
    ),
)
