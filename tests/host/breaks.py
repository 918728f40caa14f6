"""Changes to a healthy recording of a host, each of which breaks one thing."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

from tests.host import trees

Break = Callable[[Path], None]
STATE_DIR = "/home/ec2-user/.local/state/enclavectl"


def no(*names: str) -> Break:
    def change(folder: Path) -> None:
        for name in names:
            trees.remove(folder, name)

    return change


def put(name: str, text: str | bytes) -> Break:
    return lambda folder: trees.write(folder, name, text)


def rec(**changes: object) -> Break:
    return lambda folder: trees.record(folder, **changes)


def answer(line: str, text: str, status: int = 0) -> Break:
    return rec(answers={line: {"status": status, "text": text}})


def both(*changes: Break) -> Break:
    def change(folder: Path) -> None:
        for one in changes:
            one(folder)

    return change


def nothing(_folder: Path) -> None:
    """It lacks that as it is."""


def nodes(folder: Path) -> None:
    """Two nodes, the pool on the second one, free pages on both."""
    trees.cpus(folder, cores=8, threads=2, nodes=2, offline="4-5,12-13")
    trees.memory(folder, nodes=2, total_mib=126_000)
    trees.pages(folder, 1024, 8, node=1)
    trees.pages(folder, 1024, 2, node=0)


def lock_of_another_image(folder: Path) -> None:
    (folder / "here").mkdir()
    lock = '{"schema": "enclavectl.lock/1"}'
    (folder / "here" / "enclavectl.lock.json").write_text(lock)


def logs(folder: Path) -> None:
    for number in range(21):
        trees.write(folder, f"/var/log/nitro_enclaves/err2026-{number}.log", "")


def old_images(folder: Path) -> None:
    """A defect whose fix loses something, so nobody runs it for the user."""
    trees.write(folder, "/home/ec2-user/.nitro_cli/customer-initrd.img", "")


def staged(folder: Path) -> None:
    name = f"{STATE_DIR}/local/.enclavectl-0123456789abcdef.tmp"
    trees.write(folder, name, "")
    os.utime(folder / name.lstrip("/"), (0, 0))


def device(mode: str, gid: int) -> Break:
    return rec(files={"/dev/nitro_enclaves": {"mode": mode, "uid": 0, "gid": gid}})


def context(name: str, url: str) -> Break:
    """Docker's context of that name is the chosen one."""
    meta = {"Name": name, "Metadata": {}, "Endpoints": {"docker": {"Host": url, "SkipTLSVerify": False}}}
    digest = hashlib.sha256(name.encode()).hexdigest()
    return both(
        put(DOCKER, json.dumps({"currentContext": name})),
        put(f"/home/ec2-user/.docker/contexts/meta/{digest}/meta.json", json.dumps(meta)),
    )


def cgroup2(size: str, limit: object) -> Break:
    """A pod's own cgroup namespace, version 2: its folder is the mount itself."""
    return both(
        put("/proc/self/cgroup", "0::/\n"),
        put(f"/sys/fs/cgroup/hugetlb.{size}.max", f"{limit}\n"),
        put(f"/sys/fs/cgroup/hugetlb.{size}.current", "0\n"),
    )


def cgroup1(size: str, limit: int) -> Break:
    """Version 1: the path is the node's, and only the pod's folder is mounted."""
    return both(
        put("/proc/self/cgroup", "3:hugetlb:/kubepods/pod1\n2:memory:/kubepods/pod1\n"),
        put(f"/sys/fs/cgroup/hugetlb/hugetlb.{size}.limit_in_bytes", f"{limit}\n"),
        put(f"/sys/fs/cgroup/hugetlb/hugetlb.{size}.usage_in_bytes", "0\n"),
    )


def pages_of_2_mib(folder: Path, count: int) -> None:
    trees.pages(folder, 1024, 0)
    trees.pages(folder, 2, count)


DOCKER = "/home/ec2-user/.docker/config.json"
ROOTLESS = "unix:///run/user/1000/docker.sock"
OUTSIDER = rec(user={"gids": [1000]})
GROUP_WITHOUT = "root:x:0:\nne:x:991:\ndocker:x:992:\n"
POOL = "/sys/module/nitro_enclaves/parameters/ne_cpus"
FILE = "/etc/nitro_enclaves/allocator.yaml"
SERVICE = "nitro-enclaves-allocator.service"
LOG_DIR = "/var/log/nitro_enclaves"
NO_LOG_DIR = both(no(LOG_DIR), rec(files={LOG_DIR: None, f"{LOG_DIR}/nitro_enclaves.log": None}))
KERNEL = "/proc/sys/kernel/osrelease"
BUDDY = "/proc/buddyinfo"
