"""What can be wrong on a host with the other backends and with a gateway, as in ``defects``."""

from __future__ import annotations

from enclavectl.host.checks.base import State
from enclavectl.host.checks.gateway import ANNOUNCED, CERTIFICATE, KEY, UNIT
from tests.host.breaks import KERNEL, STATE_DIR, Break, answer, both, nothing, put, rec
from tests.host.defects import F, Row, W

GATEWAY = put(UNIT, "[Service]\n")


def qemu(version: str, machines: str, accelerators: str = "tcg") -> Break:
    """A QEMU on the PATH, as it answers."""
    told = {"--version": f"QEMU emulator version {version}", "-M help": machines, "-accel help": accelerators}
    return both(
        rec(programs={"qemu-system-x86_64": "/usr/bin/qemu-system-x86_64"}),
        *(answer(f"/usr/bin/qemu-system-x86_64 {words}", text) for words, text in told.items()),
    )


QEMU_9_1 = qemu("9.1.4", "nitro-enclave        AWS Nitro Enclave")
QEMU_BARE = qemu("10.0.2", "microvm              microvm (i386)")
QEMU_KVM_CLOSED = both(
    qemu("10.0.2", "nitro-enclave        AWS Nitro Enclave", "kvm"),
    rec(files={"/dev/kvm": {"mode": "020660", "uid": 0, "gid": 36}}),
)
BACKEND_ROWS = [
    Row("qemu.machine", rec(machine="aarch64"), F, "an x86_64 one", "backend to local", {"backend": "qemu"}),
    Row("qemu.program", nothing, F, "found none", "make qemu", {"backend": "qemu"}),
    Row("qemu.program", QEMU_9_1, F, "found 9.1.4", "make qemu", {"backend": "qemu"}),
    Row("qemu.program", QEMU_BARE, F, "without the machine nitro-enclave", "", {"backend": "qemu"}),
    Row("qemu.kvm", QEMU_KVM_CLOSED, W, "is not open to ec2-user", "usermod -aG kvm"),
    Row("gateway.user", GATEWAY, F, "no group enclavectl-gateway", "sudo useradd"),
    Row("gateway.announced", GATEWAY, F, "hears of no enclave", "sudo install -d"),
    Row(
        "gateway.announced",
        both(GATEWAY, rec(files={ANNOUNCED: {"mode": "040777", "uid": 0, "gid": 0}})),
        F,
        "written by everybody",
        "2750",
    ),
    Row("gateway.certificate", GATEWAY, F, "no /etc/enclavectl/gateway/cert.pem", "in PEM"),
    Row(
        "gateway.certificate",
        both(
            GATEWAY,
            put(CERTIFICATE, ""),
            put(KEY, ""),
            rec(files={KEY: {"mode": "100644", "uid": 0, "gid": 0}}),
        ),
        W,
        "read by everybody",
        "chmod 640",
    ),
    Row("local.python", rec(python={"version": [3, 10, 4]}), F, "Python 3.10.4"),
    Row("local.runtime", rec(python={"modules": []}), F, "no TFLite runtime"),
    Row("local.sandbox", put(KERNEL, "5.10.1-1.x86_64\n"), W, "without a file tree of its own"),
    Row("local.sandbox", put(KERNEL, "5.12.0\n"), W, "without Landlock (Linux 5.12.0, needed is 5.13)"),
    Row("local.sandbox", put("/sys/kernel/security/lsm", "lockdown,yama\n"), W, "are lockdown,yama"),
    Row("local.sandbox", rec(machine="riscv64"), W, "no table of calls for riscv64"),
    Row("local.namespaces", put("/proc/sys/user/max_user_namespaces", "0\n"), W, "is 0"),
    Row("local.namespaces", put("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n"), W, "is 1"),
    Row(
        "local.state-dir",
        rec(files={STATE_DIR: {"mode": "040755", "uid": 1000, "gid": 1000}}),
        F,
        "others may enter",
        "chmod 700",
    ),
    Row("local.state-dir", rec(files={STATE_DIR: {"mode": "040700", "uid": 0, "gid": 0}}), F, "user 0"),
    Row(
        "local.state-dir",
        rec(
            files={"/home": {"mode": "040755", "uid": 0, "gid": 0}}
        ),  # a random user, whose home is not there
        F,
        "may not write to /home",
        "set ENCLAVECTL_STATE_DIR",
    ),
    Row(
        "local.state-dir",
        rec(files={"/home/ec2-user": {"mode": "040700", "uid": 1000, "gid": 1000}}),
        State.OK,
        "will be made",
    ),
]
