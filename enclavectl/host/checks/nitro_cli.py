"""Checks of nitro-cli and its parts: versions, helpers, boot files, vsock."""

from __future__ import annotations

import os
import re
from errno import EACCES, EPERM

from enclavectl.artifacts.boot_files import NITRO_BLOBS
from enclavectl.eif.format import Arch, arch_named
from enclavectl.host.checks.base import (
    Check,
    Scope,
    State,
    Verdict,
    fail,
    fix_with,
    not_applicable,
    ok,
    skip,
    warn,
)
from enclavectl.host.checks.facts import Facts
from enclavectl.nitro_cli.version import OLDEST, NitroVersion

# The features of releases, newest first: https://github.com/aws/aws-nitro-enclaves-cli/releases
_GATES: tuple[tuple[NitroVersion, str], ...] = (
    (
        NitroVersion(1, 5, 0),
        "a signed build whose key cannot be read exits 0 and leaves the image unsigned before it",
    ),
    (NitroVersion(1, 4, 0), "no sign-eif and no KMS keys before it"),
    (NitroVersion(1, 3, 2), "its linuxkit and Docker client fail with Docker 25 and newer before it"),
    (NitroVersion(1, 2, 3), "memory in MiB only, without a suffix, before it"),
    (NitroVersion(1, 2, 0), "no --attach-console and no describe-enclaves --metadata before it"),
)
_READY_PORT = 9000  # ENCLAVE_READY_VSOCK_PORT of nitro-cli
_PROXY_LIST = "/etc/nitro_enclaves/vsock-proxy.yaml"
_ALLOW_VSOCK = (
    "a container's seccomp profile, or SELinux or AppArmor, forbids it: docker run --security-opt "
    "seccomp=PROFILE with a profile that allows socket(AF_VSOCK)"
)
_ALLOW_VSOCK_IN_POD = (
    "the pod's seccomp profile forbids it, as RuntimeDefault does: take a Localhost profile that allows it "
    "(enclavectl fleet render --pod-security restricted writes one), or none (--pod-security baseline)"
)
_OTHER_PROGRAMS = ("lscpu", "file")  # AWS's allocator calls them, but its package does not require them


def _present(facts: Facts) -> Verdict:
    found = facts.host.probe.find("nitro-cli")
    if found is None:
        return fail("nitro-cli is not installed", "enclavectl setup")
    return ok(found)


def _version(facts: Facts) -> Verdict:
    if facts.host.probe.find("nitro-cli") is None:
        return skip("nitro-cli is not installed")
    version = facts.nitro_cli
    if version is None:
        return fail("nitro-cli --version says no version", "nitro-cli --version; enclavectl setup")
    if version < OLDEST:
        return fail(f"nitro-cli {version}, enclavectl needs {OLDEST}", "upgrade aws-nitro-enclaves-cli")
    missed = [f"{gate}: {what}" for gate, what in _GATES if version < gate]
    if missed:
        return warn(
            f"nitro-cli {version}; {'; '.join(missed)}", "upgrade aws-nitro-enclaves-cli if one matters"
        )
    return ok(f"nitro-cli {version}")


def _tools(facts: Facts) -> Verdict:
    missing = [name for name in _OTHER_PROGRAMS if facts.host.probe.find(name) is None]
    if len(facts.memory.nodes) > 1 and facts.host.probe.find("numactl") is None:
        missing.append("numactl")
    if missing:
        return warn(f"not installed: {', '.join(missing)}", f"install them: {' '.join(missing)}")
    return ok("lscpu and file are installed")


def _environment(facts: Facts) -> Verdict:
    environ = facts.host.environ
    if not environ.get("HOME") and not environ.get("NITRO_CLI_ARTIFACTS"):
        return warn(
            "neither HOME nor NITRO_CLI_ARTIFACTS is set", "export HOME; in a unit: Environment=HOME=..."
        )
    odd = [name for name in ("NITRO_CLI_LOGS_PATH", "NITRO_CLI_SOCKETS_PATH") if environ.get(name)]
    if odd:
        return warn(
            f"{' and '.join(odd)} move what others expect in the usual folders", f"unset {' '.join(odd)}"
        )
    return ok("HOME is set, and nitro-cli's folders are the usual ones")


def _proxy(facts: Facts) -> Verdict:
    if facts.host.probe.find("vsock-proxy") is None:
        return warn("vsock-proxy is not installed", "enclavectl setup; only enclaves that call out need it")
    if not facts.tree.exists(_PROXY_LIST):
        return warn(f"no {_PROXY_LIST}", "enclavectl units --endpoint PORT:HOST:PORT writes a list")
    return ok(f"vsock-proxy, and its list {_PROXY_LIST}")


def _blobs(facts: Facts) -> Verdict:
    folder = facts.host.environ.get("NITRO_CLI_BLOBS") or str(NITRO_BLOBS)
    kernel = (arch_named(facts.host.machine) or Arch.X86_64).kernel_name
    names = (kernel, f"{kernel}.config", "cmdline", "init", "nsm.ko", "linuxkit")
    missing = [name for name in names if not facts.tree.exists(f"{folder}/{name}")]
    if len(missing) == len(names):
        return warn(
            f"no boot files in {folder}",
            "enclavectl setup; on a machine without that package: enclavectl kernel prepare --to DIR",
        )
    if missing:
        return warn(f"{folder} lacks {', '.join(missing)}", "reinstall aws-nitro-enclaves-cli-devel")
    lines = (facts.tree.text(f"{folder}/{kernel}.config") or "").splitlines()
    release = re.search(r"[0-9]+\.[0-9]+\.\S+", lines[2]) if len(lines) > 2 else None
    return ok(f"{folder}, kernel {release[0] if release else 'of unknown release'}")


def _port(facts: Facts) -> Verdict:
    answer = facts.host.probe.run("ss", "-l", "-n", "--vsock")
    if answer is None:
        return skip("no ss here, which lists the vsock listeners")
    if answer.status != 0:
        return skip(f"ss -l -n --vsock: {answer.text.strip()[:80]}")
    if _READY_PORT not in listening_ports(answer.text):
        return ok(f"nothing listens on vsock port {_READY_PORT}")
    if facts.running.pids and len(facts.running.pids) > len(facts.running.sockets):
        return warn(
            f"port {_READY_PORT} is in use by an enclave that boots", "wait: one enclave boots at a time"
        )
    return fail(
        f"something listens on vsock port {_READY_PORT}", "sudo ss -l -p --vsock names it; move it elsewhere"
    )


def listening_ports(table: str) -> frozenset[int]:
    """Return the local ports in the output of ss: the last number of the fifth column."""
    rows = (line.split() for line in table.splitlines())
    ports = (row[4].rpartition(":")[2] for row in rows if len(row) > 4)
    return frozenset(int(port) for port in ports if port.isascii() and port.isdigit())


def _vsock(facts: Facts) -> Verdict:
    if facts.tree.exists("/dev/vsock"):
        return ok("/dev/vsock")
    error = facts.host.probe.vsock_error()
    if error is None:
        # Only the question for one's own CID needs the device; containers rarely have it.
        return ok("no /dev/vsock, and none is needed: a vsock socket can be made")
    if facts.is_pod:
        return not_applicable("no /dev/vsock, which a pod does not need; the sockets are what counts")
    return fix_with(State.FAIL, "no /dev/vsock", "modprobe", "vsock")


def _vsock_socket(facts: Facts) -> Verdict:
    error = facts.host.probe.vsock_error()
    if error is None:
        return ok("a vsock socket can be made")
    reason = f"no vsock socket can be made ({os.strerror(error)})"
    if error in {EPERM, EACCES}:
        found = f"{reason}: this process may not, whatever the kernel has"
        fix = _ALLOW_VSOCK_IN_POD if facts.is_pod else _ALLOW_VSOCK
        return fail(found, fix) if facts.expects_nitro else warn(found, fix)
    if facts.expects_nitro:
        return fix_with(State.FAIL, reason, "modprobe", "vsock")
    return not_applicable(f"{reason}; only enclaves on vsock need one")


CHECKS = (
    Check(
        id="nitro-cli.present",
        scope=Scope.NITRO,
        why="enclaves are started, listed and ended through it",
        examine=_present,
    ),
    Check(
        id="nitro-cli.version",
        scope=Scope.NITRO,
        why="releases differ in what they can do and in which of their errors they tell",
        examine=_version,
    ),
    Check(
        id="nitro-cli.tools",
        scope=Scope.NODE,
        why="AWS's allocator calls programs that its package does not install",
        examine=_tools,
    ),
    Check(
        id="nitro-cli.environment",
        scope=Scope.NITRO,
        why="without HOME or NITRO_CLI_ARTIFACTS nitro-cli ends with E51; moved folders hide enclaves",
        examine=_environment,
    ),
    Check(
        id="nitro-cli.vsock-proxy",
        scope=Scope.NODE,
        why="an enclave has no network; calls to the outside go through it, to hosts of its list only",
        examine=_proxy,
    ),
    Check(
        id="blobs.files",
        scope=Scope.NODE,
        why="a build needs a kernel and an init; they are measured, so upgrading them changes PCR0 and PCR1",
        examine=_blobs,
    ),
    Check(
        id="vsock.device",
        scope=Scope.NITRO,
        why="the parent talks to its enclaves over vsock only",
        examine=_vsock,
    ),
    Check(
        id="vsock.socket",
        why="the device may be there while a container's filter refuses the sockets",
        examine=_vsock_socket,
    ),
    Check(
        id="vsock.port-9000",
        scope=Scope.NITRO,
        why="a booting enclave reports to nitro-cli there; while it is taken every launch fails (E36)",
        examine=_port,
    ),
)
