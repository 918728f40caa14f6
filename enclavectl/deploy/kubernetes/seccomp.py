"""The seccomp profile of our containers on clusters that demand one: what runtimes refuse, and AF_VSOCK.

The default profiles of containerd and Docker refuse sockets of AF_VSOCK, without which nobody reaches an
enclave (https://github.com/containerd/containerd/pull/7510). This one refuses what they refuse, call by call,
and lets the rest through. Our containers have no capabilities, so the kernel refuses most of it anyway.
"""

from __future__ import annotations

import json

# In a rule's comment, which engines pass over: JSON itself has none.
PROFILE_MARK = "Written by enclavectl fleet; written anew by the next one."
PROFILE_FILE = "enclavectl-vsock.json"
# Below /var/lib/kubelet/seccomp of each node.
LOCALHOST_PROFILE = f"enclavectl/{PROFILE_FILE}"
_EPERM, _ENOSYS = 1, 38
_REFUSED = (
    *("acct", "add_key", "bpf", "clock_adjtime", "clock_settime", "create_module", "delete_module"),
    *("fanotify_init", "finit_module", "fsconfig", "fsmount", "fsopen", "fspick", "get_kernel_syms"),
    *("init_module", "io_uring_enter", "io_uring_register", "io_uring_setup", "ioperm", "iopl", "kcmp"),
    *("kexec_file_load", "kexec_load", "keyctl", "lookup_dcookie", "mount", "mount_setattr", "move_mount"),
    *("move_pages", "nfsservctl", "open_by_handle_at", "open_tree", "perf_event_open", "pivot_root"),
    *("process_vm_readv", "process_vm_writev", "ptrace", "query_module", "quotactl", "quotactl_fd"),
    *("reboot", "request_key", "setdomainname", "sethostname", "setns", "settimeofday", "stime", "swapoff"),
    *("swapon", "sysfs", "_sysctl", "syslog", "umount", "umount2", "unshare", "uselib", "userfaultfd"),
    *("ustat", "vhangup", "vm86", "vm86old"),
)
# CLONE_NEW*: time, mount, cgroup, UTS, IPC, user, PID, network namespaces.
_NAMESPACES = (
    *(0x00000080, 0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000),
)
# Families that containers have no use for: AX.25, key, packet, RDS, CAN, TIPC, Bluetooth, ALG, XDP.
_FAMILIES = (3, 15, 17, 21, 29, 30, 31, 38, 44)


def seccomp_profile() -> bytes:
    """Return the profile as its file's content."""
    rules: list[dict[str, object]] = [
        {"comment": PROFILE_MARK, "names": list(_REFUSED), "action": "SCMP_ACT_ERRNO", "errnoRet": _EPERM}
    ]
    # clone3 passes its flags in memory, where no filter sees them; C libraries then fall back to clone.
    rules.append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS})
    for flag in _NAMESPACES:
        masked = {"index": 0, "value": flag, "valueTwo": flag, "op": "SCMP_CMP_MASKED_EQ"}
        rules.append({"names": ["clone"], "action": "SCMP_ACT_ERRNO", "errnoRet": _EPERM, "args": [masked]})
    for family in _FAMILIES:
        equal = {"index": 0, "value": family, "op": "SCMP_CMP_EQ"}
        rules.append({"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": _EPERM, "args": [equal]})
    architectures = [
        {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
    ]
    # Short: it also travels in user data, which has 16 KiB.
    lines = (json.dumps(rule) for rule in rules)
    head = {"defaultAction": "SCMP_ACT_ALLOW", "archMap": architectures}
    text = json.dumps(head)[:-1] + ', "syscalls": [\n' + ",\n".join(lines) + "\n]}\n"
    return text.encode()
