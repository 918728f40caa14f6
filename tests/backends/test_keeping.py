"""What every keeper does alike: names, locks, lifelines, the processes that records mean, and their ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count, product
from pathlib import Path

import pytest

from enclavectl.backends.keeping import names
from enclavectl.backends.keeping.folders import remove_after_starter
from enclavectl.backends.keeping.identity import ProcessIdentity
from enclavectl.backends.keeping.keeper_process import start_keeper
from enclavectl.backends.keeping.lifeline import Lifeline, LifelineEnd
from enclavectl.backends.keeping.locks import is_kept, lock_enclave, wait_until_released
from enclavectl.errors import HostError, StateError, UsageError
from enclavectl.json_object import JsonError, JsonObject, parse_json


def counting() -> Iterator[bytes]:
    return (number.to_bytes(4, "big") for number in count())


def test_a_name_of_two_words_may_be_an_enclaves_name_and_is_not_taken() -> None:
    draws = counting()
    taken: set[str] = set()
    for _ in range(500):
        name = names.two_words(taken, lambda _: next(draws))
        names.check_name(name)
        assert name.count("-") == 1
        names.require_free_name(name, taken)
        taken.add(name)


def test_every_pair_of_words_can_be_drawn() -> None:
    draws = counting()
    pairs = len(names._ADJECTIVES) * len(names._NOUNS)
    found = {names.two_words((), lambda _: next(draws)) for _ in range(pairs)}
    assert found == {f"{one}-{two}" for one, two in product(names._ADJECTIVES, names._NOUNS)}
    assert pairs > 5000


def test_where_draws_are_taken_a_number_follows() -> None:
    first = names.two_words((), lambda _: bytes(4))
    second = names.two_words({first}, lambda _: bytes(4))
    assert second == f"{first}-2"
    assert names.two_words({first, second}, lambda _: bytes(4)) == f"{first}-3"


@pytest.mark.parametrize("name", ["", "-a", "a b", "a/b", "ä", "a" * 65, ".a"])
def test_what_no_enclave_may_be_called(name: str) -> None:
    with pytest.raises(UsageError, match="name: expected"):
        names.check_name(name)


def test_a_name_that_is_taken_is_a_state_error() -> None:
    with pytest.raises(StateError, match="exists already"):
        names.require_free_name("a", {"a"})


@contextmanager
def lifeline() -> Iterator[tuple[Lifeline, LifelineEnd]]:
    read, write = os.pipe()
    try:
        yield Lifeline(write), LifelineEnd(read)
    finally:
        os.close(read)


def test_a_lifeline_that_is_cut_ends_and_one_that_is_released_does_not() -> None:
    with lifeline() as (command, keeper):
        assert not keeper.is_cut()
        command.cut()
        assert keeper.is_cut()
        assert not keeper.is_released()
        assert not keeper.wait_cut()
    with lifeline() as (command, keeper):
        command.release()
        assert keeper.wait_cut()
        assert not keeper.is_cut()
        assert keeper.is_released()


def test_a_keeper_that_waits_for_its_starter_can_be_woken() -> None:
    read, write = os.pipe()
    with lifeline() as (command, keeper):
        os.write(write, b"x")
        assert not keeper.wait_cut(read)
        command.cut()
    os.close(read)
    os.close(write)


def test_releasing_to_a_keeper_that_was_killed_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    Lifeline(write).release()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(write)


KEEPER = """
import os, sys
from enclavectl.backends.keeping.lifeline import LifelineEnd
from enclavectl.backends.keeping.locks import lock_enclave
from pathlib import Path
lock_enclave(Path("."))
print("begun", flush=True)
end = LifelineEnd(int(sys.argv[1]))
if end.is_released():
    print("released", flush=True)
    end.wait_cut()
print("ended", flush=True)
"""


def start(folder: Path) -> tuple[subprocess.Popen[bytes], Lifeline]:
    read, write = os.pipe()
    process = subprocess.Popen([sys.executable, "-c", KEEPER, str(read)], cwd=folder, pass_fds=(read,))
    os.close(read)
    return process, Lifeline(write)


def test_a_keeper_is_waited_for_by_its_lock(tmp_path: Path) -> None:
    process, command = start(tmp_path)
    until(lambda: is_kept(tmp_path))
    waited: list[float] = []
    assert not wait_until_released(tmp_path, 0.05, waited.append)
    assert waited
    command.cut()
    assert wait_until_released(tmp_path, 20)
    assert process.wait(60) == 0


def test_a_keeper_process_ends_with_its_lifeline_and_its_log_is_private(tmp_path: Path) -> None:
    """The supervisor itself, which fails on a specification that is none: what it says is in the log."""
    log = tmp_path / "log"
    keeper = start_keeper(
        "enclavectl.backends.local.supervisor",
        lambda fd: f'{{"lifeline_fd": {fd}}}',
        folder=tmp_path,
        log=log,
        pass_fds=(),
    )
    assert keeper.end(20)
    assert keeper.was_killed
    assert "TypeError" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600


def test_a_keeper_whose_log_cannot_be_written_is_a_host_error(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="cannot be written"):
        start_keeper("x", lambda _: "", folder=tmp_path, log=tmp_path / "absent" / "log", pass_fds=())


@pytest.mark.parametrize("is_released", [False, True])
def test_an_ended_enclave_is_dead_before_its_folder_goes_and_stays_if_released(
    tmp_path: Path, is_released: bool
) -> None:
    folder = tmp_path / "enc1"
    folder.mkdir()
    lock = lock_enclave(folder)
    seen: list[bool] = []

    def wait() -> bool:
        seen.append(is_kept(folder))
        return is_released

    remove_after_starter(folder, lock, wait)
    assert seen == [False]
    assert folder.exists() is is_released


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def test_a_process_is_known_again_by_its_record(sleeper: subprocess.Popen[bytes]) -> None:
    identity = ProcessIdentity.of(sleeper.pid)
    value = parse_json(str(identity.to_json()).replace("'", '"').encode())
    again = ProcessIdentity.from_json(JsonObject.of(value))
    assert again == identity
    handle = again.open()
    assert handle is not None
    signal.pidfd_send_signal(handle, signal.SIGKILL)
    assert sleeper.wait(60) == -signal.SIGKILL
    os.close(handle)


def test_a_number_that_another_process_has_now_is_not_opened(sleeper: subprocess.Popen[bytes]) -> None:
    identity = ProcessIdentity.of(sleeper.pid)
    assert identity._replace(started_ticks=identity.started_ticks - 1).open() is None
    assert identity._replace(boot_id="another boot").open() is None
    assert sleeper.poll() is None


def test_a_process_that_has_ended_is_not_opened(sleeper: subprocess.Popen[bytes]) -> None:
    identity = ProcessIdentity.of(sleeper.pid)
    sleeper.kill()
    sleeper.wait()
    assert identity.open() is None
    with pytest.raises(HostError, match="cannot be read"):
        ProcessIdentity.of(sleeper.pid)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process of another user")
def test_a_process_of_another_user_is_not_opened() -> None:
    with subprocess.Popen(["sleep", "60"], user=65534, group=65534) as process:
        assert ProcessIdentity.of(process.pid).open() is None
        assert process.poll() is None
        process.kill()


@pytest.mark.parametrize("pid", [0, -1, 2**22 + 1, "1", 1.0, True])
def test_a_record_of_no_process_is_refused(pid: object) -> None:
    with pytest.raises(JsonError, match="pid"):
        ProcessIdentity.from_json(JsonObject.of({"pid": pid, "started_ticks": 1, "boot_id": "b"}))


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
