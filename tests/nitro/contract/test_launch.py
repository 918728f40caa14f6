"""``run-enclave`` up to the driver, which no machine without enclaves has."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.e2e.cli import wait_until
from tests.nitro.cli import command_lines
from tests.nitro.contract.errors import LOG, failed, subactions
from tests.nitro.real import NitroCli


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("--cpu-count", "2", "--memory", "64KB"), "E03", "`memory` is not a valid integer (`64KB`)"),
        (("--cpu-count", "2", "--memory", "64MiB"), "E03", "`memory` is not a valid integer (`64MiB`)"),
        (("--cpu-count", "2", "--memory", "1.5G"), "E03", "`memory` is not a valid integer (`1.5G`)"),
        (("--cpu-count", "2", "--memory", "G"), "E03", "`memory` is not a valid integer (`G`)"),
        (("--cpu-count", "two", "--memory", "64"), "E03", "`cpu-count` is not a valid integer (`two`)"),
        (("--cpu-ids", "1,3", "--memory", "64"), "E03", "`cpu-id` is not a valid integer (`1,3`)"),
        *(
            (("--cpu-count", "2", "--memory", "64", "--enclave-cid", cid), "E03", "`MISSING_INFO`")
            for cid in ("1", "2", "3", "4294967295", "4294967296")
        ),
        (
            ("--cpu-count", "2", "--memory", "64", "--enclave-cid", "x"),
            "E03",
            "`enclave-cid` is not a valid integer (`x`)",
        ),
    ],
)
def test_run_checks_its_values_by_hand(
    nitro_cli: NitroCli, eif: Path, arguments: Sequence[str], code: str, told: str
) -> None:
    assert told in failed(nitro_cli.run("run-enclave", "--eif-path", eif, *arguments), code)


@pytest.mark.parametrize(
    ("config", "codes"),
    [
        ("{}", ["E17"]),
        ("no json", ["E17"]),
        ('{"eif_path": "a", "memory_mib": "64M", "cpu_count": 2}', ["E17"]),
        ('{"eif_path": "a", "memory_mib": 64}', ["E01"]),
        ('{"eif_path": "a", "memory_mib": 64, "cpu_cout": 2}', ["E01"]),
        ('{"eif_path": "a", "memory_mib": 64, "cpu_count": 2, "cpu_ids": [1]}', ["E02"]),
        ('{"eif_path": "absent", "memory_mib": 64, "cpu_count": 2}', ["E19", "E39"]),
    ],
)
def test_run_with_a_configuration_file(nitro_cli: NitroCli, config: str, codes: Sequence[str]) -> None:
    path = nitro_cli.home / "config.json"
    failed(nitro_cli.run("run-enclave", "--config", path), "E19")
    path.write_text(config)
    failed(nitro_cli.run("run-enclave", "--config", path), *codes)


@pytest.mark.skipif(Path("/sys/module/nitro_enclaves").exists(), reason="this host has the driver")
@pytest.mark.parametrize("memory", ["64", "64M", "1g"])
def test_a_launch_without_the_driver_tells_the_cause_before_the_error(
    nitro_cli: NitroCli, eif: Path, memory: str
) -> None:
    arguments = ("run-enclave", "--eif-path", eif, "--memory", memory, "--cpu-count", "2")
    text = failed(nitro_cli.run(*arguments, env={"BACKTRACE": "1"}), "E19", "E39")
    pool = "/sys/module/nitro_enclaves/parameters/ne_cpus"
    assert f"\nFile: '{pool}', failing operation: 'Open'.\n" in text
    assert subactions(text) == [
        "Failed to execute command `Run`",
        "Failed to trigger enclave run",
        "Failed to construct CPU information",
        "Failed to open CPU pool file: No such file or directory (os error 2)",
    ]
    cause, separator, error = text.partition("Failed connections: 1\n[ E39 ]")
    assert separator
    assert subactions(error) == [
        "Failed to handle all enclave process replies",
        "Failed to connect to 1 enclave processes",
    ]
    logs = re.findall(r'error log found at "(.*)"', text)
    assert len(logs) == 2
    assert "Failed to open CPU pool file" in Path(logs[0]).read_text()
    assert LOG.search(cause)


def test_a_launch_without_the_image(nitro_cli: NitroCli, tmp_path: Path) -> None:
    path = tmp_path / "absent.eif"
    arguments = (
        "run-enclave",
        "--eif-path",
        path,
        "--memory",
        "64",
        "--cpu-count",
        "2",
        "--enclave-cid",
        "0",
    )
    text = failed(nitro_cli.run(*arguments), "E19", "E39")
    assert text.startswith("The enclave CID will be auto-generated as the provided CID is 0\n[ E19 ]")
    assert f"\nFile: '{path}', failing operation: 'Open'.\n" in text


def test_a_launch_that_fails_before_its_daemon_is_asked_leaves_that_behind(
    nitro_cli: NitroCli, eif: Path
) -> None:
    """It holds both ends of its connection to the command, and waits for ever."""
    nitro_cli.sockets.rmdir()
    failed(nitro_cli.run("run-enclave", "--eif-path", eif, "--memory", "64", "--cpu-count", "2"), "E07")

    def left() -> list[int]:
        return [pid for pid, command in command_lines() if os.fsencode(eif) in command]

    wait_until(lambda: len(left()) == 1, "one daemon is left")
    [daemon] = left()
    assert sockets_of(daemon) >= 2
    os.kill(daemon, signal.SIGKILL)
    wait_until(lambda: left() == [], "it has ended")


def sockets_of(pid: int) -> int:
    """How many sockets a process holds."""
    folder = Path(f"/proc/{pid}/fd")
    return sum(str(link.readlink()).startswith("socket:") for link in folder.iterdir())
