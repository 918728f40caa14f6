"""The backend with a program in QEMU's place: how starts fail, how enclaves end, and that nothing stays."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from enclavectl.backends.console_log import HALF_BYTES
from enclavectl.backends.history import History
from enclavectl.backends.machine import EmulatedEnclave, MachineSpec
from enclavectl.backends.qemu.backend import QemuBackend
from enclavectl.backends.qemu.settings import QemuSettings
from enclavectl.backends.state import EnclaveState
from enclavectl.config.choices import Accelerator
from enclavectl.errors import HostError, StateError
from enclavectl.net.address import HybridVsockAddress
from enclavectl.net.transport import connect
from enclavectl.trust import Trust
from tests.eif import samples

ROOT = Path(__file__).parents[3]
_WAIT_S = 60.0


class Place:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        program = folder / "qemu-system-x86_64"
        argv = shlex.join([sys.executable, "-m", "tests.backends.qemu.fake_qemu"])
        program.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {argv} "$@"\n')
        program.chmod(0o755)
        self.state = folder / "s"
        self.backend = QemuBackend(
            QemuSettings(state_dir=self.state, environ={}, program=program, accelerator=Accelerator.TCG)
        )

    def spec(self, machine: str, **changed: object) -> MachineSpec:
        """An image of this machine's name, alone."""
        image = self.folder / f"{machine}.eif"
        image.write_bytes(samples.image())
        spec = MachineSpec(
            name=None, debug=False, memory_mib=64, port_in=5005, port_out=5006, image=image, cpus=1, cid=None
        )
        return replace(spec, **changed)  # type: ignore[arg-type]  # one of each kind

    def run(self, machine: str, **changed: object) -> EmulatedEnclave:
        with self.backend.start(self.spec(machine, **changed), detached=True) as running:
            return running.enclave

    def processes(self) -> list[int]:
        found = []
        for path in Path("/proc").iterdir():
            with suppress(OSError, ValueError):
                if str(self.folder).encode() in (path / "cmdline").read_bytes():
                    found.append(int(path.name))
        return found

    def leftovers(self) -> list[Path]:
        return list((self.state / "qemu" / "enclaves").iterdir())


def wait_until(is_true: Callable[[], object]) -> None:
    deadline = time.monotonic() + _WAIT_S
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    for enclave in made.backend.enclaves():
        made.backend.terminate(enclave)
    wait_until(lambda: not made.processes())
    assert made.leftovers() == []


def test_an_enclave_stays_is_listed_and_ends(place: Place) -> None:
    enclave = place.run("serves")
    assert (enclave.trust, enclave.machine.cid, enclave.has_console) == (Trust.EMULATED, 16, True)
    assert enclave.release is not None
    [listed] = place.backend.enclaves()
    assert (listed.name, listed.state) == ("serves", EnclaveState.RUNNING)
    place.backend.terminate(listed)
    [entry] = History(place.state).all()
    assert (entry.how, entry.trust, entry.backend) == ("terminated by enclavectl", "emulated", "qemu")
    assert "Linux version" in entry.console


def test_the_copy_of_the_image_is_gone_once_it_has_booted(place: Place) -> None:
    enclave = place.run("serves")
    assert list((place.state / "qemu" / "enclaves" / enclave.enclave_id / "image").iterdir()) == []


def test_cids_are_chosen_and_a_taken_one_is_refused(place: Place) -> None:
    first, second = place.run("serves", name="a"), place.run("serves", name="b")
    assert (first.machine.cid, second.machine.cid) == (16, 17)
    with pytest.raises(StateError, match="in use by a"):
        place.backend.start(place.spec("serves", name="c", cid=16), detached=True)
    place.backend.terminate(first)
    assert place.run("serves", name="d").machine.cid == 16


@pytest.mark.parametrize(
    ("machine", "code", "words"),
    [
        ("panics", "kernel-panic", "Attempted to kill init"),
        ("refuses", "qemu-failed", "Failed to parse EIF"),
        ("lies", "no-heartbeat", "expected an address in the guest's memory"),
    ],
)
def test_a_boot_that_fails_says_why_and_leaves_nothing(
    place: Place, machine: str, code: str, words: str
) -> None:
    with pytest.raises(HostError) as caught:
        place.backend.start(place.spec(machine), detached=True)
    assert caught.value.code == code
    assert words in caught.value.message
    assert caught.value.hint
    assert place.leftovers() == []
    assert [entry.name for entry in History(place.state).all()] == [machine]


def test_an_enclave_that_ends_by_itself_says_why_and_is_listed_as_dead(place: Place) -> None:
    with place.backend.start(place.spec("dies"), detached=True) as running:
        wait_until(lambda: running.failure() is not None)
        failure = running.failure()
        assert failure is not None
        assert (failure.code, "numpy" in failure.message) == ("module-missing", True)
    wait_until(lambda: [one.state for one in place.backend.enclaves()] == [EnclaveState.DEAD])


def test_a_flooded_console_stays_bounded_and_keeps_its_end(place: Place) -> None:
    enclave = place.run("floods")
    folder = place.state / "qemu" / "enclaves" / enclave.enclave_id
    wait_until(lambda: b"the last line" in b"".join(place.backend.console(enclave, follow=False)))
    assert sum(path.stat().st_size for path in folder.glob("console.log*")) <= 2 * HALF_BYTES


@pytest.mark.parametrize("whom", ["keeper", "qemu"])
def test_a_kill_of_one_process_ends_the_other(place: Place, whom: str) -> None:
    enclave = place.run("serves")
    keeper = enclave.pid
    assert keeper is not None
    children = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
    os.kill(keeper if whom == "keeper" else int(children[0]), signal.SIGKILL)
    wait_until(lambda: not place.processes())
    # A process that ends gives its command line back before its lock.
    wait_until(lambda: [one.state for one in place.backend.enclaves()] == [EnclaveState.DEAD])
    [dead] = place.backend.enclaves()
    assert not [path for path in place.state.rglob("*") if path.is_socket()]
    place.backend.terminate(dead)
    [entry] = History(place.state).all()
    assert "killed" in entry.how


def test_an_enclave_of_one_command_ends_with_it(place: Place) -> None:
    with place.backend.start(place.spec("serves"), detached=False) as running:
        assert running.is_alive()
        assert place.backend.enclaves()[0].is_owned
    assert place.processes() == []
    assert place.leftovers() == []
    assert History(place.state).all() == []


def test_what_a_killed_command_and_keeper_left_is_swept_by_the_next_start(place: Place) -> None:
    running = place.backend.start(place.spec("serves"), detached=False)
    pid = running.enclave.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not running.is_alive())
    assert len(place.leftovers()) == 1
    place.run("serves", name="next")
    assert len(place.leftovers()) == 1
    running.abandon()


def test_a_port_on_which_the_guest_does_not_listen_is_refused_at_once(place: Place) -> None:
    enclave = place.run("serves")
    assert isinstance(enclave.address, HybridVsockAddress)
    with pytest.raises(StateError, match="no enclave answers there"):
        connect(HybridVsockAddress(enclave.address.path, 99), 30.0)
