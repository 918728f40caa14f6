from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from enclavectl.errors import UsageError
from enclavectl.gateway.announced import (
    Leases,
    announce,
    announce_one,
    is_let_go,
    parse_announcement,
    read_announced,
    withdraw,
)
from enclavectl.gateway.routing import Destination, parse_destination
from enclavectl.json_object import JsonError
from tests.gateway.fake_enclave import FakeEnclave
from tests.gateway.process import gateway, wait_until

ONE, TWO = parse_destination("r@vsock:16:5005"), parse_destination("s@unix:/x")


def test_what_is_announced_is_read_and_what_ended_is_withdrawn(tmp_path: Path) -> None:
    announce(tmp_path, "nitro", {"a": ONE, "b": TWO})
    announce(tmp_path, "local", {"a": TWO})
    assert sorted(map(str, read_announced(tmp_path))) == sorted(map(str, [ONE, TWO, TWO]))
    announce(tmp_path, "nitro", {"b": TWO})
    assert read_announced(tmp_path) == [TWO, TWO]
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o640}


def test_a_file_that_is_no_announcement_stops_no_other(tmp_path: Path) -> None:
    announce(tmp_path, "nitro", {"a": ONE})
    (tmp_path / "x.json").write_text("{")
    (tmp_path / "y.json").write_text(json.dumps({"schema": "other/1"}))
    (tmp_path / ".enclavectl-0.tmp").write_text("half")
    assert read_announced(tmp_path) == [ONE]


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        read_announced(tmp_path / "none")


@pytest.mark.parametrize("key", ["schema", "enclave", "address", "release"])
def test_every_member_counts(key: str) -> None:
    value = {"schema": "enclavectl.announcement/1", "enclave": "a", "address": "unix:/x", "release": "r"}
    destination = parse_announcement(json.dumps(value).encode())
    assert destination == Destination(name="a", address=TWO.address, release="r")
    with pytest.raises((JsonError, UsageError)):
        parse_announcement(json.dumps({**value, key: "no such thing\n"}).encode())
    with pytest.raises(JsonError):
        parse_announcement(json.dumps({**value, "more": 1}).encode())


def test_a_gateway_takes_an_enclave_that_is_announced_while_it_runs(tmp_path: Path) -> None:
    folder = tmp_path / "announced"
    folder.mkdir()
    first, second = FakeEnclave(tmp_path / "1"), FakeEnclave(tmp_path / "2")
    announce(folder, "nitro", {"a": parse_destination(f"a@{first}")})
    with gateway(tmp_path / "g", [], "--from", str(folder)) as running:
        announce(folder, "nitro", {"b": parse_destination(f"b@{second}")})
        wait_until(lambda: "of release b answers" in running.notes, "the second enclave is asked")
    first.stop()
    second.stop()


def test_a_withdrawn_announcement_is_let_go_once_no_gateway_needs_its_enclave(tmp_path: Path) -> None:
    announce(tmp_path, "nitro", {"a": ONE})
    leases = Leases()
    assert leases.hold(tmp_path) == [ONE]
    announce(tmp_path, "nitro", {"a": ONE})  # the same again: the file stays, and the lock on it
    lease = withdraw(tmp_path, "nitro", "a")
    assert lease is not None
    assert read_announced(tmp_path) == []
    assert not is_let_go(lease)
    leases.let_go([ONE])
    assert not is_let_go(lease)
    leases.let_go([])
    assert is_let_go(lease)
    os.close(lease)


def test_an_announcement_that_no_gateway_read_is_let_go_at_once(tmp_path: Path) -> None:
    announce(tmp_path, "nitro", {"a": ONE, "b": TWO})
    lease = withdraw(tmp_path, "nitro", "a")
    assert lease is not None
    assert is_let_go(lease)
    os.close(lease)
    assert withdraw(tmp_path, "nitro", "a") is None
    assert read_announced(tmp_path) == [TWO]


def test_an_enclave_that_starts_again_takes_the_place_of_the_one_that_was_killed(tmp_path: Path) -> None:
    named = Destination(name="one", address=ONE.address, release="r")
    announce(tmp_path, "nitro", {"other": TWO})
    announce_one(tmp_path, "nitro", "enc1", named)
    announce_one(tmp_path, "nitro", "enc2", named)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nitro-enc2.json", "nitro-other.json"]
