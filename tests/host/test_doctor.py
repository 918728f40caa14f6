"""Every check of the doctor on recorded hosts: one that is well, and each way in which one is not."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from enclavectl.eif.examine import measure_image
from enclavectl.errors import HostError
from enclavectl.host.checks.base import Check, Group, Result, State, ok, run_check
from enclavectl.host.checks.facts import Facts, Wishes, parse_version
from enclavectl.host.checks.nitro_cli import listening_ports
from enclavectl.host.doctor import CHECKS, by_group, examine_host, fixable, has_failed, run_fixes
from enclavectl.host.hands import Action
from enclavectl.image.lock import Lock
from tests.cli.command import Done, enclavectl
from tests.eif import samples
from tests.host import trees

Break = Callable[[Path], None]
STATE_DIR = "/home/ec2-user/.local/state/enclavectl"


def facts_of(folder: Path, *, backend: str = "auto", memory_mib: int = 8192, cpus: int = 4) -> Facts:
    (folder / "here").mkdir(exist_ok=True)
    wishes = Wishes(
        backend=backend,
        memory_mib=memory_mib,
        cpus=cpus,
        folder=folder / "here",
        state_dir=Path(STATE_DIR),
        data_dir=Path("/home/ec2-user/.local/share/enclavectl"),
    )
    return Facts(trees.host(folder), wishes)


def verdicts(facts: Facts) -> dict[str, Result]:
    return {result.check.id: result for result in examine_host(facts)}


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


OUTSIDER = rec(user={"gids": [1000]})
GROUP_WITHOUT = "root:x:0:\nne:x:991:\ndocker:x:992:\n"
POOL = "/sys/module/nitro_enclaves/parameters/ne_cpus"
FILE = "/etc/nitro_enclaves/allocator.yaml"
SERVICE = "nitro-enclaves-allocator.service"
LOG_DIR = "/var/log/nitro_enclaves"
NO_LOG_DIR = both(no(LOG_DIR), rec(files={LOG_DIR: None, f"{LOG_DIR}/nitro_enclaves.log": None}))
KERNEL = "/proc/sys/kernel/osrelease"
BUDDY = "/proc/buddyinfo"


@dataclass(frozen=True)
class Row:
    """What is done to a healthy host, and how the check then stands."""

    check: str
    change: Break
    state: State
    found: str
    fix: str = ""
    wishes: dict[str, object] = field(default_factory=dict)


W, F, S = State.WARN, State.FAIL, State.SKIP
NO_PCI = no("/sys/bus")
ROWS = [
    Row(
        "instance.kind",
        both(
            NO_PCI,
            rec(files={"/dev/nitro_enclaves": None}),
            put("/sys/class/dmi/id/board_vendor", "Amazon EC2\n"),
        ),
        W,
        "not enabled",
        "enclaveOptions",
    ),
    Row("instance.pci-device", NO_PCI, W, "no device 1d0f:e4c1", "lspci"),
    Row("instance.pci-device", both(NO_PCI, rec(files={"/dev/nitro_enclaves": None})), F, "no EC2 instance"),
    Row("instance.driver", no("/sys/module"), F, "not loaded", "sudo modprobe nitro_enclaves"),
    Row("instance.device-node", rec(files={"/dev/nitro_enclaves": None}), F, "not enabled"),
    Row("instance.device-node", device("0100644", 0), F, "is no device"),
    Row("instance.kernel", put(KERNEL, "5.4.0-aws"), F, "came with 5.10.0", "upgrade the kernel"),
    Row("instance.kernel", put(KERNEL, "4.14.197-1.amzn2.x86_64"), F, "4.14.198"),
    Row("instance.kernel", both(put(KERNEL, "5.15.1"), rec(machine="aarch64")), F, "5.16.0"),
    Row("instance.kernel", put(KERNEL, "strange"), S, "no rule"),
    Row("instance.distribution", put("/etc/os-release", trees.OS_RELEASE["ubuntu"]), W, "no package"),
    Row("instance.distribution", put("/etc/os-release", "ID=plan9"), S, "expected one of"),
    Row("permissions.group-ne", OUTSIDER, F, "this login is older", "log out and in again"),
    Row("permissions.group-ne", both(OUTSIDER, put("/etc/group", GROUP_WITHOUT)), F, "not in the group ne"),
    Row("permissions.group-ne", put("/etc/group", "root:x:0:\n"), F, "no group ne", "enclavectl setup"),
    Row("permissions.group-docker", OUTSIDER, W, "this login is older", "newgrp docker"),
    Row("permissions.device", OUTSIDER, F, "cannot be opened by ec2-user"),
    Row("permissions.device", device("020600", 0), F, "not to ne", "sudo udevadm trigger"),
    Row("permissions.device", rec(files={"/dev/nitro_enclaves": None}), F, "no /dev/nitro_enclaves"),
    Row("permissions.log-dir", NO_LOG_DIR, F, "no /var/log", "sudo install -d -m 0775 -o root -g ne"),
    Row("permissions.log-dir", OUTSIDER, F, "cannot be written"),
    Row("permissions.log-file", OUTSIDER, F, "cannot be written", "sudo chmod 0664"),
    Row(
        "permissions.log-file",
        rec(files={f"{LOG_DIR}/nitro_enclaves.log": {"mode": "0100766", "uid": 0, "gid": 991}}),
        W,
        "by anyone (mode 0766)",
        "sudo chmod 0664",
    ),
    Row(
        "permissions.run-dir",
        both(no("/run/nitro_enclaves"), rec(files={"/run/nitro_enclaves": None})),
        F,
        "no /run/nitro_enclaves",
        "sudo systemd-tmpfiles --create",
    ),
    Row("permissions.run-dir", OUTSIDER, F, "cannot be written"),
    Row("allocator.file", no(FILE), F, "no /etc/nitro_enclaves/allocator.yaml", "enclavectl setup"),
    Row("allocator.file", put(FILE, "memory_mib: 1\n"), F, "exactly ---", "keeps its comments"),
    Row(
        "allocator.service",
        answer(f"systemctl is-active {SERVICE}", "failed\n", 3),
        F,
        "failed",
        "journalctl",
    ),
    Row(
        "allocator.service",
        answer(f"systemctl is-enabled {SERVICE}", "disabled\n", 1),
        W,
        "disabled",
        f"sudo systemctl enable {SERVICE}",
    ),
    Row(
        "allocator.service",
        rec(programs={"systemctl": None}, answers={f"systemctl is-active {SERVICE}": None}),
        S,
        "no systemctl",
    ),
    Row("allocator.pool", put(POOL, "\n"), F, "the pool is empty", "systemctl restart"),
    Row("allocator.pool", no("/sys/module"), F, "driver is not loaded"),
    Row("allocator.pool", put(POOL, "1,9\n"), F, "the pool is 1,9, the file says cpu_count: 4"),
    Row("allocator.pool", put(FILE, "---\nmemory_mib: 1\ncpu_pool: 3,4,11,12\n"), F, "cpu_pool: 3-4,11-12"),
    Row("allocator.pool", no(FILE), W, "no readable"),
    Row("allocator.memory", lambda f: trees.pages(f, 1024, 7), F, "7168 MiB", "sudo reboot"),
    Row("allocator.memory", no(FILE), S, "no readable"),
    Row("allocator.page-sizes", lambda f: trees.pages(f, 2, 512), W, "512 x 2 MiB + 8 x 1024 MiB", "reboot"),
    Row("allocator.page-sizes", lambda f: trees.pages(f, 1024, 0), S, "no huge pages"),
    Row(
        "allocator.fragmentation",
        both(
            lambda f: trees.pages(f, 1024, 0), put(BUDDY, "Node 0, zone Normal 4000000 0 0 0 0 0 0 0 0 0 9\n")
        ),
        F,
        "but only 36 in blocks of 4",
        "sudo reboot",
    ),
    Row("allocator.fragmentation", both(lambda f: trees.pages(f, 1024, 0), no(BUDDY)), S, "tells nothing"),
    Row("allocator.numa", nodes, W, "node 0 has free huge pages too", "numactl --membind=1"),
    Row("allocator.numa", lambda f: trees.cpus(f, nodes=2, offline="3-4,11-12"), F, "nodes 0, 1"),
    Row(
        "allocator.fits",
        lambda f: trees.pages(f, 1024, 4),
        F,
        "8192 MiB of huge pages are needed",
        "enclavectl setup --memory 8192 --cpus 4",
    ),
    Row("allocator.fits", both(lambda f: trees.pages(f, 1024, 8, 0), trees.enclave), W, "beside those"),
    Row("cpus.whole-cores", put(POOL, "1-2,9\n"), F, "3 CPUs in the pool", "--cpus 4"),
    Row("cpus.configured", nothing, F, "3 CPUs", "enclave.cpus to 4", {"cpus": 3}),
    Row("cpus.parent", put(POOL, "8-9\n"), F, "CPU 0 or its sibling"),
    Row("cpus.parent", lambda f: trees.cpus(f, offline="1-7,9-15"), W, "2 CPUs are left"),
    Row("nitro-cli.present", rec(programs={"nitro-cli": None}), F, "not installed", "enclavectl setup"),
    Row("nitro-cli.version", rec(programs={"nitro-cli": None}), S, "not installed"),
    Row("nitro-cli.version", answer("nitro-cli --version", "Nitro CLI 1.0.12\n"), F, "needs 1.1.0"),
    Row(
        "nitro-cli.version",
        answer("nitro-cli --version", "Nitro CLI 1.2.1\n"),
        W,
        "1.2.3: memory in MiB only",
    ),
    Row("nitro-cli.version", answer("nitro-cli --version", "Segmentation fault\n", 139), F, "no version"),
    Row("nitro-cli.tools", rec(programs={"file": None}), W, "not installed: file"),
    Row("nitro-cli.tools", both(nodes, rec(programs={"numactl": None})), W, "numactl"),
    Row("nitro-cli.environment", rec(environ={"HOME": None}), W, "neither HOME"),
    Row(
        "nitro-cli.environment",
        rec(environ={"NITRO_CLI_LOGS_PATH": "/x"}),
        W,
        "unset NITRO_CLI_LOGS_PATH"[6:],
    ),
    Row("nitro-cli.vsock-proxy", rec(programs={"vsock-proxy": None}), W, "not installed"),
    Row(
        "nitro-cli.vsock-proxy", no("/etc/nitro_enclaves/vsock-proxy.yaml"), W, "no /etc", "enclavectl units"
    ),
    Row("blobs.files", no("/usr/share/nitro_enclaves"), W, "no boot files", "enclavectl kernel prepare"),
    Row("blobs.files", no("/usr/share/nitro_enclaves/blobs/init"), W, "lacks init"),
    Row("docker.engine", rec(engine="/var/run/docker.sock: Permission denied"), W, "Permission denied"),
    Row("docker.engine", rec(engine=None), S, "elsewhere"),
    Row(
        "docker.api",
        both(rec(engine={"Version": "27.1"}), answer("nitro-cli --version", "Nitro CLI 1.2.2")),
        State.OK,
        "27.1",
    ),  # two numbers are no version to judge by
    Row(
        "docker.api",
        answer("nitro-cli --version", "Nitro CLI 1.2.2"),
        W,
        "linuxkit fails",
        "--builder native",
    ),
    Row("docker.api", rec(engine="gone"), S, "no engine"),
    Row(
        "docker.credentials",
        put("/home/ec2-user/.docker/config.json", '{"credsStore": "ecr-login"}'),
        W,
        "credsStore",
        "docker pull",
    ),
    Row("docker.credentials", put("/home/ec2-user/.docker/config.json", "[]"), W, "no JSON object"),
    Row("docker.credentials", rec(environ={"DOCKER_CONFIG": "/x"}), W, "opens it as a file"),
    Row("disk.artifacts", rec(free={"/home": 1 << 20}), W, "0.0 GiB free", "NITRO_CLI_ARTIFACTS"),
    Row("disk.artifacts", rec(environ={"HOME": None}), S, "no home"),
    Row("disk.docker", rec(free={"/var": 1 << 20}), W, "0.0 GiB free", "docker system prune"),
    Row("disk.temporary", rec(free={"/tmp": 1 << 20}), W, "0.0 GiB free", "TMPDIR"),
    Row("disk.state", rec(free={"/home": 1 << 20}), W, "0.0 GiB free", "ENCLAVECTL_STATE_DIR"),
    Row("vsock.device", rec(files={"/dev/vsock": None}), F, "no /dev/vsock", "sudo modprobe vsock"),
    Row(
        "vsock.port-9000",
        answer("ss -l -n --vsock", trees.SS_HEADER + "v_str LISTEN 0 0 *:9000 *:*\n"),
        F,
        "listens on vsock port 9000",
        "ss -l -p",
    ),
    Row(
        "vsock.port-9000",
        both(
            answer("ss -l -n --vsock", "v_str LISTEN 0 0 3:9000 *:*\n"),
            put("/proc/9/comm", "nitro-cli\n"),
            put("/proc/9/cmdline", "nitro-cli\0run-enclave\0"),
        ),
        W,
        "that boots",
    ),
    Row("vsock.port-9000", answer("ss -l -n --vsock", "ss: no vsock\n", 255), S, "no vsock"),
    Row("vsock.port-9000", rec(programs={"ss": None}, answers={"ss -l -n --vsock": None}), S, "no ss here"),
    Row("image.lock", lock_of_another_image, F, "a lock has the keys"),
    Row(
        "clock.synchronized",
        both(
            rec(programs={"timedatectl": "/usr/bin/timedatectl"}),
            answer("timedatectl show --property=NTPSynchronized --value", "no\n"),
        ),
        W,
        "not synchronized",
        "set-ntp",
    ),
    Row("clock.synchronized", rec(now="1970-01-01T00:00:00+00:00"), F, "1970-01-01"),
    Row("leftovers.error-logs", logs, W, "21 files err", "sudo find"),
    Row(
        "leftovers.artifacts",
        put("/home/ec2-user/.nitro_cli/customer-initrd.img", ""),
        W,
        "in the clear",
        "rm -r /home/ec2-user/.nitro_cli",
    ),
    Row(
        "leftovers.sockets",
        lambda f: trees.enclave(f, alive=False),
        W,
        "1 sockets",
        "never remove one by hand",
    ),
    Row(
        "leftovers.store",
        put(f"{STATE_DIR}/nitro/images/a.eif", ""),
        W,
        "1 images in",
        f"rm -f -- {STATE_DIR}/nitro/images/a.eif",
    ),
    Row("leftovers.staged", staged, W, "1 files that enclavectl was writing", "rm -f --"),
    Row("local.python", rec(python={"version": [3, 10, 4]}), F, "Python 3.10.4"),
    Row("local.runtime", rec(python={"modules": []}), F, "no TFLite runtime"),
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
]
QEMU_ROWS = [
    Row("qemu.program", nothing, W, "not installed"),
    Row("qemu.program", nothing, F, "not installed", "", {"backend": "qemu"}),
    Row("qemu.program", rec(machine="riscv64"), S, "no rule"),
    Row("qemu.machine", nothing, S, "not installed"),
    Row(
        "qemu.machine",
        both(
            rec(programs={"qemu-system-x86_64": "/usr/bin/qemu-system-x86_64"}),
            answer("qemu-system-x86_64 -machine help", "pc   Standard PC\n"),
        ),
        W,
        "no machine nitro-enclave",
    ),
    Row(
        "qemu.machine",
        both(
            rec(programs={"qemu-system-x86_64": "/usr/bin/qemu-system-x86_64"}),
            answer("qemu-system-x86_64 -machine help", "pc   PC\nnitro-enclave  AWS Nitro Enclave\n"),
        ),
        State.OK,
        "has the machine",
    ),
    Row("qemu.vhost-device-vsock", nothing, W, "not installed", "cargo install"),
    Row("qemu.kvm", nothing, W, "no /dev/kvm"),
    Row("qemu.kvm", rec(files={"/dev/kvm": {"mode": "020660", "uid": 0, "gid": 36}}), W, "cannot be opened"),
]


def named(row: Row) -> str:
    return f"{row.check}-{row.state}-{row.found}"


@pytest.mark.parametrize("system", trees.OS_RELEASE)
def test_on_a_healthy_host_nothing_is_wrong(system: str, tmp_path: Path) -> None:
    found = verdicts(facts_of(trees.healthy(tmp_path, system)))
    odd = {name: one for name, one in found.items() if one.verdict.state in {State.WARN, State.FAIL}}
    assert set(odd) <= {"nitro-cli.version", "instance.distribution"}, odd
    assert odd["nitro-cli.version"].verdict.found.startswith("nitro-cli 1.4.3; 1.5.0: a signed build")
    assert not has_failed(list(found.values()))
    well = [one for one in found.values() if one.verdict.state is State.OK]
    assert len(well) >= 30


@pytest.mark.parametrize("row", ROWS, ids=named)
def test_each_defect_is_found_with_what_mends_it(row: Row, tmp_path: Path) -> None:
    row.change(trees.healthy(tmp_path))
    check_row(row, tmp_path)


@pytest.mark.parametrize("row", QEMU_ROWS, ids=named)
def test_each_lack_of_what_qemu_needs_is_found(row: Row, tmp_path: Path) -> None:
    row.change(trees.laptop(tmp_path))
    check_row(row, tmp_path)


def check_row(row: Row, folder: Path) -> None:
    result = verdicts(facts_of(folder, **row.wishes))[row.check]  # type: ignore[arg-type]
    assert result.verdict.state is row.state, result.verdict
    assert row.found in result.verdict.found
    line = result.fix_line(is_root=False) or ""
    assert row.fix in line
    if row.state in {State.WARN, State.FAIL}:
        assert line
        assert "sudo" not in (result.fix_line(is_root=True) or "") or result.verdict.action is None


def test_every_check_has_a_defect_here_and_every_name_is_its_own() -> None:
    broken = {row.check for row in [*ROWS, *QEMU_ROWS] if row.state in {State.WARN, State.FAIL}}
    assert broken | {"image.arch", "image.memory"} == {check.id for check in CHECKS}
    assert len({check.id for check in CHECKS}) == len(CHECKS) >= 25
    assert all(check.id.startswith(f"{check.group}.") for check in CHECKS)
    assert [group for group, _ in by_group([Result(check=c, verdict=ok("")) for c in CHECKS])] == list(Group)


def lock_of(image: Path) -> Lock:
    with image.open("rb") as file:
        pcrs = measure_image(file).registers()
    data = image.read_bytes()
    return Lock(
        eif={"file": image.name, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)},
        pcrs=pcrs,
        mode="reproducible",
        image={},
        model=None,
        wheels=(),
        blobs={},
        tools={},
        findings=(),
        allowed={},
    )


def test_the_image_in_this_folder_is_looked_at(tmp_path: Path) -> None:
    trees.healthy(tmp_path)
    here = tmp_path / "here"
    here.mkdir()
    (here / "a.eif").write_bytes(samples.image())
    (here / "enclavectl.lock.json").write_bytes(lock_of(here / "a.eif").to_bytes())
    found = verdicts(facts_of(tmp_path))
    assert found["image.lock"].verdict.state is State.OK
    assert found["image.arch"].verdict.state is State.OK
    assert found["image.memory"].verdict.found == "needs 64 MiB of the 8192 that are configured"
    small = verdicts(facts_of(tmp_path, memory_mib=32))["image.memory"].verdict
    assert small.state is State.FAIL
    trees.record(tmp_path, machine="aarch64")
    assert verdicts(facts_of(tmp_path))["image.arch"].verdict.state is State.WARN
    (here / "a.eif").write_bytes(samples.image() + b"x")
    assert verdicts(facts_of(tmp_path))["image.lock"].verdict.state is State.FAIL


def test_a_machine_that_is_no_nitro_host_is_judged_by_what_it_is_for(tmp_path: Path) -> None:
    facts = facts_of(trees.laptop(tmp_path))
    found = examine_host(facts)
    assert not facts.is_nitro
    assert not has_failed(found)
    nitro = [one for one in found if one.check.id.startswith(("allocator.", "permissions.", "nitro-cli."))]
    assert {one.verdict.state for one in nitro} == {State.NOT_APPLICABLE}
    assert found[0].verdict.found.startswith("no Nitro host")


def test_one_that_was_meant_to_be_a_nitro_host_is_judged_as_one(tmp_path: Path) -> None:
    found = verdicts(facts_of(trees.laptop(tmp_path), backend="nitro"))
    assert found["instance.pci-device"].verdict.state is State.FAIL
    assert found["allocator.file"].verdict.state is State.FAIL


def test_a_fresh_instance_is_told_to_set_up(tmp_path: Path) -> None:
    found = verdicts(facts_of(trees.fresh(tmp_path, "al2023")))
    assert found["nitro-cli.present"].fix_line(is_root=False) == "enclavectl setup"
    assert found["permissions.group-ne"].verdict.state is State.FAIL
    assert found["instance.pci-device"].verdict.state is State.OK


def test_what_cannot_be_read_is_a_skip_with_its_reason(tmp_path: Path) -> None:
    def look(_facts: Facts) -> object:
        raise HostError("/proc/x: cannot be read (Input/output error)")

    check = Check(id="a.b", group=Group.DISK, why="", look=look)  # type: ignore[arg-type]
    result = run_check(check, facts_of(trees.healthy(tmp_path)))
    assert result.verdict.state is State.SKIP
    assert "Input/output error" in result.verdict.found


@dataclass
class Recorder:
    """Hands that write down what they are told, and fail at what they are told to."""

    fails_at: str = "nothing"
    is_root: bool = False
    ran: list[str] = field(default_factory=list)

    def run(self, action: Action) -> None:
        line = action.line(is_root=self.is_root)
        if self.fails_at in line:
            raise HostError(f"{line}: failed")
        self.ran.append(line)

    def replace(self, name: str, data: bytes, *, mode: int) -> None:
        raise AssertionError(f"no fix writes a file: {name}, {len(data)} bytes, {mode:o}")


def broken(folder: Path) -> Sequence[Result]:
    NO_LOG_DIR(trees.healthy(folder))
    both(no("/sys/module"), rec(files={"/dev/vsock": None}), old_images)(folder)
    return examine_host(facts_of(folder))


def test_only_safe_fixes_are_run_and_each_once(tmp_path: Path) -> None:
    hands = Recorder()
    done = run_fixes(fixable(broken(tmp_path)), hands)
    assert hands.ran == [
        "sudo modprobe nitro_enclaves",
        "sudo install -d -m 0775 -o root -g ne /var/log/nitro_enclaves",
        "sudo modprobe vsock",
    ]
    assert set(done.values()) == {None}


def test_a_fix_that_fails_stops_no_other(tmp_path: Path) -> None:
    hands = Recorder(fails_at="install")
    done = run_fixes(fixable(broken(tmp_path)), hands)
    assert len(hands.ran) == 2
    assert (
        done["permissions.log-dir"] == "sudo install -d -m 0775 -o root -g ne /var/log/nitro_enclaves: failed"
    )


def test_versions_and_ports_are_found_in_what_programs_say() -> None:
    assert parse_version("Nitro CLI 1.4.3 (build)") == (1, 4, 3)
    assert parse_version("1.4") is None
    assert listening_ports("a b c d *:9000 e\nv_str LISTEN 0 0 3:5006 *:*\nshort\n") == {9000, 5006}


def doctor(folder: Path, *arguments: object) -> Done:
    return enclavectl("doctor", "--host-root", folder / "host", *arguments, home=folder)


def test_the_command_ends_with_0_on_a_healthy_host(tmp_path: Path) -> None:
    trees.healthy(tmp_path / "host")
    done = doctor(tmp_path, "--output", "json")
    assert done.status == 0, done.out
    answer = done.json()
    assert answer["schema"] == "enclavectl.doctor/1"
    assert answer["nitro_host"] is True
    assert answer["fit"] is True
    checks = cast("list[dict[str, object]]", answer["checks"])
    assert len(checks) == len(CHECKS)
    assert all({"id", "group", "state", "found", "why", "fix", "fix_is_safe"} == set(one) for one in checks)
    text = doctor(tmp_path, "--all")
    assert text.out.startswith("This is a Nitro host.")
    assert "allocator.pool: CPUs 1-2,9-10" in text.out


def test_the_command_ends_with_3_and_says_what_to_do(tmp_path: Path) -> None:
    trees.laptop(tmp_path / "host")
    assert doctor(tmp_path).out.startswith("This is no Nitro host")
    trees.healthy(tmp_path / "host")
    trees.remove(tmp_path / "host", FILE)
    done = doctor(tmp_path)
    assert done.status == 3
    assert "allocator.file: no /etc/nitro_enclaves/allocator.yaml" in done.out
    assert "fix: enclavectl setup" in done.out


def test_a_dry_run_of_the_fixes_says_what_it_would_run(tmp_path: Path) -> None:
    trees.healthy(tmp_path / "host")
    trees.record(tmp_path / "host", files={"/dev/vsock": None})
    done = doctor(tmp_path, "--fix", "--dry-run", "--output", "json")
    assert done.status == 3
    assert done.json()["fixes"] == [
        {"id": "vsock.device", "command": "sudo modprobe vsock", "state": "would-do", "error": None}
    ]
    refused = doctor(tmp_path, "--fix", "--yes", "--output", "json")
    assert refused.status == 2
    assert "--dry-run" in str(refused.error()["hint"])


def test_this_machine_is_examined_whatever_it_is(tmp_path: Path) -> None:
    done = enclavectl("doctor", "--output", "json", home=tmp_path)
    assert done.status in {0, 3}
    checks = cast("list[dict[str, str]]", done.json()["checks"])
    states = {one["id"]: one["state"] for one in checks}
    assert states["local.python"] == "ok"
    assert states["local.runtime"] == "ok"
