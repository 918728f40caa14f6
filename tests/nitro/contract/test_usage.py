"""Version, usage errors and explanations."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from tests.cli.command import Done
from tests.nitro.contract.errors import CAUSE
from tests.nitro.fake.declared import commands_of
from tests.nitro.fake.failure import explanation
from tests.nitro.real import NitroCli

SUBCOMMANDS = list(commands_of("1.5.2"))


def test_version(nitro_cli: NitroCli) -> None:
    ran = nitro_cli.run("--version")
    assert re.fullmatch(r"Nitro CLI \d+\.\d+\.\d+\n", ran.out)
    assert (ran.status, ran.err) == (0, "")


USAGE: list[Sequence[str]] = [
    [],
    *([name, "--bogus"] for name in SUBCOMMANDS),
    *([name] for name in SUBCOMMANDS if name not in {"describe-enclaves", "sign-eif"}),
    ["-x"],
    ["bogus"],
    ["describe"],
    ["run-enclaves"],
    ["terminate", "--all"],
    ["describe-enclaves", "--metadat"],
    ["describe-enclaves", "--metadata=3"],
    ["describe-enclaves", "x"],
    ["describe-eif", "--eif-path"],
    ["describe-eif", "--eif-path", "a", "--eif-path", "b"],
    ["terminate-enclave", "--all", "--enclave-id", "x"],
    ["console", "--enclave-id", "a", "--enclave-name", "b"],
    ["pcr", "--input", "a", "--signing-certificate", "b"],
    ["sign-eif", "--private-key", "x"],
    ["build-enclave", "--docker-uri", "x"],
    ["run-enclave", "--memory", "3"],
    ["run-enclave", "--debug"],
    ["run-enclave", "--eif", "x"],
    ["run-enclave", "--config", "x", "--memory", "3"],
    ["run-enclave", "--cpu-count", "2", "--memory", "-5", "--eif-path", "x"],
    ["run-enclave", "--cpu-count", "2", "--cpu-ids", "1", "2", "--memory", "3", "--eif-path", "x"],
]


@pytest.mark.parametrize("arguments", USAGE, ids=" ".join)
def test_usage_errors_end_with_2_and_no_code_of_nitro_cli(
    nitro_cli: NitroCli, arguments: Sequence[str]
) -> None:
    """The product tells them by the exit status; their texts are clap's own."""
    ran = nitro_cli.run(*arguments)
    assert ran.status == 2
    assert ran.out == ""
    assert ran.err.startswith("error: ") or not arguments  # with no words, clap prints its help
    assert CAUSE.search(ran.err) is None  # exit 2 is clap's, and E02's
    assert not (nitro_cli.logs / "nitro_enclaves.log").exists()  # none of this needs the log


def test_explain(nitro_cli: NitroCli) -> None:
    """On stderr, exit 0 also for what it does not know, and some codes were forgotten."""
    assert nitro_cli.run("explain", "--error-code", "E19").err.startswith(
        "File operation failure. Such error"
    )
    for code in ("e19", "E57", "E61"):
        ran = nitro_cli.run("explain", "--error-code", code)
        assert ran == Done(0, "", f"No such error code {code}\n")


@pytest.mark.nitro_cli
def test_every_explanation_is_the_same(real: NitroCli) -> None:
    for code in (*(f"E{number:02}" for number in range(62)), "19", ""):
        assert real.run("explain", "--error-code", code) == Done(0, "", explanation(code) + "\n")
