"""``setup --yes`` as root on a live host: a mount namespace whose /etc, /sys and more are a fresh instance's.

The programs that it calls are executables on the PATH, which change these folders as the real ones would.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import COMMAND
from tests.host import trees
from tests.schemas.validation import parsed

BOUND = ("etc", "sys", "proc/meminfo", "usr/share", "usr/sbin", "run/nitro_enclaves", "var/log")
# Processes of its own too: another test's nitro-cli must not look like an enclave of this instance.
UNSHARE = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c"]
PROBE = [*UNSHARE, "mount --make-rprivate / && mount -t tmpfs none /mnt"]


def may_mount() -> bool:
    # The mounts must not hide the interpreter that runs us.
    hidden = str(Path(sys.executable).resolve()).startswith(tuple(f"/{name}/" for name in BOUND))
    if os.getuid() != 0 or shutil.which("unshare") is None or hidden:
        return False
    return subprocess.run(PROBE, capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(not may_mount(), reason="making mounts of one's own needs root and unshare")
MANAGER = """#!/bin/sh
echo "$(basename $0) $*" >> {log}
file=/etc/nitro_enclaves/allocator.yaml
case "$*" in
  *-devel*) mkdir -p /usr/share/nitro_enclaves/blobs; echo x > /usr/share/nitro_enclaves/blobs/cmdline ;;
  *nitro-enclaves-cli*)
    cp /bin/true /usr/sbin/nitro-cli; mkdir -p /etc/nitro_enclaves; echo ne:x:991: >> /etc/group
    printf -- '---\\r\\n# shipped\\r\\nmemory_mib: 512\\r\\n\\r\\ncpu_count: 2' > $file ;;
  *docker*) cp /bin/true /usr/sbin/dockerd; echo docker:x:992: >> /etc/group ;;
esac
"""
USERMOD = '#!/bin/sh\necho "usermod $*" >> {log}\nsed -i "s/^\\($2:.*\\)$/\\1$3/" /etc/group\n'
SYSTEMCTL = """#!/bin/sh
echo "systemctl $*" >> {log}
case "$1 $2" in
  "is-active docker.service") [ -e {folder}/docker-on ] && echo active || {{ echo inactive; exit 3; }} ;;
  "is-enabled docker.service") [ -e {folder}/docker-on ] && echo enabled || {{ echo disabled; exit 1; }} ;;
  "is-enabled nitro"*) [ -e {folder}/allocator-on ] && echo enabled || {{ echo disabled; exit 1; }} ;;
  "enable --now") touch {folder}/docker-on ;;
  "enable nitro"*) touch {folder}/allocator-on ;;
  "restart nitro"*)
    grep -q "$(printf '\\r')" /etc/nitro_enclaves/allocator.yaml && exit 1
    memory=$(sed -n 's/^memory_mib: //p' /etc/nitro_enclaves/allocator.yaml)
    echo 1-2,9-10 > /sys/module/nitro_enclaves/parameters/ne_cpus
    pages=/sys/devices/system/node/node0/hugepages/hugepages-1048576kB
    [ "$memory" -le {limit} ] || memory=0
    echo $((memory / 1024)) > $pages/nr_hugepages ;;
esac
"""


@dataclass(frozen=True)
class Instance:
    """A fresh instance of Amazon Linux 2023 under ``root``."""

    root: Path

    def run(self, *arguments: str, then: str = "true") -> tuple[int, Any, str]:
        """A command on this instance; ``then`` is run before it, when all is mounted."""
        mounts = [f"mount --bind {self.root}/{name} /{name}" for name in BOUND if Path(f"/{name}").exists()]
        script = " && ".join(["mount --make-rprivate /", *mounts, then, f'exec {COMMAND} "$@"'])
        done = subprocess.run(
            [*UNSHARE, script, "sh", *arguments, "--output", "json"],
            env={"PATH": f"{self.root}/fakes:/usr/bin:/bin", "HOME": str(self.root), "SUDO_USER": "ec2-user"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert done.stdout, done.stderr
        return done.returncode, parsed(done.stdout), done.stderr

    def ran(self) -> list[str]:
        lines = (self.root / "log").read_text().splitlines()
        return [line for line in lines if " is-" not in line]


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    root = trees.fresh(tmp_path / "host", "al2023")
    for name in BOUND:
        if name != "proc/meminfo":
            (root / name).mkdir(parents=True, exist_ok=True)
    prepare(root, limit=1 << 20)
    return Instance(root)


def prepare(root: Path, *, limit: int) -> None:
    (root / "fakes").mkdir(exist_ok=True)
    (root / "log").touch()
    fakes = {"dnf": MANAGER, "usermod": USERMOD, "systemctl": SYSTEMCTL, "modprobe": "#!/bin/sh\n"}
    for name, text in fakes.items():
        program = root / "fakes" / name
        program.write_text(text.format(log=root / "log", folder=root, limit=limit))
        program.chmod(0o755)


def test_a_fresh_instance_becomes_a_nitro_host_and_stays_one(instance: Instance) -> None:
    code, answer, err = instance.run("setup")
    assert code == 2, err
    assert answer["error"]["code"] == "needs-yes"
    assert instance.ran() == []
    code, answer, err = instance.run("setup", "--yes")
    states = {step["id"]: step["state"] for step in answer["steps"]}
    # This machine has no /dev/nitro_enclaves, which a mount cannot give it.
    assert states.pop("driver") == "skipped", answer
    assert states.pop("sizes") == "already"
    assert set(states.values()) == {"done"}, (answer, err)
    assert code == 3
    assert instance.ran() == [
        "dnf install docker -y",
        "dnf install aws-nitro-enclaves-cli -y",
        "dnf install aws-nitro-enclaves-cli-devel -y",
        "systemctl enable --now docker",
        "usermod -aG ne ec2-user",
        "usermod -aG docker ec2-user",
        "systemctl restart nitro-enclaves-allocator.service",
        "systemctl enable nitro-enclaves-allocator.service",
    ]
    file = instance.root / "etc/nitro_enclaves/allocator.yaml"
    assert file.read_bytes() == b"---\n# shipped\nmemory_mib: 8192\n#\ncpu_count: 4\n"
    assert len(list(file.parent.glob("allocator.yaml.*.bak"))) == 1
    assert answer["login"]["needed"] is True
    before = instance.ran()
    _, again, _ = instance.run("setup", "--yes")
    assert {step["state"] for step in again["steps"] if step["id"] != "driver"} == {"already"}
    assert instance.ran() == before


def test_what_the_host_cannot_keep_is_rolled_back(instance: Instance) -> None:
    instance.run("setup", "--yes")
    prepare(instance.root, limit=8192)
    file = instance.root / "etc/nitro_enclaves/allocator.yaml"
    before = file.read_bytes()
    code, answer, _ = instance.run("setup", "--yes", "--memory", "16384")
    assert code == 3
    failed = next(step for step in answer["steps"] if step["state"] == "failed")
    assert failed["id"] == "allocator-restart"
    assert "the old file and the old reservation were put back" in failed["detail"]
    assert "--at-next-boot" in failed["hint"]
    assert file.read_bytes() == before
    pages = instance.root / "sys/devices/system/node/node0/hugepages/hugepages-1048576kB/nr_hugepages"
    assert pages.read_text() == "8\n"


def test_an_etc_that_is_read_only_is_told_and_nothing_is_half_written(instance: Instance) -> None:
    instance.run("setup", "--yes")
    etc = instance.root / "etc"
    before = {path: path.read_bytes() for path in etc.rglob("*") if path.is_file()}
    read_only = "mount -o remount,bind,ro /etc"
    code, answer, _ = instance.run("setup", "--yes", "--memory", "4096", then=read_only)
    assert code == 3
    failed = next(step for step in answer["steps"] if step["state"] == "failed")
    assert failed["id"] == "allocator-file"
    assert "Read-only file system" in failed["detail"]
    assert {path: path.read_bytes() for path in etc.rglob("*") if path.is_file()} == before


def test_doctor_makes_what_is_missing_and_looks_again(instance: Instance) -> None:
    instance.run("setup", "--yes")
    code, answer, _ = instance.run("doctor", "--fix")
    assert code == 2
    assert answer["error"]["code"] == "needs-yes"
    code, answer, _ = instance.run("doctor", "--fix", "--yes")
    fixes = {one["id"]: one for one in answer["fixes"]}
    folder = instance.root / "var/log/nitro_enclaves"
    assert fixes["permissions.log-dir"]["state"] == "done"
    assert folder.is_dir()
    assert (folder.stat().st_gid, folder.stat().st_mode & 0o777) == (991, 0o775)
    checks = {one["id"]: one for one in answer["checks"]}
    assert checks["permissions.log-dir"]["state"] == "ok"
    assert code == 3  # this machine has no /dev/nitro_enclaves
