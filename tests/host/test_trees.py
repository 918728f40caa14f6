"""Recorded hosts: what is read from them, and what of a recording is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from enclavectl.errors import HostError, UsageError
from enclavectl.host.cpus import read_cpus
from enclavectl.host.distro import Family, detect_distro, parse_os_release
from enclavectl.host.enclaves import find_running
from enclavectl.host.live import live_host, open_host
from enclavectl.host.memory import read_memory
from enclavectl.host.recording import RECORDING, recorded_host
from enclavectl.host.tree import FileFacts, Tree
from tests.host import trees


@pytest.mark.parametrize(
    ("system", "family"),
    [
        ("al2", Family.AL2),
        ("al2023", Family.AL2023),
        ("ubuntu", Family.UBUNTU),
        ("debian", Family.DEBIAN),
        ("fedora", Family.FEDORA),
        ("rhel", Family.RHEL),
        ("rocky", Family.RHEL),
    ],
)
def test_each_system_is_known_by_its_os_release(system: str, family: Family, tmp_path: Path) -> None:
    trees.write(tmp_path, "/usr/lib/os-release", trees.OS_RELEASE[system])
    assert detect_distro(Tree(root=tmp_path)).family is family


@pytest.mark.parametrize("text", ["ID=amzn\nVERSION_ID=2018.03\n", "ID=arch\n", "nonsense", ""])
def test_other_systems_are_named_in_the_refusal(text: str, tmp_path: Path) -> None:
    trees.write(tmp_path, "/etc/os-release", text)
    with pytest.raises(HostError, match="expected one of amazon-linux-2, ") as caught:
        detect_distro(Tree(root=tmp_path))
    assert caught.value.code == "unknown-distribution"


def test_os_release_is_read_with_its_quotes_and_escapes() -> None:
    text = '# ID=no\nA=\'x y\'\nB="a \\"b\\" \\\\"\nC=1\nC=2\nbroken\n=x\nD=\n'
    assert parse_os_release(text) == {"A": "x y", "B": 'a "b" \\', "C": "2", "D": ""}


def test_a_healthy_host_is_read_as_it_is(tmp_path: Path) -> None:
    host = trees.host(trees.healthy(tmp_path))
    cpus, memory = read_cpus(host.tree), read_memory(host.tree)
    assert cpus.pool == trees.pool(1, 2, 9, 10)
    assert cpus.first_core == {0, 8}
    assert cpus.threads_per_core == 2
    assert cpus.capacity() == {0: 14}
    assert memory.total_mib == 63_000
    assert memory.nodes[0].reserved == {1024: 8, 2: 0}
    assert host.user.name == "ec2-user"
    assert not find_running(host).any


def test_cpus_of_two_nodes_without_threads(tmp_path: Path) -> None:
    trees.cpus(tmp_path, cores=8, threads=1, nodes=2, offline="4-5")
    cpus = read_cpus(Tree(root=tmp_path))
    assert cpus.capacity() == {0: 3, 1: 4}
    assert cpus.nodes_of(frozenset({4, 5})) == {1}


def test_running_enclaves_are_told_from_what_an_unclean_end_left(tmp_path: Path) -> None:
    trees.healthy(tmp_path)
    trees.enclave(tmp_path, "aa")
    trees.enclave(tmp_path, "bb", alive=False)
    running = find_running(trees.host(tmp_path))
    assert running.sockets == ("aa.sock",)
    assert running.stale == ("bb.sock",)
    assert running.words == ["encaa (/run/nitro_enclaves/aa.sock)"]


@pytest.mark.parametrize(
    ("command", "counts"), [("run-enclave", True), ("build-enclave", False), ("describe-enclaves", False)]
)
def test_a_booting_enclave_is_its_nitro_cli_process(command: str, counts: bool, tmp_path: Path) -> None:
    trees.healthy(tmp_path)
    trees.write(tmp_path, "/proc/77/comm", "nitro-cli\n")
    trees.write(tmp_path, "/proc/77/cmdline", f"nitro-cli\0{command}\0--memory\0008192\0")
    running = find_running(trees.host(tmp_path))
    assert running.any is counts
    assert running.words == (["nitro-cli with process id 77"] if counts else [])


def test_permissions_are_those_of_the_first_class_that_fits() -> None:
    device = FileFacts(mode=0o20660, uid=0, gid=991)
    assert device.allows(os.R_OK | os.W_OK, uid=1000, gids=frozenset({991}))
    assert not device.allows(os.R_OK, uid=1000, gids=frozenset({1000}))
    assert device.allows(os.R_OK, uid=0, gids=frozenset())
    owner_may_not = FileFacts(mode=0o100066, uid=1000, gid=1000)
    assert not owner_may_not.allows(os.R_OK, uid=1000, gids=frozenset({1000}))


def test_what_is_there_and_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    tree = Tree(root=tmp_path)
    (tmp_path / "etc").mkdir()
    assert tree.text("/etc/none") is None
    assert tree.names("/none") == []
    with pytest.raises(HostError, match="/etc: cannot be read"):
        tree.text("/etc")
    trees.write(tmp_path, "/big", b"x" * (1 << 20) + b"x")
    with pytest.raises(HostError, match="at most 1048576 bytes"):
        tree.text("/big")


def test_the_free_space_of_a_path_is_that_of_the_nearest_folder(tmp_path: Path) -> None:
    assert Tree(root=tmp_path, free_of={"/var": 7}).free_bytes("/var/lib/docker") == 7
    assert Tree(root=tmp_path).free_bytes("/var/lib/docker") > 0


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{",
        '{"odd": 1}',
        '{"user": {"name": "a"}}',
        '{"user": []}',
        '{"files": {"/a": {"mode": "9", "uid": 0, "gid": 0}}}',
        '{"files": {"/a": 1}}',
        '{"python": {"version": [3], "modules": []}}',
        '{"answers": {"a": {"status": "0", "text": ""}}}',
        '{"now": "yesterday"}',
        '{"now": "2026-01-01T00:00:00"}',
        '{"engine": 3}',
        '{"free": {"/": -1}}',
        "[" * 100_000,
    ],
)
def test_a_damaged_recording_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / RECORDING).write_text(text)
    with pytest.raises(UsageError, match="expected a recording"):
        recorded_host(tmp_path)


def test_a_question_that_was_not_asked_then_is_no_answer(tmp_path: Path) -> None:
    (tmp_path / RECORDING).write_text(json.dumps({"programs": {"ss": "/bin/ss"}}))
    probe = recorded_host(tmp_path).probe
    assert probe.run("nitro-cli", "--version") is None
    with pytest.raises(HostError, match="the recording has no answer of: ss -l"):
        probe.run("ss", "-l")
    with pytest.raises(HostError, match="no answer of the engine"):
        probe.engine("/var/run/docker.sock")


def test_what_is_there_and_cannot_be_read_is_an_error_and_not_absent(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "folder").mkdir()
    (tmp_path / "long").write_bytes(bytes((1 << 20) + 1))
    tree = Tree(root=tmp_path)
    assert tree.data("/absent") is None
    for name in ("/loop", "/folder", "/long"):
        with pytest.raises(HostError, match=f"^{name}: ") as caught:
            tree.text(name)
        assert caught.value.code == "host-unreadable"


def test_the_root_folder_is_this_machine() -> None:
    assert open_host(Path("/"), {}).tree.is_live
    host = live_host({"PATH": "/usr/bin:/bin"})
    assert host.user.uid == os.getuid()
    answer = host.probe.run("uname", "-m")
    assert answer is not None
    assert answer.text.strip() == host.machine
    assert host.probe.run("no-such-program-anywhere") is None
    assert read_cpus(host.tree).present
    assert read_memory(host.tree).total_mib > 0
