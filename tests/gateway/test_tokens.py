from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from threading import Barrier, Thread
from typing import BinaryIO

import pytest

from enclavectl.errors import StateError, UsageError
from enclavectl.gateway.tokens import (
    MAX_TOKENS,
    TokenFile,
    TokenSet,
    change_tokens,
    parse_tokens,
    read_tokens,
    write_tokens,
)
from enclavectl.json_object import JsonError
from tests.gateway.process import COMMAND, environment, run_command

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


def test_a_token_is_found_by_its_own_bytes_only() -> None:
    tokens, one = TokenSet().added("one", None)
    tokens, two = tokens.added("two", None)
    assert len(one) == 43
    found = tokens.find(two, NOW)
    assert found is not None
    assert found.name == "two"
    for wrong in ("", one[:-1], one + "=", one.swapcase(), "é" * 43, "A" * 43):
        assert tokens.find(wrong, NOW) is None


def test_a_token_ends_at_its_time() -> None:
    tokens, token = TokenSet().added("one", NOW + timedelta(days=1))
    assert tokens.find(token, NOW + timedelta(hours=23)) is not None
    assert tokens.find(token, NOW + timedelta(days=1)) is None
    assert tokens.keys(NOW) != frozenset()
    assert tokens.keys(NOW + timedelta(days=1)) == frozenset()


def test_the_file_is_private_and_has_no_token(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    tokens, token = TokenSet().added("one", NOW)
    write_tokens(path, tokens)
    assert path.stat().st_mode & 0o777 == 0o600
    assert token not in path.read_text()
    assert read_tokens(path) == tokens


def test_a_change_keeps_what_the_group_of_a_gateway_may_read(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    write_tokens(path, TokenSet())
    path.chmod(0o640)
    change_tokens(path, lambda found: found.added("one", None)[0])
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_a_change_by_root_leaves_the_file_to_the_gateways_user(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    write_tokens(path, TokenSet())
    os.chown(path, 4711, 4712)
    change_tokens(path, lambda found: found.added("one", None)[0])
    found = path.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (4711, 4712, 0o600)


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    write_tokens(path, TokenSet())
    for mode in (0o604, 0o660, 0o620):
        path.chmod(mode)
        with pytest.raises(UsageError, match=f"found {mode:04o}"):
            read_tokens(path)
    path.chmod(0o440)  # the group of a pod may read its secrets: it has no token, but hashes of them
    assert read_tokens(path) == TokenSet()


def test_a_change_of_the_file_counts_at_once_and_a_bad_one_does_not(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    file = TokenFile(path)
    assert (file.refresh(), file.has_had_tokens) == (TokenSet(), False)
    tokens, _ = TokenSet().added("one", None)
    write_tokens(path, tokens)
    assert (file.refresh(), file.has_had_tokens) == (tokens, True)
    path.write_text("{")
    with pytest.raises(UsageError):
        file.refresh()
    assert file.tokens == tokens
    write_tokens(path, TokenSet())
    assert (file.refresh(), file.has_had_tokens) == (TokenSet(), True)


def test_changes_at_once_are_made_one_after_the_other(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    names = [f"client-{number}" for number in range(8)]
    write_tokens(path, TokenSet().added("leaked", None)[0])
    start = Barrier(len(names) + 1)

    def change(name: str | None) -> None:
        start.wait()
        change_tokens(
            path, lambda found: found.revoked("leaked") if name is None else found.added(name, None)[0]
        )

    threads = [Thread(target=change, args=(name,)) for name in (*names, None)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(entry.name for entry in read_tokens(path).entries) == names


def test_names_are_bounded_and_unique() -> None:
    tokens, _ = TokenSet().added("one", None)
    with pytest.raises(StateError, match="already"):
        tokens.added("one", None)
    for name in ("", "-x", "a b", "a" * 65, "ä", "a\n"):
        with pytest.raises(UsageError):
            tokens.added(name, None)
    with pytest.raises(StateError, match="no token called"):
        tokens.revoked("two")
    assert tokens.revoked("one") == TokenSet()
    full = TokenSet(tokens.entries * MAX_TOKENS)
    with pytest.raises(StateError, match="at most"):
        full.added("two", None)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "other/1"},
        {"tokens": [{"name": "a", "sha256": "00", "expires": None}]},
        {"tokens": [{"name": "a", "sha256": "0" * 64, "expires": "today"}]},
        {"tokens": [{"name": "a b", "sha256": "0" * 64, "expires": None}]},
        {"tokens": [{"name": "a", "sha256": "0" * 64, "expires": None}] * 2},
        {"tokens": [{"name": "a", "sha256": "0" * 64}]},
        {"more": 1},
    ],
)
def test_a_file_with_an_error_is_refused_whole(change: dict[str, object]) -> None:
    tokens, _ = TokenSet().added("one", None)
    with pytest.raises(JsonError):
        parse_tokens(json.dumps({**tokens.to_json(), **change}).encode())


def test_the_commands_make_list_and_revoke(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    added = run_command(tmp_path, "gateway", "token", "add", "hospital", "--days", "30")
    assert added.returncode == 0, added.stderr
    token = added.stdout.strip()
    tokens = read_tokens(tmp_path / "state" / "gateway" / "tokens.json")
    assert tokens.find(token, datetime.now(UTC)) is not None
    listed = run_command(tmp_path, "gateway", "token", "list")
    assert "hospital" in listed.stdout
    assert token not in listed.stdout
    assert run_command(tmp_path, "gateway", "token", "revoke", "hospital").returncode == 0
    assert run_command(tmp_path, "gateway", "token", "revoke", "hospital").returncode == 6
    assert "hospital" not in run_command(tmp_path, "gateway", "token", "list").stdout


def test_tokens_in_a_folder_that_others_may_change_let_nobody_in(tmp_path: Path) -> None:
    """A stranger who prepared the state folder would choose who connects."""
    tmp_path.chmod(0o700)
    state = tmp_path / "state"
    (state / "gateway").mkdir(parents=True, mode=0o700)
    write_tokens(state / "gateway" / "tokens.json", TokenSet().added("stranger", None)[0])
    state.chmod(0o777)
    serve = ("gateway", "--to", "r@unix:/x", "--listen", "127.0.0.1:0", "--wait", "0")
    for words in (("gateway", "token", "list"), serve):
        ran = run_command(tmp_path, *words)
        assert ran.returncode == 3, ran.stderr
        assert str(state) in ran.stderr


def unread() -> BinaryIO:
    """A pipe whose reader has closed it."""
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "wb")


@pytest.mark.parametrize(
    ("form", "sink", "code"),
    [
        ("text", partial(Path("/dev/full").open, "wb"), 3),
        ("json", partial(Path("/dev/full").open, "wb"), 3),
        ("text", unread, 141),
        ("json", unread, 141),
    ],
)
def test_a_token_that_could_not_be_printed_is_taken_back(
    tmp_path: Path, form: str, sink: Callable[[], BinaryIO], code: int
) -> None:
    with sink() as full:
        done = subprocess.run(
            [COMMAND, "gateway", "token", "add", "hospital", "--output", form],
            env=environment(tmp_path, {}),
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            timeout=60,
        )
    assert done.returncode == code, done.stderr
    assert b"token hospital: could not be written, so it was revoked" in done.stderr
    assert run_command(tmp_path, "gateway", "token", "add", "hospital").returncode == 0
