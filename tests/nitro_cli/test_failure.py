"""Every code and every reason, read from text in nitro-cli's own form."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclavectl.errors import EnclavectlError, HostError, StateError
from enclavectl.nitro_cli.codes import MEANINGS
from enclavectl.nitro_cli.failure import failed_connections, read_error_log, read_failure
from enclavectl.nitro_cli.reasons import REASONS
from enclavectl.run import Output
from tests.nitro.fake.failure import Failure, render
from tests.nitro.fake.place import Place, Settings
from tests.nitro_cli.words import LINK, backtrace, error, launch_failure


def error_of(text: str, status: int, *, log: str = "", command: str = "run-enclave") -> EnclavectlError:
    output = Output(status=status, out=b"", err=text.encode())
    return read_failure(output, lambda _: log).to_error(command)


def test_every_code_of_nitro_cli_is_known() -> None:
    assert set(MEANINGS) == {f"E{number:02}" for number in range(61)}


@pytest.mark.parametrize("code", MEANINGS)
def test_every_code_has_a_cause_a_fix_and_a_page(code: str) -> None:
    found = error_of(error(code), int(code[1:]))
    assert found.code == f"nitro-cli-{code}"
    assert f"{code}: {MEANINGS[code].cause}" in found.message
    assert MEANINGS[code].fix in str(found.hint)
    assert f"{LINK}#{code}" in str(found.hint)
    assert type(found) is (StateError if code in ("E11", "E58") else HostError)


@pytest.mark.parametrize("code", MEANINGS)
@pytest.mark.parametrize("told", ["alone", "to a launch", "without BACKTRACE"])
def test_every_code_is_read_in_nitro_clis_own_text(code: str, told: str, tmp_path: Path) -> None:
    """Its sentences are those of document_errors.rs, its form that of common/mod.rs."""
    failure = Failure(code, "Something of the inside", "src/lib.rs:1", info=("/some/file", "Open", "376"))
    environ = {} if told == "without BACKTRACE" else {"BACKTRACE": "1"}
    text = render(failure.sub("What was being done").during("Run Enclave"), place_in(tmp_path), environ)
    output = Output(
        status=39, out=b"", err=(launch_failure(text) if told == "to a launch" else text).encode()
    )
    found = read_failure(output, read_error_log)
    assert (found.code, found.meaning) == (code, MEANINGS[code])
    if code == "E19":
        assert (found.file, found.operation) == ("/some/file", "Open")
    if code == "E26":
        assert "376" in found.said
    assert "MISSING_INFO" not in found.said
    # Inline, or in the err log that the text names.
    assert found.reason == "Something of the inside"
    assert found.log is not None
    assert Path(found.log).parent == tmp_path


@pytest.mark.parametrize("words", REASONS)
def test_every_reason_is_read_in_nitro_clis_own_text(words: str, tmp_path: Path) -> None:
    failure = Failure(
        "E36" if "vsock" in words.lower() else "E29", words, "src/enclave_proc/resource_manager.rs:858"
    )
    failure.sub("Start enclave ioctl failed", "Enclave start issue", "Failed to run enclave")
    text = render(failure.during("Run Enclave"), place_in(tmp_path), {"BACKTRACE": "1"})
    found = error_of(launch_failure(text), 39)
    assert REASONS[words].cause in found.message
    assert REASONS[words].fix in str(found.hint)


def place_in(folder: Path) -> Place:
    return Place(home=folder, sockets=folder, logs=folder, settings=Settings())


@pytest.mark.parametrize("words", REASONS)
@pytest.mark.parametrize("where", ["inline", "log"])
def test_the_drivers_reason_is_found_in_the_backtrace_or_its_file(words: str, where: str) -> None:
    subactions = ["Failed to create enclave", "Start enclave ioctl failed", words]
    first = error("E29", subactions=subactions if where == "inline" else None, log="/logs/err1.log")
    found = error_of(launch_failure(first), 39, log=backtrace(subactions) if where == "log" else "")
    assert found.code == "nitro-cli-E29"
    assert REASONS[words].cause in found.message
    assert words in found.message
    assert REASONS[words].fix in str(found.hint)
    assert "log: /logs/err1.log" in str(found.hint)


def test_the_first_code_is_the_cause_and_the_status_is_not() -> None:
    found = error_of(launch_failure(error("E36", subactions=["Enclave start issue"])), 39)
    assert found.code == "nitro-cli-E36"
    assert "it said: Enclave start issue" in found.message


def test_an_echo_before_the_cause_is_an_echo_still() -> None:
    assert error_of(error("E38") + error("E26"), 38).code == "nitro-cli-E26"
    assert error_of("Failed connections: 1\n" + error("E39"), 39).code == "nitro-cli-E39"


def test_an_error_of_the_driver_without_a_name() -> None:
    found = error_of(error("E29", subactions=["Create VM failed", "An error has occurred: 12 (rc: -1)"]), 39)
    assert "An error has occurred: 12 (rc: -1)" in found.message


def test_a_reason_that_nobody_listed_is_shown_as_it_is() -> None:
    found = error_of(error("E29", subactions=["Create VM ioctl failed", "The moon is full"]), 39)
    assert "it said: The moon is full" in found.message
    assert MEANINGS["E29"].cause in found.message


def test_numbers_that_only_nitro_cli_knows_are_kept() -> None:
    info = (
        "Insufficient memory requested. User provided `memory` is 100 MB, but based on the EIF file size, "
        "the minimum memory should be 376 MB"
    )
    assert "376 MB" in error_of(launch_failure(error("E26", info)), 39).message
    assert "`?`" in error_of(error("E02", "User provided both `cpu_count` and `MISSING_INFO`."), 2).message


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("/dev/nitro_enclaves", "device cannot be opened"),
        ("/sys/module/nitro_enclaves/parameters/ne_cpus", "driver is not loaded"),
        ("/var/log/nitro_enclaves/nitro_enclaves.log", "own log cannot be written"),
        ("/usr/share/nitro_enclaves/blobs/cmdline", "no boot files"),
        ("/tmp/a.eif", "cannot be opened, read or written"),
    ],
)
def test_file_and_operation(file: str, words: str) -> None:
    info = f"File operation failure. Such error appears.\nFile: '{file}', failing operation: 'Open'."
    found = error_of(launch_failure(error("E19", info)), 39)
    assert f"(Open of {file})" in found.message
    assert words in found.message


def test_a_code_may_stand_behind_other_words() -> None:
    found = error_of(error("E11", prefix="Failed to connect | "), 11, command="terminate-enclave")
    assert isinstance(found, StateError)
    assert found.message.startswith("nitro-cli terminate-enclave: E11")


def test_what_linuxkit_said_is_unescaped() -> None:
    said = 'Linuxkit reported an error while creating the customer ramfs: "one\\ntwo\\nno space left"\n'
    found = error_of(said + error("E48"), 48, command="build-enclave")
    assert "no space left" in found.message
    assert "\\n" not in found.message


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (2, "usage", "unexpected argument"),
        (101, "panic", "panicked"),
        (126, "not-executable", "executed"),
        (127, "not-found", "missing"),
        (-9, "SIGKILL", "SIGKILL"),
        (-250, "signal 250", "signal 250"),
        (77, "status-77", "without a code"),
    ],
)
def test_failures_without_a_code(status: int, code: str, words: str) -> None:
    found = error_of("error: unexpected argument '--metadata' found\n\nUsage: nitro-cli\n", status)
    assert found.code == f"nitro-cli-{code}"
    assert words in found.message
    assert found.hint


def test_two_stands_for_usage_or_e02() -> None:
    assert error_of(error("E02"), 2).code == "nitro-cli-E02"


def test_a_code_of_the_future() -> None:
    found = error_of(error("E77", "Something new."), 77)
    assert (found.code, "Something new." in found.message) == ("nitro-cli-E77", True)


@given(st.text(), st.integers(-70, 255))
def test_anything_is_an_error(text: str, status: int) -> None:
    found = error_of(text, status)
    assert found.exit_code in (3, 6)
    assert found.message.startswith("nitro-cli run-enclave: ")


def test_failed_connections() -> None:
    assert failed_connections(b"Failed connections: 2\n[ E39 ]") == 2
    assert failed_connections(b"\xff") == 0


def test_error_logs_may_be_missing_or_long(tmp_path: Path) -> None:
    path = tmp_path / "err.log"
    path.write_bytes(b"x" * 100_000)
    assert len(read_error_log(path)) == 64 * 1024
    assert read_error_log(tmp_path / "none") == ""
    # Its folder is open to a whole group: nobody may make us wait there.
    os.mkfifo(tmp_path / "fifo")
    assert read_error_log(tmp_path / "fifo") == ""
    assert read_error_log(Path("a\0b")) == ""
