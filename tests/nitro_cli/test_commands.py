"""Command lines of nitro-cli, and the arithmetic around them."""

from __future__ import annotations

from pathlib import Path

import pytest

from enclavectl.errors import UsageError
from enclavectl.nitro_cli.build_enclave import BuildEnclave
from enclavectl.nitro_cli.commands import Console, RunEnclave
from enclavectl.nitro_cli.describe_enclaves import DescribeEnclaves
from enclavectl.nitro_cli.limits import boot_bound_s, check_cid, minimum_memory_mib
from enclavectl.nitro_cli.terminate_enclave import TerminateEnclave

EIF = Path("/a/b.eif")
GIB = 1 << 30


def test_run_enclave_in_full() -> None:
    command = RunEnclave(eif=EIF, memory_mib=8192, cpu_count=4, cid=16, debug=True, name="first")
    assert " ".join(command.to_argv()) == (
        "run-enclave --cpu-count 4 --memory 8192 --eif-path /a/b.eif --enclave-name first "
        "--enclave-cid 16 --debug-mode"
    )


def test_without_a_cid_the_driver_chooses() -> None:
    assert "--enclave-cid" not in RunEnclave(eif=EIF, memory_mib=64, cpu_count=2, name="n").to_argv()


@pytest.mark.parametrize(
    "wrong",
    [
        {"cpu_count": 0},
        {"cpu_count": 2, "memory_mib": 63},
        {"cpu_count": 2, "cid": 3},
    ],
)
def test_what_the_driver_would_refuse_is_refused_at_once(wrong: dict[str, object]) -> None:
    given = {"eif": EIF, "memory_mib": 64, "name": "n", **wrong}
    with pytest.raises(UsageError):
        RunEnclave(**given)  # type: ignore[arg-type]  # values of any field's type


@pytest.mark.parametrize("cid", [0, 1, 2, 3, 2**32 - 1, 2**32, -1])
def test_reserved_cids(cid: int) -> None:
    with pytest.raises(UsageError, match="reserved for"):
        check_cid(cid)


def test_free_cids() -> None:
    check_cid(4)
    check_cid(2**32 - 2)


def test_the_other_commands() -> None:
    assert TerminateEnclave(enclave_id="i-1-enc2").to_argv() == [
        "terminate-enclave",
        "--enclave-id",
        "i-1-enc2",
    ]
    assert DescribeEnclaves().to_argv() == ["describe-enclaves"]
    assert Console(enclave_id="x").to_argv() == ["console", "--enclave-id", "x"]
    build = BuildEnclave(image="i:1", output=EIF, key="k", certificate=Path("c")).to_argv()
    assert build[:5] == ["build-enclave", "--docker-uri", "i:1", "--output-file", "/a/b.eif"]
    assert build[5:] == ["--private-key", "k", "--signing-certificate", "c"]


@pytest.mark.parametrize(
    ("size", "mib"), [(1, 64), (16 << 20, 64), ((16 << 20) + 1, 68), (10 * GIB, 40960), (100 << 20, 400)]
)
def test_memory_is_four_times_the_image_rounded_as_nitro_cli_rounds(size: int, mib: int) -> None:
    assert minimum_memory_mib(size) == mib


@pytest.mark.parametrize(
    ("size", "mib", "seconds"),
    [
        (1, 64, 180),
        (6 * GIB, 100 << 10, 180),
        (6 * GIB + 1, 100 << 10, 270),
        (6 * GIB, (100 << 10) + 1, 270),
        (13 * GIB, 64, 360),
    ],
)
def test_the_boot_bound_is_nitro_clis_own(size: int, mib: int, seconds: int) -> None:
    assert boot_bound_s(size, mib) == seconds
