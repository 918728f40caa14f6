"""Setting a host up: what would be done, what is done, and what is left when something fails."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

from enclavectl.errors import HostError
from enclavectl.host.changer import Action
from enclavectl.host.checks.facts import Facts, HostSettings
from enclavectl.host.distro import Family, detect_distro
from enclavectl.host.packages import PARTS
from enclavectl.host.reservation import ALLOCATOR_FILE, Reservation, parse_allocator
from enclavectl.host.setup import Setup, SetupRequest, require_device
from enclavectl.host.steps import Report, StepState, plan_steps, run_steps
from tests.host import trees
from tests.host.tree_changer import TreeChanger

TUTORIAL = Reservation(memory_mib=8192, cpu_count=4)


DONE, ALREADY, FAILED, SKIPPED = StepState.DONE, StepState.ALREADY, StepState.FAILED, StepState.SKIPPED


def setup_of(folder: Path, wanted: Reservation = TUTORIAL, *, user: str = "ec2-user", **more: bool) -> Setup:
    host = trees.host(folder)
    settings = HostSettings(
        backend="auto",
        memory_mib=8192,
        cpus=4,
        folder=folder,
        state_dir=Path("/s"),
        data_dir=Path("/d"),
    )
    request = SetupRequest(reservation=wanted, user=user, **more)
    return Setup(Facts(host, settings), detect_distro(host.tree), request, nullcontext)


def run(folder: Path, changer: TreeChanger, wanted: Reservation = TUTORIAL) -> list[Report]:
    # The recording is read when a host is opened; a real host is read at every look.
    return run_steps(setup_of(folder, wanted).steps(), changer, lambda _report: None)


def states(reports: list[Report]) -> dict[str, StepState]:
    return {report.id: report.state for report in reports}


@pytest.mark.parametrize(
    ("system", "docker", "cli", "devel"),
    [
        (
            "al2",
            "sudo amazon-linux-extras install docker -y",
            "sudo amazon-linux-extras install aws-nitro-enclaves-cli -y",
            "sudo yum install aws-nitro-enclaves-cli-devel -y",
        ),
        (
            "al2023",
            "sudo dnf install docker -y",
            "sudo dnf install aws-nitro-enclaves-cli -y",
            "sudo dnf install aws-nitro-enclaves-cli-devel -y",
        ),
    ],
)
def test_a_fresh_amazon_linux_is_set_up_as_the_tutorial_does(
    system: str, docker: str, cli: str, devel: str, tmp_path: Path
) -> None:
    trees.fresh(tmp_path, system)
    planned = {report.id: report for report in plan_steps(setup_of(tmp_path).steps(), is_root=False)}
    assert planned["docker"].commands == (docker,)
    assert planned["nitro-cli"].commands == (cli,)
    assert planned["boot-files"].commands == (devel,)
    assert planned["group-ne"].commands == ("sudo usermod -aG ne ec2-user",)
    assert planned["group-docker"].commands == ("sudo usermod -aG docker ec2-user",)
    assert planned["docker-service"].commands == ("sudo systemctl enable --now docker",)
    assert "+memory_mib: 8192" in (planned["allocator-file"].diff or "")
    assert planned["allocator-restart"].commands == (
        "sudo systemctl restart nitro-enclaves-allocator.service",
    )
    changer = TreeChanger(tmp_path)
    reports = run(tmp_path, changer)
    assert {report.id for report in reports if report.state is not DONE} == {"sizes", "driver"}
    assert parse_allocator((tmp_path / "etc/nitro_enclaves/allocator.yaml").read_bytes()) == TUTORIAL
    again = run(tmp_path, TreeChanger(tmp_path))
    assert set(states(again).values()) == {ALREADY}
    login = setup_of(tmp_path).outcome(again).login
    assert login.startswith("ec2-user is in ne and docker, which a login from before that does not have")


@pytest.mark.parametrize(
    ("system", "docker"),
    [
        ("ubuntu", "sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y docker.io"),
        ("debian", "sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y docker.io"),
        ("fedora", "sudo dnf install moby-engine -y"),
    ],
)
def test_where_there_is_no_package_it_is_said_what_to_do(system: str, docker: str, tmp_path: Path) -> None:
    trees.fresh(tmp_path, system)
    planned = {report.id: report for report in plan_steps(setup_of(tmp_path).steps(), is_root=False)}
    assert planned["docker"].commands[-1] == docker
    assert planned["nitro-cli"].state is SKIPPED
    assert planned["nitro-cli"].is_missing
    assert "git clone https://github.com/aws/aws-nitro-enclaves-cli" in planned["nitro-cli"].detail
    assert planned["allocator-file"].state is SKIPPED
    assert planned["group-ne"].commands[0] == "sudo groupadd --system --force ne"


def test_ubuntus_driver_is_in_a_package_of_its_own(tmp_path: Path) -> None:
    trees.remove(trees.fresh(tmp_path, "ubuntu"), "/sys/module")
    planned = {report.id: report for report in plan_steps(setup_of(tmp_path).steps(), is_root=True)}
    assert planned["driver"].commands[1].endswith("apt-get install -y linux-modules-extra-aws")
    assert planned["driver"].commands[2] == "modprobe nitro_enclaves"


def test_every_part_has_a_recipe_for_every_system() -> None:
    assert all(set(part.recipes) == set(Family) for part in PARTS)


def test_a_host_that_is_set_up_is_left_alone(tmp_path: Path) -> None:
    changer = TreeChanger(trees.healthy(tmp_path))
    reports = run(tmp_path, changer)
    assert set(states(reports).values()) == {ALREADY}
    assert changer.ran == []


BIGGER = Reservation(memory_mib=16_384, cpu_count=6)


def test_other_sizes_are_written_with_a_backup_and_looked_for_in_sysfs(tmp_path: Path) -> None:
    changer = TreeChanger(trees.healthy(tmp_path))
    reports = run(tmp_path, changer, BIGGER)
    assert states(reports)["allocator-restart"] is DONE
    backup = f"{ALLOCATOR_FILE}.20261124T120000Z.bak"
    assert [line for line in changer.ran if line.startswith("write")] == [
        f"write {backup} 644",
        f"write {ALLOCATOR_FILE} 644",
    ]
    assert (tmp_path / backup.lstrip("/")).read_text() == trees.ALLOCATOR
    written = (tmp_path / ALLOCATOR_FILE.lstrip("/")).read_text()
    expected = trees.ALLOCATOR.replace("memory_mib: 8192", "memory_mib: 16384")
    assert written == expected.replace("cpu_count: 4", "cpu_count: 6")


def test_memory_that_does_not_come_puts_everything_back(tmp_path: Path) -> None:
    """The allocator ends well, sysfs says that the pages are not there: early releases did that."""
    changer = TreeChanger(trees.healthy(tmp_path), pages_mib=8192)
    reports = {report.id: report for report in run(tmp_path, changer, BIGGER)}
    failed = reports["allocator-restart"]
    assert failed.state is FAILED
    assert "0 MiB of huge pages are on NUMA node 0, wanted are 16384" in failed.detail
    assert failed.detail.endswith("the old file and the old reservation were put back")
    assert "sudo reboot" in str(failed.hint)  # there is memory, so it is fragmented
    assert reports["allocator-service"].detail == "not tried: allocator-restart failed"
    assert (tmp_path / ALLOCATOR_FILE.lstrip("/")).read_text() == trees.ALLOCATOR
    assert set(states(run(tmp_path, TreeChanger(tmp_path))).values()) == {ALREADY}


def test_a_host_without_that_memory_is_told_so(tmp_path: Path) -> None:
    trees.healthy(tmp_path)
    trees.write(tmp_path, "/proc/meminfo", "MemTotal: 64512000 kB\nMemAvailable: 1024 kB\n")
    reports = {one.id: one for one in run(tmp_path, TreeChanger(tmp_path, pages_mib=8192), BIGGER)}
    assert "8193 MiB could be had at most, 16384 were wanted" in str(reports["allocator-restart"].hint)


def test_a_failing_restart_puts_the_file_back_and_says_if_that_failed_too(tmp_path: Path) -> None:
    changer = TreeChanger(trees.healthy(tmp_path), fails_at="systemctl restart")
    failed = {report.id: report for report in run(tmp_path, changer, BIGGER)}["allocator-restart"]
    assert failed.state is FAILED
    assert "putting the old file back failed too" in failed.detail
    assert f"it is {ALLOCATOR_FILE}.20261124T120000Z.bak" in failed.detail
    assert (tmp_path / ALLOCATOR_FILE.lstrip("/")).read_text() == trees.ALLOCATOR


@pytest.mark.parametrize("what", ["allocator.yaml.2026", f"write {ALLOCATOR_FILE} "])
def test_an_etc_that_cannot_be_written_changes_nothing(what: str, tmp_path: Path) -> None:
    changer = TreeChanger(trees.healthy(tmp_path), fails_at=what.strip())
    reports = {report.id: report for report in run(tmp_path, changer, BIGGER)}
    assert reports["allocator-file"].state is FAILED
    assert "Read-only file system" in reports["allocator-file"].detail
    assert reports["allocator-restart"].state is SKIPPED
    assert (tmp_path / ALLOCATOR_FILE.lstrip("/")).read_text() == trees.ALLOCATOR


def test_a_command_that_fails_in_the_middle_ends_it_there(tmp_path: Path) -> None:
    changer = TreeChanger(trees.fresh(tmp_path, "al2023"), fails_at="aws-nitro-enclaves-cli-devel")
    reports = run(tmp_path, changer)
    found = states(reports)
    assert found["docker"] is found["nitro-cli"] is DONE
    assert found["boot-files"] is FAILED
    later = reports[4:]
    assert {report.detail for report in later} == {"not tried: boot-files failed"}
    assert changer.ran == ["dnf install docker -y", "dnf install aws-nitro-enclaves-cli -y"]


@pytest.mark.parametrize("booting", [False, True])
def test_nothing_is_changed_while_an_enclave_runs(booting: bool, tmp_path: Path) -> None:
    trees.healthy(tmp_path)
    if booting:
        trees.write(tmp_path, "/proc/77/comm", "nitro-cli\n")
        trees.write(tmp_path, "/proc/77/cmdline", "nitro-cli\0run-enclave\0")
    else:
        trees.enclave(tmp_path)
    changer = TreeChanger(tmp_path)
    failed = {report.id: report for report in run(tmp_path, changer, BIGGER)}["allocator-file"]
    assert failed.state is FAILED
    assert ("process id 77" if booting else "enc1904e4fea1636f6") in failed.detail
    assert "enclavectl terminate --all" in str(failed.hint)
    assert changer.ran == []
    assert set(states(run(tmp_path, changer)).values()) == {ALREADY}  # what is there already may be asked for


def test_for_the_next_boot_only_the_file_is_written(tmp_path: Path) -> None:
    trees.enclave(trees.healthy(tmp_path))
    chosen = setup_of(tmp_path, BIGGER, at_next_boot=True)
    reports = run_steps(chosen.steps(), TreeChanger(tmp_path), lambda _report: None)
    assert states(reports)["allocator-file"] is DONE
    assert states(reports)["allocator-restart"] is SKIPPED
    assert "at the next boot" in chosen.outcome(reports).reboot


def test_small_pages_in_place_of_large_ones_ask_for_a_reboot(tmp_path: Path) -> None:
    trees.pages(trees.healthy(tmp_path), 1024, 6)
    trees.pages(tmp_path, 2, 1024)
    chosen = setup_of(tmp_path)
    reports = run_steps(chosen.steps(), TreeChanger(tmp_path), lambda _report: None)
    assert states(reports)["allocator-restart"] is ALREADY
    assert chosen.outcome(reports).reboot.startswith("1024 pages of 2 MiB were reserved")


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (Reservation(memory_mib=8192, cpu_count=3), "no whole number of cores"),
        (Reservation(memory_mib=8192, cpu_count=16), "could give 14"),
        (Reservation(memory_mib=70_000, cpu_count=4), "could give 61976"),
        (Reservation(memory_mib=8192, cpu_pool=frozenset({0, 8})), "CPUs 0,8 are CPU 0's core"),
        (Reservation(memory_mib=8192, cpu_pool=frozenset({3, 4})), "lack a sibling"),
        (Reservation(memory_mib=8192, cpu_pool=frozenset({40, 41})), "not of this host"),
    ],
)
def test_what_cannot_fit_is_refused_before_anything_is_done(
    wanted: Reservation, words: str, tmp_path: Path
) -> None:
    changer = TreeChanger(trees.fresh(tmp_path, "al2023"))
    reports = run(tmp_path, changer, wanted)
    assert reports[0].state is FAILED
    assert words in reports[0].detail
    assert changer.ran == []


def test_a_member_with_an_old_login_is_told_from_one_who_is_none(tmp_path: Path) -> None:
    trees.record(trees.healthy(tmp_path), user={"gids": [1000]})
    reports = {report.id: report for report in plan_steps(setup_of(tmp_path).steps(), is_root=False)}
    assert reports["group-ne"].detail == "ec2-user is in the group ne, but this login is older than that"
    other = {one.id: one for one in plan_steps(setup_of(tmp_path, user="other").steps(), is_root=False)}
    assert other["group-ne"].commands == ("sudo usermod -aG ne other",)
    root = {one.id: one for one in plan_steps(setup_of(tmp_path, user="root").steps(), is_root=True)}
    assert root["group-ne"].detail == "root needs no group"


def test_ctrl_c_during_the_restart_puts_the_file_back(tmp_path: Path) -> None:
    class Interrupted(TreeChanger):
        def run(self, action: Action) -> None:
            if "restart" in action.argv and not any("restart" in line for line in self.ran):
                self.ran.append("restart interrupted")
                raise KeyboardInterrupt
            super().run(action)

    with pytest.raises(KeyboardInterrupt):
        run(trees.healthy(tmp_path), Interrupted(tmp_path), BIGGER)
    assert (tmp_path / ALLOCATOR_FILE.lstrip("/")).read_text() == trees.ALLOCATOR


def test_a_machine_that_can_have_no_enclaves_is_not_set_up(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="found no EC2 instance; nothing was changed") as caught:
        require_device(setup_of(trees.laptop(tmp_path / "laptop")).facts)
    assert caught.value.code == "no-nitro-device"
    assert "--without-device" in str(caught.value.hint)
    disabled = trees.fresh(tmp_path / "disabled", "al2023")
    trees.remove(disabled, "/sys/bus")
    trees.record(disabled, files={"/dev/nitro_enclaves": None})
    trees.write(disabled, "/sys/class/dmi/id/board_vendor", "Amazon EC2\n")
    with pytest.raises(HostError, match="on which enclaves are not enabled") as caught:
        require_device(setup_of(disabled).facts)
    assert "enclaveOptions" in str(caught.value.hint)
    require_device(setup_of(trees.fresh(tmp_path / "fresh", "al2023")).facts)
