"""A full disk, a guest without memory, a QEMU that hangs, and an end in the middle of a request."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from enclavectl.backends.state import EnclaveState
from enclavectl.errors import EnclavectlError, HostError
from enclavectl.host.probe import LiveProbe
from enclavectl.host.qemu import examine_qemu
from enclavectl.net.transport import connect
from tests.backends.qemu.test_keeper import Place, wait_until
from tests.small_disk import fill, free, small_disk


def end_all(place: Place) -> None:
    for enclave in place.backend.enclaves():
        place.backend.terminate(enclave)
    wait_until(lambda: not place.processes())
    assert place.leftovers() == []


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    end_all(made)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Place]:
    """A place whose state folder is a file system of 1 MiB."""
    made = Place(tmp_path)
    with small_disk(made.state, "1m"):
        yield made
        free(made.state)
        end_all(made)


def test_a_disk_that_is_full_before_the_start_is_said_and_nothing_stays(small: Place) -> None:
    small.backend.enclaves()
    fill(small.state)
    with pytest.raises(EnclavectlError, match="No space left"):
        small.run("serves")
    free(small.state)
    assert small.processes() == []
    assert small.backend.enclaves() == []


def test_an_enclave_outlives_a_full_disk_and_can_be_ended_on_one(small: Place) -> None:
    enclave = small.run("takes")
    fill(small.state)
    connect(enclave.address, 30.0).close()
    [listed] = small.backend.enclaves()
    assert listed.state is EnclaveState.RUNNING
    small.backend.terminate(listed)
    assert small.processes() == []
    assert small.leftovers() == []


def test_a_guest_without_memory_has_one_line_of_cause_and_one_of_fix(place: Place) -> None:
    with pytest.raises(HostError) as caught:
        place.run("starves")
    assert caught.value.code == "out-of-memory"
    assert "ran out of memory (Initramfs unpacking failed: write error)" in caught.value.message
    assert "--memory" in str(caught.value.hint)
    assert "\n" not in caught.value.message + str(caught.value.hint)


@pytest.mark.parametrize("whom", ["keeper", "qemu"])
def test_a_request_that_waits_ends_at_once_when_either_process_is_killed(place: Place, whom: str) -> None:
    enclave = place.run("takes")
    keeper = enclave.pid
    assert keeper is not None
    children = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
    with connect(enclave.address, 30.0) as sock:
        sock.settimeout(60)
        sock.sendall(b"a request")
        os.kill(keeper if whom == "keeper" else int(children[0]), signal.SIGKILL)
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(1) == b""
    wait_until(lambda: not place.processes())
    with pytest.raises(EnclavectlError):
        connect(enclave.address, 1.0)


def test_a_qemu_that_hangs_is_ended_and_named(tmp_path: Path) -> None:
    program = tmp_path / "qemu-system-x86_64"
    program.write_text("#!/bin/sh\nkill -STOP $$\n")
    program.chmod(0o755)
    lack = examine_qemu(LiveProbe(environ={"PATH": str(tmp_path)}, timeout_s=1.0), str(program))
    assert isinstance(lack, str)
    assert lack == f"{program}: did not end within 1 s"
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(program) in told(path)]


def told(path: Path) -> str:
    """The words of a process; none of one that has just ended."""
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:
        return ""
