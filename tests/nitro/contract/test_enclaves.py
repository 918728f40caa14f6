"""What can be asked where no enclave runs, and what a failure leaves behind."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from tests.cli.command import Done
from tests.nitro.contract.errors import LOG, failed, subactions
from tests.nitro.real import NitroCli

ABSENT = 'Os { code: 2, kind: NotFound, message: "No such file or directory" }'


def test_no_enclaves(nitro_cli: NitroCli) -> None:
    assert nitro_cli.run("describe-enclaves") == Done(0, "[]\n", "")
    assert nitro_cli.run("describe-enclaves", "--metadata") == Done(0, "[]\n", "")
    assert nitro_cli.run("terminate-enclave", "--all") == Done(0, "[]\n", "")


def test_stale_sockets_are_cleared_away(nitro_cli: NitroCli) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(nitro_cli.sockets / "1b2c.sock"))
    (nitro_cli.sockets / "note.txt").write_text("stays")
    assert nitro_cli.run("describe-enclaves").out == "[]\n"
    assert [path.name for path in nitro_cli.sockets.iterdir()] == ["note.txt"]


@pytest.mark.parametrize("command", ["describe-enclaves", "describe-eif", "pcr", "explain"])
def test_without_a_log_folder_nothing_works(nitro_cli: NitroCli, command: str) -> None:
    nitro_cli.logs.rmdir()
    arguments = {
        "describe-eif": ("--eif-path", "x"),
        "pcr": ("--input", "x"),
        "explain": ("--error-code", "E19"),
    }.get(command, ())
    text = failed(nitro_cli.run(command, *arguments), "E19")
    log = nitro_cli.logs / "nitro_enclaves.log"
    assert f"\nFile: '{log}', failing operation: 'Open'.\n" in text
    # The report of the failure makes the folder, so that the second try works.
    assert nitro_cli.run("describe-enclaves") == Done(0, "[]\n", "")


def test_without_a_socket_folder(nitro_cli: NitroCli, eif: Path) -> None:
    nitro_cli.sockets.rmdir()
    failed(nitro_cli.run("describe-enclaves"), "E07")
    failed(nitro_cli.run("terminate-enclave", "--enclave-name", "x"), "E07")
    text = failed(nitro_cli.run("terminate-enclave", "--all"), "E19")
    assert f"\nFile: '{nitro_cli.sockets}', failing operation: 'Read'.\n" in text


def test_unknown_enclaves(nitro_cli: NitroCli) -> None:
    failed(nitro_cli.run("terminate-enclave", "--enclave-id", "i-0-enc12"), "E11")
    failed(nitro_cli.run("terminate-enclave", "--enclave-name", "nobody"), "E58")
    failed(nitro_cli.run("console", "--enclave-id", "i-0-enc12"), "E11")
    failed(nitro_cli.run("console", "--enclave-name", "nobody"), "E58")


def test_an_error_has_a_log_with_the_cause_and_shows_it_when_asked(nitro_cli: NitroCli) -> None:
    arguments = ("terminate-enclave", "--enclave-id", "i-0-enc12")
    plain = nitro_cli.run(*arguments).err
    match = LOG.search(plain)
    assert match is not None
    log = Path(match[1])
    assert log.parent == nitro_cli.logs
    assert re.fullmatch(r"err\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+\+00:00\.log", log.name)
    text = log.read_text()
    expected = [
        "Failed to connect to enclave process",
        f"Failed to connect to specific enclave process: {ABSENT}",
    ]
    assert text.startswith("  Action: Terminate Enclave\n  Subactions:\n    ")
    assert subactions(text) == expected
    assert re.search(r"\n  Root error file: .*src/enclave_proc_comm\.rs\n  Root error line: \d+\n", text)
    assert "Backtrace" not in plain
    told = nitro_cli.run(*arguments, env={"BACKTRACE": "1"}).err
    assert f"\n\nBacktrace:\n{text}\n\nIf you open a support ticket" in told
