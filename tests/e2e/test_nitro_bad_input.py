"""What bad input gets on a Nitro host: a message that names the fix, and nothing half done."""

from __future__ import annotations

import json
import resource
from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.e2e.cli import sample
from tests.e2e.nitro import MEMORY, NitroStage
from tests.nitro.host import write_image


def test_without_nitro_cli(stage: NitroStage) -> None:
    stage.host.program.rename(stage.host.home / "away")
    for arguments in (("run", stage.image, *MEMORY), ("list",), ("terminate", "--all")):
        error = stage.cli.refused(3, *arguments)
        assert error["code"] == "nitro-cli-missing"
        assert "enclavectl setup" in error["hint"]
    (stage.host.home / "away").rename(stage.host.program)


def test_a_nitro_cli_that_is_none(stage: NitroStage) -> None:
    program = stage.host.program
    away = program.rename(stage.host.home / "away")
    program.write_text("#!/bin/sh\necho 'command not found' >&2\nexit 127\n")
    program.chmod(0o755)
    error = stage.cli.refused(3, "list")
    assert "enclavectl setup" in error["hint"]
    away.rename(program)


@pytest.mark.parametrize(
    ("settings", "told", "hint"),
    [
        ({"device": "missing"}, "/dev/nitro_enclaves", "enclavectl doctor"),
        ({"device": "denied"}, "/dev/nitro_enclaves", "enclavectl setup"),
        ({"module": False}, "driver is not loaded", "modprobe nitro_enclaves"),
        ({"pages": {"2": 100}, "sysfs": False}, "E27", "enclavectl plan"),
        ({"cores": [[1, 9]], "pages": {"1024": 2}, "sysfs": False}, None, ""),
        ({"port_9000_taken": True}, "E36", "ss --vsock"),
        ({"heartbeat": False, "boot_timeout_s": 0.2}, "E36", ""),
        ({"driver_error": 264}, "NUMA", ""),
    ],
)
def test_a_host_that_cannot(
    stage: NitroStage, settings: dict[str, object], told: str | None, hint: str
) -> None:
    stage.host.set(**settings)
    if told is None:
        stage.ran("--name", "first")
        error = stage.run_refused(3, "--name", "second")
        assert "no CPUs are available in the pool" in error["message"]
        assert stage.states() == {"first": "RUNNING"}
        return
    error = stage.run_refused(3)
    assert told in error["message"]
    assert hint in error["hint"]
    assert "E39" not in error["message"]
    assert stage.states() == {}


def test_no_log_folder_and_no_socket_folder(stage: NitroStage) -> None:
    for name in ("log", "run"):
        folder = stage.host.home / name
        away = folder.rename(stage.host.home / "away")
        error = stage.cli.refused(3, "list")
        assert error["hint"]
        if folder.exists():  # nitro-cli made it, to complain
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()
        away.rename(folder)


@pytest.mark.parametrize(
    ("arguments", "code", "told", "hint"),
    [
        (("--memory", "1"), 2, "expected a whole number from 64", ""),
        (("--cid", "3"), 2, "expected a whole number from 4 ", ""),
        (("--cid", "4294967295"), 2, "", ""),
        (("--cid", "0"), 2, "", ""),
        (("--memory", "99999999"), 2, "", ""),
    ],
)
def test_values_that_cannot_be(
    stage: NitroStage, arguments: Sequence[str], code: int, told: str, hint: str
) -> None:
    assert stage.launches() == 0
    error = stage.run_refused(code, *arguments)
    assert told in error["message"]
    assert hint in (error["hint"] or "")
    if code == 2:
        assert stage.launches() == 0


def test_an_address_that_is_in_use(stage: NitroStage) -> None:
    stage.ran("--name", "first", "--cid", "20")
    error = stage.run_refused(6, "--name", "second", "--cid", "20")
    assert error["code"] == "cid-in-use"
    assert "first" in error["message"]
    error = stage.run_refused(6, "--name", "first")
    assert "exists already" in error["message"]
    assert stage.launches() == 1
    # One that somebody else launched, with nitro-cli itself.
    other = stage.host.launch("--enclave-cid", "30")
    error = stage.run_refused(6, "--name", "second", "--cid", "30")
    assert error["code"] == "cid-in-use"
    assert other["EnclaveName"] in error["message"]


def test_an_image_that_is_not_its_locks(stage: NitroStage) -> None:
    lock = stage.host.lock.read_bytes()
    write_image(stage.image, b"another")
    stage.host.lock.write_bytes(lock)
    error = stage.run_refused(6)
    assert error["code"] == "lock-pcrs"
    assert "PCR0" in error["message"]
    assert "enclavectl" in error["hint"]
    assert stage.launches() == 0


def test_an_image_that_is_none(stage: NitroStage) -> None:
    stage.image.write_text("no image\n" * 100)
    assert stage.launches() == 0
    stage.run_refused(2)
    error = stage.cli.refused(6, "run", *MEMORY)  # no enclave.eif here
    assert "enclavectl build" in error["hint"]
    error = stage.cli.refused(2, "run", stage.host.home / "absent.eif", *MEMORY)
    assert "absent.eif" in error["message"]
    stage.assert_only([])


def test_a_full_disk_leaves_no_copy_behind(stage: NitroStage) -> None:
    """A bound on the size of a file stands for the disk's end: the write is refused half way."""
    stage.image.write_bytes(stage.image.read_bytes() + bytes(1 << 20))
    bound = 256 * 1024
    full = replace(
        stage.cli,
        options={"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (bound, bound))},
    )
    ran = full.run("run", stage.image, *MEMORY, "-o", "json")
    error = json.loads(ran.out)["error"]
    assert (ran.status, error["exit_code"]) == (3, 3)
    assert "File too large" in error["message"]
    assert list((stage.cli.state / "nitro" / "images").iterdir()) == []
    assert stage.launches() == 0
    stage.assert_only([])


def test_others_enclaves_are_shown_and_left_alone(stage: NitroStage) -> None:
    stage.host.set(user="alice")
    hers = stage.host.launch("--enclave-name", "hers")
    stage.host.set(user="bob")
    stage.ran("--name", "his")
    assert stage.states() == {"hers": "RUNNING", "his": "RUNNING"}
    error = stage.cli.refused(3, "terminate", "hers")
    assert error["hint"]
    assert stage.cli.run("terminate", "--all").status == 3
    assert stage.host.enclaves() == [hers["EnclaveCID"]]
    stage.host.set(user="root")
    stage.host.run("terminate-enclave", "--all")


@pytest.mark.parametrize("version", ["1.1.0", "1.2.2", "1.4.2", "1.5.2"])
def test_every_release_is_served(stage: NitroStage, version: str) -> None:
    stage.host.set(version=version)
    stage.ran("--name", "first")
    assert stage.states() == {"first": "RUNNING"}
    stage.cli.ok("diagnose", sample("nv"))
    stage.cli.ok("terminate", "--all")


def test_a_host_for_production_refuses_debug_mode(stage: NitroStage) -> None:
    production = replace(stage.cli, variables={**stage.cli.variables, "ENCLAVECTL_PROFILE": "production"})
    error = production.refused(2, "run", stage.image, *MEMORY, "--debug")
    assert "production" in error["message"]
    error = production.refused(2, "send", "--unsafe-allow-debug", sample("nv"))
    assert stage.launches() == 0
