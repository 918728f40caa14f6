"""The generated units under a real systemd: an enclave of a fake Nitro host starts, answers and ends in them.

systemd runs as process 1 of namespaces of its own, with nothing but these units. Where the machine's own
process 1 is systemd, that one has the control groups, and this is skipped.
"""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from enclavectl.attestation import Policy, Release, Trust, render_policy
from enclavectl.deploy.release_unit import ReleaseUnitRequest, release_unit
from enclavectl.deploy.systemd import UnitsRequest, answers_file, write_units
from enclavectl.weights.key_file import ModelKey, write_key
from tests.e2e.cli import wait_until
from tests.net.certificates import Authority
from tests.nitro.host import FakeHost, fake_host
from tests.schemas.validation import parsed

SYSTEMD = Path("/lib/systemd/systemd")
NAMESPACES = [
    "unshare",
    "--pid",
    "--mount",
    "--fork",
    "--mount-proc",
    "--ipc",
    "--uts",
    "--cgroup",
    "--kill-child",
]
CGROUPS = Path("/sys/fs/cgroup")
SAMPLE = Path(__file__).resolve().parents[2] / "samples" / "bcc.png"
ENCLAVECTL = Path(sys.executable).with_name("enclavectl")
# Not waited for at the boot of these units: a real host has more targets than this one.
BARE = "[Unit]\nDefaultDependencies=no\n"


def may_run_systemd() -> bool:
    if os.getuid() != 0 or not SYSTEMD.exists() or shutil.which("unshare") is None or not ENCLAVECTL.exists():
        return False
    if Path("/proc/1/comm").read_text().strip() == "systemd" or not os.access(CGROUPS, os.W_OK):
        return False
    return subprocess.run([*NAMESPACES, "true"], capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(
    not may_run_systemd(), reason="a systemd of our own needs root, namespaces and free control groups"
)


def groups() -> set[Path]:
    return {path for name in ("system.slice", "init.scope") for path in CGROUPS.glob(f"**/{name}")}


@contextmanager
def booted(folder: Path) -> Iterator[None]:
    """systemd with the units of ``folder``/units and its ``t.target``, until the block ends."""
    script = (
        "mount --make-rprivate / && mount -t tmpfs tmpfs /run && mkdir -p /run/nitro_enclaves && "
        # systemd mounts what it wants there and makes it read-only, which must not reach the machine's own.
        f"mount -t tmpfs -o mode=755 tmpfs {CGROUPS} && "
        f"(cat /etc/group; echo ne:x:991:root) > {folder}/group && mount --bind {folder}/group /etc/group && "
        f"mount --bind {folder}/units /etc/systemd/system && "
        f"exec env container=docker {SYSTEMD} --system --unit=t.target --log-target=null"
    )
    before = groups()
    with subprocess.Popen([*NAMESPACES, "sh", "-c", script], stdin=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.kill()  # and all of its namespace with it
            process.wait()
    # The kernel kills the rest of the namespace meanwhile; a group goes when it is empty.
    wait_until(lambda: all(is_removed(made) for made in groups() - before), "the control groups are empty")


def is_removed(group: Path) -> bool:
    try:
        for path in sorted((one for one in [group, *group.rglob("*")] if one.is_dir()), reverse=True):
            path.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def write_folder(folder: Path, host: FakeHost, request: UnitsRequest, client: str) -> None:
    """The units as they are, each with what a fake host needs beside it, and a script that uses them."""
    units = folder / "units"
    units.mkdir()
    for file in write_units(request):
        (units / file.name).write_text(file.text)
        (units / f"{file.name}.d").mkdir()
        environment = "".join(f'Environment="{name}={value}"\n' for name, value in host.environment.items())
        more = f"PrivateTmp=no\nReadWritePaths={host.home}\nStandardError=append:{folder}/{file.name}.err\n"
        # The fake's guest is a process of this unit, where a real one has a kernel of its own. Its sandbox
        # and its decoders do what the unit forbids to nitro-cli.
        more += "SystemCallFilter=\nRestrictNamespaces=no\nCapabilityBoundingSet=~\nNoNewPrivileges=no\n"
        (units / f"{file.name}.d" / "fake.conf").write_text(f"{BARE}[Service]\n{environment}{more}")
    stub = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n"
    (units / "nitro-enclaves-allocator.service").write_text(BARE + stub)
    names = [file.name for file in write_units(request)]
    (folder / "client.sh").write_text(client.format(folder=folder))
    after = f"After={' '.join(names)}\n[Service]\nExecStart=/bin/bash {folder}/client.sh\n"
    (units / "client.service").write_text(BARE + after)
    (units / "t.target").write_text(f"{BARE}AllowIsolate=yes\nWants=client.service {' '.join(names)}\n")


CLIENT = """exec > {folder}/client.log 2>&1
systemctl is-active enclavectl-enclave-skin enclavectl-listen > {folder}/active
SEND
for i in $(seq 300); do [ -s ANSWERS ] && break; sleep 0.1; done
systemctl stop enclavectl-listen enclavectl-enclave-skin
systemctl is-failed enclavectl-enclave-skin enclavectl-listen > {folder}/failed
touch {folder}/finished
"""


def test_an_enclave_starts_answers_and_ends_in_its_hardened_units(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    with fake_host(tmp_path / "host", owner_pid=1) as host:
        request = UnitsRequest(
            name="skin",
            eif=host.eif,
            memory_mib=1024,
            cpus=2,
            user="root",
            home=tmp_path,
            state_dir=state,
            enclavectl=ENCLAVECTL,
            boot_bound_s=60,
        )
        variables = {**host.environment, "ENCLAVECTL_BACKEND": "nitro", "ENCLAVECTL_STATE_DIR": str(state)}
        send = shlex.join(
            ["env", *(f"{k}={v}" for k, v in variables.items()), str(ENCLAVECTL), "send", str(SAMPLE)]
        )
        client = CLIENT.replace("SEND", send).replace("ANSWERS", str(answers_file(request)))
        write_folder(tmp_path, host, request, client)
        with booted(tmp_path):
            wait_until((tmp_path / "finished").exists, "the units have been used")
        log = (tmp_path / "client.log").read_text()
    assert (tmp_path / "active").read_text() == "active\nactive\n", log
    assert (tmp_path / "failed").read_text() == "inactive\ninactive\n", log
    answer = parsed(answers_file(request).read_text())
    assert answer["result"]["image"] == str(SAMPLE), log
    notes = (tmp_path / "enclavectl-listen.service.err").read_text()
    assert "verified" in notes
    assert "probability" not in notes
    assert answer["result"]["label"]["code"] not in notes.split()


OWNER_CLIENT = """exec > {folder}/client.log 2>&1
for i in $(seq 600); do (: < /dev/tcp/127.0.0.1/PORT) && break; sleep 0.1; done
systemctl is-active UNIT > {folder}/active
systemctl stop UNIT
systemctl is-failed UNIT > {folder}/failed
touch {folder}/finished
"""


def test_the_owners_hardened_service_listens_on_all_addresses_and_ends(tmp_path: Path) -> None:
    """As root, whose folder may have this Python; else as it is written."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    home, config, units = (tmp_path / name for name in ("home", "config", "units"))
    for folder in (home, config, units):
        folder.mkdir()
    request = ReleaseUnitRequest(
        name="m", enclavectl=ENCLAVECTL, home=home, config=config, listen=f"tls:[::]:{port}"
    )
    write_key(request.key, ModelKey(model_id="m", file_id=bytes(16), key=bytes(32), register=b"\1" * 48))
    registers = {index: bytes([index + 1]) * 48 for index in (0, 1, 2, 16)}
    policy = Policy(accept=frozenset({Trust.NITRO}), releases=(Release(name="r", pcrs=registers),))
    (config / "m.yaml").write_text(render_policy(policy))
    pair = Authority(config).issue("127.0.0.1")
    pair.certificate.rename(config / "cert.pem")
    pair.key.rename(config / "key.pem")
    file = release_unit(request)
    (units / file.name).write_text(file.text)
    (units / f"{file.name}.d").mkdir()
    drop = f"User=root\nProtectHome=read-only\nPrivateTmp=no\nStandardError=append:{tmp_path}/err\n"
    (units / f"{file.name}.d" / "test.conf").write_text(f"{BARE}[Service]\n{drop}")
    script = OWNER_CLIENT.replace("PORT", str(port)).replace("UNIT", file.name).format(folder=tmp_path)
    (tmp_path / "client.sh").write_text(script)
    (units / "client.service").write_text(f"{BARE}[Service]\nExecStart=/bin/bash {tmp_path}/client.sh\n")
    (units / "t.target").write_text(f"{BARE}AllowIsolate=yes\nWants=client.service {file.name}\n")
    with booted(tmp_path):
        wait_until((tmp_path / "finished").exists, "the service has been used")
    said = (tmp_path / "err").read_text() + (tmp_path / "client.log").read_text()
    assert (tmp_path / "active").read_text() == "active\n", said
    assert (tmp_path / "failed").read_text() == "inactive\n", said
    assert "waiting for enclaves" in said
