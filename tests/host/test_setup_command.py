"""``enclavectl setup``, on recorded hosts and on this one."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from tests.cli.command import Done, enclavectl
from tests.host import trees


def setup(folder: Path, *arguments: object) -> Done:
    return enclavectl("setup", "--host-root", folder / "host", *arguments, home=folder)


def test_the_command_shows_each_step_and_changes_nothing(tmp_path: Path) -> None:
    trees.fresh(tmp_path / "host", "al2")
    before = sorted(path for path in (tmp_path / "host").rglob("*"))
    done = setup(tmp_path, "--dry-run", "--output", "json")
    assert done.status == 0, done.err
    answer = done.json()
    assert answer["schema"] == "enclavectl.setup/1"
    assert answer["distribution"] == {"family": "amazon-linux-2", "name": "Amazon Linux 2"}
    assert answer["complete"] is False
    steps = cast("list[dict[str, object]]", answer["steps"])
    keys = {"id", "title", "state", "detail", "commands", "diff", "hint"}
    assert all(set(step) == keys for step in steps)
    assert {step["state"] for step in steps} == {"would-do", "already"}
    text = setup(tmp_path, "--dry-run")
    assert "$ sudo amazon-linux-extras install aws-nitro-enclaves-cli -y" in text.out
    assert "+memory_mib: 8192" in text.out
    assert sorted(path for path in (tmp_path / "host").rglob("*")) == before


def test_a_dry_run_shows_the_steps_also_where_no_enclave_can_run(tmp_path: Path) -> None:
    trees.laptop(tmp_path / "host")
    done = setup(tmp_path, "--dry-run", "--memory", "64", "--cpus", "1", "--output", "json")
    assert done.status == 0, done.out
    steps = {str(step["id"]): step for step in cast("list[dict[str, object]]", done.json()["steps"])}
    assert steps["driver"]["state"] == "skipped"


def test_the_command_wants_this_machine_or_a_dry_run(tmp_path: Path) -> None:
    trees.fresh(tmp_path / "host", "al2")
    refused = setup(tmp_path, "--yes", "--output", "json")
    assert refused.status == 2
    assert refused.error()["hint"] == "enclavectl setup --dry-run says what it would do there"
    both = setup(tmp_path, "--dry-run", "--cpus", "2", "--cpu-pool", "1,9", "--output", "json")
    assert both.status == 2
    wrong = setup(tmp_path, "--dry-run", "--cpu-pool", "1-", "--output", "json")
    assert wrong.status == 2


def test_the_command_ends_with_3_where_it_cannot_fit(tmp_path: Path) -> None:
    trees.fresh(tmp_path / "host", "al2023")
    done = setup(tmp_path, "--dry-run", "--cpus", "3", "--output", "json")
    assert done.status == 3
    steps = cast("list[dict[str, object]]", done.json()["steps"])
    assert steps[0]["state"] == "failed"
    assert steps[0]["hint"] == "enclavectl setup --cpus 4"


def test_without_a_terminal_and_without_yes_nothing_is_changed(tmp_path: Path) -> None:
    """On this machine, for sizes that fit any: there is always a step to do here, or one that is refused."""
    sizes = ("--memory", "64", "--cpus", "1", "--without-device")
    done = enclavectl("setup", *sizes, "--output", "json", home=tmp_path)
    assert done.status in {2, 3}
    if done.status == 2:
        assert done.error()["code"] == "needs-yes"
        assert "--yes" in str(done.error()["hint"])


@pytest.mark.skipif(Path("/dev/nitro_enclaves").exists(), reason="this machine can have enclaves")
def test_a_machine_without_the_device_is_left_alone_unless_it_is_told_to_go_on(tmp_path: Path) -> None:
    done = enclavectl("setup", "--yes", "--output", "json", home=tmp_path)
    assert done.status == 3
    assert done.error()["code"] == "no-nitro-device"
    assert "--without-device" in str(done.error()["hint"])
