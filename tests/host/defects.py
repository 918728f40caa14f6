"""What can be wrong with a host: each way is a change to a healthy recording, with the verdict on it."""

from __future__ import annotations

from dataclasses import dataclass, field

from enclavectl.host.checks.base import State
from tests.host import trees
from tests.host.breaks import (
    BUDDY,
    DOCKER,
    FILE,
    GROUP_WITHOUT,
    KERNEL,
    LOG_DIR,
    NO_LOG_DIR,
    OUTSIDER,
    POOL,
    ROOTLESS,
    SERVICE,
    STATE_DIR,
    Break,
    answer,
    both,
    cgroup1,
    cgroup2,
    context,
    device,
    lock_of_another_image,
    logs,
    no,
    nodes,
    nothing,
    pages_of_2_mib,
    put,
    rec,
    staged,
)


@dataclass(frozen=True)
class Row:
    """What is done to a healthy host, and how the check then stands."""

    check: str
    change: Break
    state: State
    found: str
    fix: str = ""
    settings: dict[str, object] = field(default_factory=dict)


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
    Row("allocator.cgroup", nothing, State.OK, "no cgroup limits"),
    Row("allocator.cgroup", cgroup2("1GB", 0), F, "may use 0:", "resources.limits hugepages-1Gi: 8Gi"),
    Row("allocator.cgroup", cgroup2("1GB", 4 << 30), F, "may use 4096: its cgroup allows 4096 MiB", "8Gi"),
    Row("allocator.cgroup", cgroup2("1GB", 8 << 30), State.OK, "allows 8192 MiB in pages of 1024 MiB"),
    Row(
        "allocator.cgroup",
        both(lambda f: trees.pages(f, 1024, 4), cgroup2("1GB", 4 << 30)),
        State.OK,  # allocator.memory says that the host keeps too little
        "allows 4096",
    ),
    Row("allocator.cgroup", cgroup2("1GB", "max"), State.OK, "no cgroup limits"),
    Row("allocator.cgroup", cgroup2("1GB.rsvd", 0), F, "may use 0", "hugetlb.1GB.rsvd.max"),
    Row(
        "allocator.cgroup",
        both(cgroup2("1GB", 0), cgroup2("2MB", 8 << 30)),  # a limit for pages of another size
        F,
        "8192 MiB in pages of 2 MiB, 0 MiB in pages of 1024 MiB",
        "hugepages-1Gi: 8Gi",
    ),
    Row("allocator.cgroup", cgroup1("1GB", 0), F, "may use 0", "hugetlb.1GB.limit_in_bytes"),
    Row("allocator.cgroup", cgroup1("1GB", 9223372036854771712), State.OK, "no cgroup limits"),
    Row(
        "allocator.cgroup",
        both(cgroup2("1GB", 0), cgroup2("2MB", 1 << 30), lambda f: pages_of_2_mib(f, 4096)),
        F,
        "may use 1024",
        "hugepages-2Mi: 8Gi",
    ),
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
    Row("docker.engine", rec(environ={"DOCKER_HOST": "ssh://builder"}), S, "engine elsewhere: ssh://builder"),
    Row("docker.engine", rec(engine=None), S, "no engine"),
    Row("docker.engine", context("rootless", ROOTLESS), State.OK, f"25.0.3 at {ROOTLESS}"),
    Row(
        "docker.engine",
        both(context("colima", ROOTLESS), rec(engine="/run/user/1000/docker.sock: Connection refused")),
        W,
        "Connection refused",
        "the Docker context colima names",
    ),
    Row(
        "docker.engine", put(DOCKER, '{"currentContext": "gone"}'), W, "'gone'", "docker context use default"
    ),
    Row(
        "docker.engine",
        rec(environ={"DOCKER_CONTEXT": "gone"}),
        W,
        "DOCKER_CONTEXT names",
        "docker context ls",
    ),
    Row(
        "permissions.group-docker", both(OUTSIDER, context("rootless", ROOTLESS)), State.OK, "no group docker"
    ),
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
    Row(
        "vsock.device",
        rec(files={"/dev/vsock": None}, vsock="EAFNOSUPPORT"),
        F,
        "no /dev/vsock",
        "sudo modprobe vsock",
    ),
    Row("vsock.device", rec(files={"/dev/vsock": None}), State.OK, "none is needed"),
    Row("vsock.socket", rec(vsock="EPERM"), F, "(Operation not permitted)", "seccomp=PROFILE"),
    Row("vsock.socket", rec(vsock="EACCES"), F, "(Permission denied)", "SELinux"),
    Row("vsock.socket", rec(vsock="EAFNOSUPPORT"), F, "not supported", "sudo modprobe vsock"),
    Row("vsock.socket", rec(vsock=None), State.OK, "can be made"),
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
    Row("image.lock", lock_of_another_image, F, "expected the key"),
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
]
