"""Recorded hosts, built by functions: a healthy one of each system, and small changes that break it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from enclavectl.host.cpu_list import format_cpu_list, parse_cpu_list
from enclavectl.host.host import Host
from enclavectl.host.recording import RECORDING, recorded_host

OS_RELEASE = {
    "al2": 'NAME="Amazon Linux"\nVERSION="2"\nID="amzn"\nID_LIKE="centos rhel fedora"\nVERSION_ID="2"\n'
    'PRETTY_NAME="Amazon Linux 2"\n',
    "al2023": 'NAME="Amazon Linux"\nID="amzn"\nID_LIKE="fedora"\nVERSION_ID="2023"\n'
    'PRETTY_NAME="Amazon Linux 2023"\n',
    "ubuntu": 'PRETTY_NAME="Ubuntu 24.04 LTS"\nID=ubuntu\nID_LIKE=debian\nVERSION_ID="24.04"\n',
    "debian": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n',
    "fedora": 'NAME="Fedora Linux"\nID=fedora\nVERSION_ID=42\nPRETTY_NAME="Fedora Linux 42"\n',
    "rhel": 'ID="rhel"\nID_LIKE="fedora"\nVERSION_ID="9.4"\nPRETTY_NAME="Red Hat Enterprise Linux 9.4"\n',
    "rocky": 'ID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.4"\nPRETTY_NAME="Rocky Linux 9.4"\n',
}
ALLOCATOR = "---\n# How much memory (in MiB).\nmemory_mib: 8192\n# How many CPUs.\ncpu_count: 4\n"
PASSWD = "root:x:0:0:root:/root:/bin/bash\nec2-user:x:1000:1000:EC2:/home/ec2-user:/bin/bash\n"
GROUP = "root:x:0:\nec2-user:x:1000:\nne:x:991:ec2-user\ndocker:x:992:ec2-user\n"
UNIX_HEADER = "Num       RefCount Protocol Flags    Type St Inode Path\n"
MIB = 1 << 20


def write(folder: Path, name: str, text: str | bytes) -> None:
    path = folder / name.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


def remove(folder: Path, name: str) -> None:
    path = folder / name.lstrip("/")
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def pool(*cpus: int) -> frozenset[int]:
    return frozenset(cpus)


def record(folder: Path, **changes: Any) -> None:
    """Change the recording: objects are merged one level deep, a None in one removes its key."""
    path = folder / RECORDING
    value = json.loads(path.read_text()) if path.exists() else {}
    for key, change in changes.items():
        if isinstance(change, Mapping) and isinstance(value.get(key), dict) and key != "engine":
            merged = {**value[key], **change}
            value[key] = {name: one for name, one in merged.items() if one is not None}
        else:
            value[key] = change
    path.write_text(json.dumps(value))


def pages(folder: Path, size_mib: int, reserved: int, free: int | None = None, *, node: int = 0) -> None:
    base = f"/sys/devices/system/node/node{node}/hugepages/hugepages-{size_mib * 1024}kB"
    write(folder, f"{base}/nr_hugepages", f"{reserved}\n")
    write(folder, f"{base}/free_hugepages", f"{reserved if free is None else free}\n")


def cpus(folder: Path, *, cores: int = 8, threads: int = 2, offline: str = "", nodes: int = 1) -> None:
    """Cores numbered as on EC2: the siblings of core c are c and c + cores."""
    base = "/sys/devices/system/cpu"
    shutil.rmtree(folder / base.lstrip("/"), ignore_errors=True)
    count = cores * threads
    off = parse_cpu_list(offline)
    write(folder, f"{base}/present", f"0-{count - 1}\n")
    write(folder, f"{base}/online", format_cpu_list(set(range(count)) - off) + "\n")
    for cpu in range(count):
        core = cpu % cores
        write(folder, f"{base}/cpu{cpu}/node{core * nodes // cores}/.keep", "")
        if cpu not in off:
            siblings = format_cpu_list(core + cores * thread for thread in range(threads))
            write(folder, f"{base}/cpu{cpu}/topology/thread_siblings_list", siblings + "\n")
    write(folder, "/sys/module/nitro_enclaves/parameters/ne_cpus", f"{offline}\n")


def memory(folder: Path, *, total_mib: int = 63_000, available_mib: int = 50_000, nodes: int = 1) -> None:
    write(
        folder,
        "/proc/meminfo",
        f"MemTotal:       {total_mib * 1024} kB\nMemFree: 1 kB\nMemAvailable:   {available_mib * 1024} kB\n",
    )
    shutil.rmtree(folder / "sys/devices/system/node", ignore_errors=True)
    for node in range(nodes):
        base = f"/sys/devices/system/node/node{node}"
        write(folder, f"{base}/meminfo", f"Node {node} MemTotal:       {total_mib // nodes * 1024} kB\n")
        pages(folder, 1024, 0, node=node)
        pages(folder, 2, 0, node=node)


def healthy(folder: Path, system: str = "al2023") -> Path:
    """An m5.4xlarge with the tutorial's 8192 MiB and 4 CPUs kept for enclaves, and all that a build needs."""
    folder.mkdir(exist_ok=True)
    write(folder, "/etc/os-release", OS_RELEASE[system])
    write(folder, "/etc/passwd", PASSWD)
    write(folder, "/etc/group", GROUP)
    write(folder, "/etc/nitro_enclaves/allocator.yaml", ALLOCATOR)
    write(folder, "/proc/sys/kernel/osrelease", "6.1.94-99.176.amzn2023.x86_64\n")
    write(folder, "/proc/net/unix", UNIX_HEADER)
    write(folder, "/proc/buddyinfo", "Node 0, zone   Normal    10 10 10 10 10 10 10 10 10 10 8000\n")
    cpus(folder, offline="1-2,9-10")
    memory(folder)
    pages(folder, 1024, 8)
    device = "/sys/bus/pci/devices/0000:00:02.0"
    write(folder, f"{device}/vendor", "0x1d0f\n")
    write(folder, f"{device}/device", "0xe4c1\n")
    for name in ("bzImage", "bzImage.config", "cmdline", "init", "nsm.ko", "linuxkit"):
        write(folder, f"/usr/share/nitro_enclaves/blobs/{name}", name)
    write(folder, "/etc/nitro_enclaves/vsock-proxy.yaml", "allowlist:\n")
    write(folder, "/run/nitro_enclaves/.keep", "")
    write(folder, "/var/log/nitro_enclaves/nitro_enclaves.log", "")
    for program in ("nitro-cli", "dockerd", "docker", "vsock-proxy", "nitro-enclaves-allocator"):
        write(folder, f"/usr/bin/{program}", "")
    record(
        folder,
        user={"name": "ec2-user", "uid": 1000, "gids": [1000, 991, 992]},
        python={"version": [3, 11, 7], "modules": ["tflite_runtime"]},
        machine="x86_64",
        now="2026-11-24T12:00:00+00:00",
        environ={"HOME": "/home/ec2-user"},
        files={
            "/dev/nitro_enclaves": {"mode": "020660", "uid": 0, "gid": 991},
            "/dev/vsock": {"mode": "020666", "uid": 0, "gid": 0},
            "/run/nitro_enclaves": {"mode": "040775", "uid": 0, "gid": 991},
            "/var/log/nitro_enclaves": {"mode": "040775", "uid": 0, "gid": 991},
            "/var/log/nitro_enclaves/nitro_enclaves.log": {"mode": "0100664", "uid": 0, "gid": 991},
            "/var/run/docker.sock": {"mode": "0140660", "uid": 0, "gid": 992},
        },
        free={"/": 100 << 30},
        programs={
            name: f"/usr/bin/{name}"
            for name in ("nitro-cli", "vsock-proxy", "systemctl", "ss", "numactl", "file", "lscpu", "jq")
        },
        answers={
            "nitro-cli --version": {"status": 0, "text": "Nitro CLI 1.4.3\n"},
            "systemctl is-enabled nitro-enclaves-allocator.service": {"status": 0, "text": "enabled\n"},
            "systemctl is-active nitro-enclaves-allocator.service": {"status": 0, "text": "active\n"},
            "systemctl is-enabled docker.service": {"status": 0, "text": "enabled\n"},
            "systemctl is-active docker.service": {"status": 0, "text": "active\n"},
            "ss -l -n --vsock": {"status": 0, "text": SS_HEADER},
        },
        engine={"Version": "25.0.3", "ApiVersion": "1.44", "MinAPIVersion": "1.24"},
        vsock=None,
    )
    return folder


SS_HEADER = "Netid State  Recv-Q Send-Q Local Address:Port Peer Address:Port\n"


def fresh(folder: Path, system: str) -> Path:
    """An instance with enclaves enabled on which nothing has been installed."""
    healthy(folder, system)
    for name in (
        *("nitro-cli", "dockerd", "docker", "vsock-proxy", "nitro-enclaves-allocator"),
        *("share/nitro_enclaves",),
    ):
        remove(folder, f"/usr/{name if '/' in name else f'bin/{name}'}")
    remove(folder, "/etc/nitro_enclaves")
    remove(folder, "/run/nitro_enclaves")
    remove(folder, "/var/log/nitro_enclaves")
    write(folder, "/etc/group", "root:x:0:\nec2-user:x:1000:\n")
    cpus(folder)
    pages(folder, 1024, 0)
    record(
        folder,
        user={"gids": [1000]},
        files=dict.fromkeys(
            (
                "/run/nitro_enclaves",
                "/var/log/nitro_enclaves",
                "/var/log/nitro_enclaves/nitro_enclaves.log",
                "/var/run/docker.sock",
            )
        ),
        programs={"nitro-cli": None, "vsock-proxy": None},
        answers={
            "systemctl is-enabled nitro-enclaves-allocator.service": {"status": 1, "text": "not-found\n"},
            "systemctl is-active nitro-enclaves-allocator.service": {"status": 3, "text": "inactive\n"},
            "systemctl is-enabled docker.service": {"status": 1, "text": "not-found\n"},
            "systemctl is-active docker.service": {"status": 3, "text": "inactive\n"},
        },
        engine="/var/run/docker.sock: No such file or directory",
    )
    return folder


def laptop(folder: Path) -> Path:
    """A machine that has nothing to do with Nitro: two cores, no driver, no device."""
    healthy(folder, "debian")
    for name in ("/sys/module", "/sys/bus", "/etc/nitro_enclaves", "/run/nitro_enclaves"):
        remove(folder, name)
    for name in ("/var/log/nitro_enclaves", "/usr/bin/nitro-cli", "/usr/share/nitro_enclaves"):
        remove(folder, name)
    cpus(folder, cores=2, threads=1)
    remove(folder, "/sys/module")
    memory(folder, total_mib=16_000, available_mib=8_000)
    write(folder, "/proc/sys/user/max_user_namespaces", "63000\n")
    record(
        folder,
        files=dict.fromkeys(
            (
                "/dev/nitro_enclaves",
                "/run/nitro_enclaves",
                "/var/log/nitro_enclaves",
                "/var/log/nitro_enclaves/nitro_enclaves.log",
            )
        ),
        programs={"nitro-cli": None, "vsock-proxy": None},
        answers={"nitro-cli --version": None},
    )
    return folder


def enclave(folder: Path, slot: str = "1904e4fea1636f6", *, alive: bool = True) -> None:
    """An enclave's socket; one that is alive is bound."""
    name = f"/run/nitro_enclaves/{slot}.sock"
    write(folder, name, "")
    if alive:
        table = (folder / "proc/net/unix").read_text()
        write(folder, "/proc/net/unix", f"{table}0000000000000000: 2 0 10000 0001 01 12345 {name}\n")


def host(folder: Path) -> Host:
    return recorded_host(folder)
