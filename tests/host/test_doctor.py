"""Every check of the doctor on recorded hosts: one that is well, and each way in which one is not."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import pytest

from enclavectl.artifacts.lock import Lock
from enclavectl.eif.examine import read_verified
from enclavectl.errors import HostError
from enclavectl.host.changer import Action
from enclavectl.host.checks.base import Check, Group, Result, State, Verdict, ok, run_check
from enclavectl.host.checks.facts import Facts, HostSettings, parse_version
from enclavectl.host.checks.nitro_cli import listening_ports
from enclavectl.host.doctor import CHECKS, by_group, examine_host, fixable, has_failed, run_fixes, summary
from enclavectl.host.host import User
from enclavectl.host.live import live_host
from tests import vsock_filter
from tests.cli.command import Done, enclavectl
from tests.eif import samples
from tests.host import trees
from tests.host.backend_defects import BACKEND_ROWS
from tests.host.breaks import FILE, NO_LOG_DIR, STATE_DIR, both, no, old_images, rec
from tests.host.defects import ROWS, Row

EVERY_ROW = [*ROWS, *BACKEND_ROWS]


def facts_of(folder: Path, *, backend: str = "auto", memory_mib: int = 8192, cpus: int = 4) -> Facts:
    (folder / "here").mkdir(exist_ok=True)
    settings = HostSettings(
        backend=backend,
        memory_mib=memory_mib,
        cpus=cpus,
        folder=folder / "here",
        state_dir=Path(STATE_DIR),
        data_dir=Path("/home/ec2-user/.local/share/enclavectl"),
    )
    return Facts(trees.host(folder), settings)


def verdicts(facts: Facts) -> dict[str, Result]:
    return {result.check.id: result for result in examine_host(facts)}


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


@pytest.mark.parametrize("row", EVERY_ROW, ids=named)
def test_each_defect_is_found_with_what_mends_it(row: Row, tmp_path: Path) -> None:
    row.change(trees.healthy(tmp_path))
    check_row(row, tmp_path)


def check_row(row: Row, folder: Path) -> None:
    result = verdicts(facts_of(folder, **row.settings))[row.check]  # type: ignore[arg-type]  # any field's type
    assert result.verdict.state is row.state, result.verdict
    assert row.found in result.verdict.found
    line = result.fix_line(is_root=False) or ""
    assert row.fix in line
    if row.state in {State.WARN, State.FAIL}:
        assert line
        assert "sudo" not in (result.fix_line(is_root=True) or "") or result.verdict.action is None


def test_every_check_has_a_defect_here_and_every_name_is_its_own() -> None:
    broken = {row.check for row in EVERY_ROW if row.state in {State.WARN, State.FAIL}}
    assert broken | {"image.arch", "image.memory"} == {check.id for check in CHECKS}
    assert len({check.id for check in CHECKS}) == len(CHECKS) >= 25
    assert [group for group, _ in by_group([Result(check=c, verdict=ok("")) for c in CHECKS])] == list(Group)


def lock_of(image: Path) -> Lock:
    with image.open("rb") as file:
        pcrs = read_verified(file).measurements.registers()
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


@pytest.mark.parametrize(("age_s", "state"), [(0, State.OK), (23 * 3600, State.OK), (25 * 3600, State.WARN)])
def test_a_file_that_a_build_writes_now_is_no_leftover(age_s: int, state: State, tmp_path: Path) -> None:
    """``--fix`` removes what this check finds, so a live build's file must not be found."""
    folder = trees.healthy(tmp_path)
    name = f"{STATE_DIR}/nitro/images/.enclavectl-0123456789abcdef.tmp"
    trees.write(folder, name, "half an image")
    facts = facts_of(folder)
    written = facts.host.now.timestamp() - age_s
    os.utime(folder / name.lstrip("/"), (written, written))
    found = verdicts(facts)["leftovers.staged"]
    assert found.verdict.state is state, found.verdict
    removed = [one for one in fixable([found]) if name in (one.fix_line(is_root=False) or "")]
    assert bool(removed) is (state is State.WARN)


@pytest.mark.parametrize("mode", [0o710, 0o720, 0o740, 0o770, 0o701, 0o702, 0o704])
def test_a_state_folder_that_any_other_may_use_in_any_way_fails(mode: int, tmp_path: Path) -> None:
    folder = trees.healthy(tmp_path)
    facts = {STATE_DIR: {"mode": f"04{mode:04o}", "uid": 1000, "gid": 1000}}
    trees.record(folder, files=facts)
    found = verdicts(facts_of(folder))["local.state-dir"].verdict
    assert found.state is State.FAIL
    assert f"mode {mode:04o}" in found.found


@pytest.mark.parametrize(
    ("error", "state"), [("EPERM", State.WARN), ("EAFNOSUPPORT", State.NOT_APPLICABLE), (None, State.OK)]
)
def test_a_client_in_a_container_is_told_that_vsock_is_forbidden(
    error: str | None, state: State, tmp_path: Path
) -> None:
    """Not only on a Nitro host: ``diagnose --connect vsock:16:5005`` runs elsewhere too."""
    trees.record(trees.laptop(tmp_path), vsock=error)
    assert verdicts(facts_of(tmp_path))["vsock.socket"].verdict.state is state


@pytest.mark.skipif(not vsock_filter.IS_SUPPORTED, reason="the filter knows x86_64 and aarch64 only")
def test_doctor_makes_a_vsock_socket_where_it_runs() -> None:
    code = "from enclavectl.host.probe import LiveProbe\nprint(LiveProbe(environ={}).vsock_error())\n"
    argv = [sys.executable, vsock_filter.__file__, "13", sys.executable, "-c", code]
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == "13\n"


def test_a_random_user_of_this_machine_whose_home_is_the_root_is_told_so(tmp_path: Path) -> None:
    stranger = User(name="12345", uid=12_345, gids=frozenset({12_345}))
    settings = HostSettings(
        backend="auto",
        memory_mib=8192,
        cpus=4,
        folder=tmp_path,
        state_dir=Path("/.local-of-nobody/state/enclavectl"),
        data_dir=Path("/.local-of-nobody/share/enclavectl"),
    )
    found = verdicts(Facts(replace(live_host({"HOME": "/"}), user=stranger), settings))["local.state-dir"]
    assert found.verdict.state is State.FAIL
    assert "12345 may not write to /" in found.verdict.found
    assert found.fix_line(is_root=False) == "set ENCLAVECTL_STATE_DIR to a folder of your own"


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
    def examine(_facts: Facts) -> object:
        raise HostError("/proc/x: cannot be read (Input/output error)")

    check = Check(id="disk.b", why="", examine=examine)  # type: ignore[arg-type]  # the check raises, so its type has no verdict
    result = run_check(check, facts_of(trees.healthy(tmp_path)))
    assert result.verdict.state is State.SKIP
    assert "Input/output error" in result.verdict.found


@dataclass
class Recorder:
    """A changer that writes down what it is told, and fails where it is told to."""

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
    both(no("/sys/module"), rec(files={"/dev/vsock": None}, vsock="EAFNOSUPPORT"), old_images)(folder)
    return examine_host(facts_of(folder))


def test_only_safe_fixes_are_run_and_each_once(tmp_path: Path) -> None:
    changer = Recorder()
    done = run_fixes(fixable(broken(tmp_path)), changer)
    assert changer.ran == [
        "sudo modprobe nitro_enclaves",
        "sudo install -d -m 0775 -o root -g ne /var/log/nitro_enclaves",
        "sudo modprobe vsock",
    ]
    assert set(done.values()) == {None}


def test_a_fix_that_fails_stops_no_other(tmp_path: Path) -> None:
    changer = Recorder(fails_at="install")
    done = run_fixes(fixable(broken(tmp_path)), changer)
    assert len(changer.ran) == 2
    assert (
        done["permissions.log-dir"] == "sudo install -d -m 0775 -o root -g ne /var/log/nitro_enclaves: failed"
    )


def test_versions_and_ports_are_found_in_what_programs_say() -> None:
    assert parse_version("Nitro CLI 1.4.3 (build)") == (1, 4, 3)
    assert parse_version("1.4") is None
    assert listening_ports("a b c d *:9000 e\nv_str LISTEN 0 0 3:5006 *:*\nshort\n") == {9000, 5006}


def results_of(*states: State) -> list[Result]:
    return [Result(check=CHECKS[0], verdict=Verdict(state=state, found="")) for state in states]


@pytest.mark.parametrize(
    ("states", "said"),
    [
        ((State.OK,), "1 ok"),
        ((State.OK, *[State.NOT_APPLICABLE] * 5), "1 ok, 5 do not apply"),
        ((State.NOT_APPLICABLE,), "1 does not apply"),
        ((State.SKIP, State.SKIP), "2 could not be seen"),
        ((State.FAIL, State.WARN, State.OK, State.WARN), "1 ok, 2 warnings, 1 failed"),
    ],
)
def test_the_summary_counts_each_state(states: tuple[State, ...], said: str) -> None:
    assert summary(results_of(*states)) == said


def test_a_host_without_qemu_is_not_told_to_get_it(tmp_path: Path) -> None:
    trees.laptop(tmp_path / "host")
    done = doctor(tmp_path, "--all")
    assert "1 ok, 5 do not apply" in done.out
    assert "make qemu" not in done.out


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
    assert doctor(tmp_path).out.startswith("This is no Nitro host: enclaves are simulated here")
    (tmp_path / "qemu.yaml").write_text("backend: qemu\n")
    chosen = doctor(tmp_path, "--config", "qemu.yaml")
    assert chosen.out.startswith("This is no Nitro host: enclaves are emulated here (backend qemu).")
    trees.healthy(tmp_path / "host")
    trees.remove(tmp_path / "host", FILE)
    done = doctor(tmp_path)
    assert done.status == 3
    assert "allocator.file: no /etc/nitro_enclaves/allocator.yaml" in done.out
    assert "fix: enclavectl setup" in done.out


def test_a_dry_run_of_the_fixes_says_what_it_would_run(tmp_path: Path) -> None:
    trees.healthy(tmp_path / "host")
    trees.record(tmp_path / "host", files={"/dev/vsock": None}, vsock="EAFNOSUPPORT")
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
